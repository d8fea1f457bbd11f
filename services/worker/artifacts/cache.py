"""Every package unpacked once on this worker, however many environments ask for it at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lambent.domain.limits import Limits
from lambent.infra.code_store import CodeStore
from lambent.infra.packages import PackageError, unpack
from lambent.infra.tasks import TaskOwner

_PRECOMPILE = Path(__file__).resolve().parent.parent / "guest" / "precompile.py"
_PRECOMPILE_SECONDS = 15.0
_TASK_ROOT = "/var/task"  # where functions see their package

_DIGEST = re.compile(r"[0-9a-f]{64}")


class PackageUnavailable(Exception):
    """The code store does not have the package, or it is refused."""


class ArtifactCache:
    """Unpacked packages, one folder a digest."""

    def __init__(self, store: CodeStore, folder: Path, limits: Limits, interpreters: Iterable[Path] = ()) -> None:
        """`interpreters`: a package's sources are compiled with each, beside them."""
        self.folder = folder
        self._interpreters = sorted(set(interpreters))
        self._store = store
        self._limits = limits
        self._known: dict[str, Path] = {}
        self._coming: dict[str, asyncio.Task[Path]] = {}
        self._tasks = TaskOwner("artifacts")
        # Two: an unpacking holds a core, and the loop needs one.
        self._threads = ThreadPoolExecutor(2, "artifacts")

    def known(self, digest: str) -> Path | None:
        """The folder, if the package has been unpacked."""
        return self._known.get(digest)

    async def path(self, digest: str) -> Path:
        """The folder of a package, unpacked now if need be. Raises PackageUnavailable."""
        found = self._known.get(digest)
        if found is not None:
            return found
        if not _DIGEST.fullmatch(digest):
            raise PackageUnavailable(f"no digest: {digest!r}")
        coming = self._coming.get(digest)
        if coming is None:
            coming = self._coming[digest] = self._tasks.start(digest[:12], self._fetch(digest))
        # Whoever gives up waiting does not take the package from the others.
        return await asyncio.shield(coming)

    async def _fetch(self, digest: str) -> Path:
        try:
            path = await asyncio.get_running_loop().run_in_executor(self._threads, self._make, digest)
            self._known[digest] = path
            return path
        finally:
            self._coming.pop(digest, None)

    def _make(self, digest: str) -> Path:
        target = self.folder / digest
        if target.is_dir():
            return target
        try:
            unpack(self._store.get(digest), target, self._limits)
        except KeyError:
            raise PackageUnavailable(f"the code store has no package {digest}") from None
        except PackageError as error:
            raise PackageUnavailable(f"package {digest}: {error}") from error
        except OSError as error:
            raise PackageUnavailable(f"package {digest} cannot be unpacked: {error}") from error
        for interpreter in self._interpreters:
            self._precompile(interpreter, target)
        return target

    def _precompile(self, interpreter: Path, folder: Path) -> None:
        # Slower cold starts are all that is lost where this fails.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [str(interpreter), "-I", "-S", str(_PRECOMPILE), str(folder), _TASK_ROOT],
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PRECOMPILE_SECONDS,
                check=False,
            )

    async def close(self) -> None:
        """Give up what is under way."""
        await self._tasks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
