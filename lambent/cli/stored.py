"""Where `lambent backup` and `lambent restore` find what is kept: the settings' server, else the data folder's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from lambent.cli.connection import fail, settings
from lambent.domain.errors import AwsError
from lambent.infra.backup_file import BackupError
from lambent.infra.code_store import CodeStore
from lambent.infra.layout import Layout, layout
from lambent.infra.redis_backup import Kept, kept_in
from lambent.infra.secrets import SecretsError
from lambent.infra.stores import code_store
from lambent.local.children import ChildFailed
from lambent.local.folder import FolderTaken, take
from lambent.local.redis_server import start_server

_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Stored:
    """All that a cluster keeps."""

    keys: Kept  # of the store
    code: CodeStore
    layout: Layout


def with_store(data: str | None, work: Callable[[Stored], None], *, running: bool) -> None:
    """Work on what is kept; what goes wrong is one line. `running`: also while a cluster uses the data folder."""
    try:
        asyncio.run(_with_store(data, work, running))
    except (BackupError, SecretsError, ChildFailed) as error:
        fail(str(error))
    except AwsError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{error.filename or 'the store'}: {error.strerror or error}")


async def _with_store(data: str | None, work: Callable[[Stored], None], running: bool) -> None:
    here = settings(data=data).settings
    where = layout(here.cluster.data)
    async with _server(here.cluster.redis_url, where, running) as url:
        mine = replace(here, cluster=replace(here.cluster, redis_url=url))
        with kept_in(url) as keys:
            work(Stored(keys, code_store(mine, where), where))


@asynccontextmanager
async def _server(url: str, where: Layout, running: bool) -> AsyncIterator[str]:
    """The URL of the server; the embedded one is started where it does not run."""
    if url:
        yield url
        return
    if running and not where.redis.is_dir():
        fail(f"nothing is kept in {where.data}", "name the data folder of a cluster with --data")
    socket = where.run / "redis.sock"
    try:
        lock = take(where)
    except FolderTaken as error:
        if not running:
            fail(f"data folder {where.data} is in use by a running cluster (process {error.owner})", "stop it first")
        yield f"unix://{socket}"
        return
    with lock:
        socket.unlink(missing_ok=True)
        server = await start_server(where.redis, socket)
        try:
            yield f"unix://{socket}"
        finally:
            await server.stop(_STOP_SECONDS)
