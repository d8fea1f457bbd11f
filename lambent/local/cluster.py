"""Supervises one cluster on this machine: starts the processes in order, restarts what dies, stops in reverse order.

A cluster owns its data folder: a second start on the same folder is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from lambent.infra.config import Loaded
from lambent.infra.layout import Layout, layout
from lambent.infra.redaction import without_password
from lambent.infra.redis_client import StoreUnreachable, connect, reach
from lambent.infra.settings import Settings
from lambent.infra.tasks import TaskOwner
from lambent.local.children import Child, ChildFailed, start_service
from lambent.local.folder import FolderTaken, take
from lambent.local.redis_server import start_server

_log = logging.getLogger(__name__)

# In the order of starting; stopped in reverse, so that the frontend drains while everything it needs is there.
SERVICES = ("scheduler", "worker", "poller", "frontend")
RESTART_SECONDS = (0.1, 0.5, 2.0, 5.0)


class ClusterError(Exception):
    """The cluster cannot start; the text is one line with a hint."""


class LocalCluster:
    """All processes of one cluster."""

    def __init__(self, loaded: Loaded, *, own_logs: bool, say: Callable[[str], None]) -> None:
        """`own_logs`: processes log to files in the run folder, not to standard error. `say`: progress, a line each."""
        self._loaded = loaded
        self._own_logs = own_logs
        self._say = say
        self._layout = layout(loaded.settings.cluster.data)
        self._lock: IO[str] | None = None
        self._children: dict[str, Child] = {}
        self._tasks = TaskOwner("cluster")
        self._stopping = False
        self._config = self._layout.run / "settings.toml"
        self.fresh = False  # whether the data folder was empty

    @property
    def layout(self) -> Layout:
        """Where things are."""
        return self._layout

    def child(self, name: str) -> Child:
        """A running process."""
        return self._children[name]

    def credentials(self) -> tuple[str, str]:
        """The root credentials: those of the settings, else those made at the first start."""
        given = self._loaded.settings.cluster.root_credentials
        if given:
            key, _, secret = given.partition(":")
            return key, secret
        return self._layout.root_credentials()

    async def start(self) -> None:
        """Bring everything up. Raises ClusterError, with nothing left running."""
        try:
            self._take_folder()
            self._check_ports()
            redis_url = await self._start_redis()
            self._write_config(redis_url)
            for name in self._services():
                await self._start(name)
        except ChildFailed as error:
            await self.stop()
            raise ClusterError(str(error)) from error
        except ClusterError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything, each once what needs it has stopped."""
        self._stopping = True
        patience = self._loaded.settings.timing.drain_seconds + 5.0
        for name in (*reversed(self._services()), "redis"):
            child = self._children.pop(name, None)
            if child is not None:
                await child.stop(patience)
        await self._tasks.close()
        if self._lock is not None:
            self._lock.close()

    def _services(self) -> list[str]:
        """Every process by its name, in the order of starting."""
        standbys = range(2, self._loaded.settings.cluster.schedulers + 1)
        return ["scheduler", *(f"scheduler-{number}" for number in standbys), *SERVICES[1:]]

    def _take_folder(self) -> None:
        self.fresh = not (self._layout.redis / "appendonlydir").exists()
        try:
            self._lock = take(self._layout)
        except OSError as error:
            raise ClusterError(
                f"cannot use data folder {self._layout.data}: {error.strerror}; choose another with --data"
            ) from error
        except FolderTaken as error:
            raise ClusterError(
                f"data folder {self._layout.data} is in use by a running cluster (process {error.owner}); "
                "stop it or choose another --data"
            ) from None

    def _check_ports(self) -> None:
        cluster = self._loaded.settings.cluster
        with ExitStack() as probes:
            for key, address in (("http", cluster.http), ("grpc", cluster.grpc)):
                host, _, port = address.rpartition(":")
                family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
                probe = probes.enter_context(socket.socket(family))
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host.strip("[]"), int(port)))
                    probe.listen()  # one address for both doors is found out, too
                except OSError as error:
                    raise ClusterError(
                        f"cannot listen on {address}: {error.strerror}; choose another with --{key}"
                    ) from error

    async def _start_redis(self) -> str:
        url = self._loaded.settings.cluster.redis_url
        if not url:
            path = self._layout.run / "redis.sock"
            path.unlink(missing_ok=True)
            self._say("starting the store")
            self._watch("redis", await start_server(self._layout.redis, path))
            return f"unix://{path}"
        try:
            client = connect(url)
        except ValueError as error:
            raise ClusterError(f"{without_password(url)} is no URL of Redis: {error}; check --redis-url") from error
        try:
            await reach(client, url, 0.0)
        except StoreUnreachable as error:
            raise ClusterError(str(error)) from error
        finally:
            await client.aclose()
        return url

    def _write_config(self, redis_url: str) -> None:
        settings = self._loaded.settings
        cluster = replace(
            settings.cluster,
            data=str(self._layout.data),
            redis_url=redis_url,
            root_credentials=":".join(self.credentials()),
        )
        settings = replace(settings, cluster=cluster)
        self._write(self._config, settings)
        addresses = settings.internal.scheduler or self._layout.scheduler_addresses(cluster.schedulers)
        for name, address in zip(self._services(), addresses.split(","), strict=False):
            # What differs between the processes of one kind is where they listen.
            internal = replace(settings.internal, scheduler_listen=address)
            self._write(self._config_of(name), replace(settings, internal=internal))

    def _config_of(self, name: str) -> Path:
        return self._config.with_name(f"settings-{name}.toml") if name.startswith("scheduler") else self._config

    def _write(self, path: Path, settings: Settings) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(Loaded(settings, self._loaded.sources).to_toml())

    def _log_file(self, name: str) -> Path | None:
        return self._layout.run / f"{name}.log" if self._own_logs else None

    async def _start(self, name: str) -> None:
        self._say(f"starting {name}")
        service = name.partition("-")[0]
        self._watch(name, await start_service(service, self._config_of(name), self._log_file(name)))

    def _watch(self, name: str, child: Child) -> None:
        self._children[name] = child
        self._tasks.start(f"watch {name}", self._restart_when_ended(name, child))

    async def _restart_when_ended(self, name: str, child: Child) -> None:
        code = await child.ended()
        for delay in (*RESTART_SECONDS, *[RESTART_SECONDS[-1]] * 1000):
            if self._stopping:
                return
            _log.warning("%s ended with %d; starting it again", name, code)
            await asyncio.sleep(delay)
            try:
                if name == "redis":
                    await self._start_redis()
                else:
                    await self._start(name)
                return
            except ChildFailed:
                _log.exception("%s did not come up again", name)
