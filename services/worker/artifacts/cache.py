"""Every package and layer unpacked once on this worker, however many environments ask for it at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.domain.errors import AwsError
from lambent.domain.images import Built
from lambent.domain.limits import Limits
from lambent.infra.code_store import PackageSource
from lambent.infra.packages import PackageError, unpack
from services.worker.artifacts import layer_sets
from services.worker.artifacts.making import Making, PackageUnavailable

_PRECOMPILE = Path(__file__).resolve().parent.parent / "guest" / "precompile.py"
_PRECOMPILE_SECONDS = 15.0
_TASK_ROOT, _LAYER_ROOT = "/var/task", "/opt"  # where functions see their package and their layers

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The folders of one deployment."""

    code: Path
    opt: Path | None  # of its layers together; None: it has none
    built: Built | None = None  # what the image says of itself that `code` is the root of; None: it is a package


class ArtifactCache:
    """Folders of packages (DIGEST), of single layers (layer-DIGEST), of several (layers-DIGEST of the digests)."""

    def __init__(self, store: PackageSource, folder: Path, limits: Limits, interpreters: Iterable[Path] = ()) -> None:
        """`interpreters`: sources are compiled with each, beside them."""
        self.folder = folder
        self._interpreters = sorted(set(interpreters))
        self._store = store
        self._limits = limits
        self._made: Making[Path] = Making("artifacts")

    def known(self, code: str, layers: Sequence[str] = ()) -> Unpacked | None:
        """The folders, if package and layers, named by their digests, have been unpacked."""
        known = self._made.known
        package = known.get(code)
        opt = known.get(_together(layers)) if layers else None
        return None if package is None or (layers and opt is None) else Unpacked(package, opt)

    async def unpacked(self, code: str, layers: Sequence[str] = ()) -> Unpacked:
        """The folders of a package and of layers in their order, made now if need be. Raises PackageUnavailable."""
        package = self._made.obtain(code, lambda: self._unpack(code, code, _TASK_ROOT))
        if not layers:
            return Unpacked(await package, None)
        path, *single = await asyncio.gather(package, *(self._layer(digest) for digest in layers))
        name = _together(layers)
        return Unpacked(path, await self._made.obtain(name, lambda: self._join(single, name)))

    async def _layer(self, digest: str) -> Path:
        name = _together([digest])
        return await self._made.obtain(name, lambda: self._unpack(digest, name, _LAYER_ROOT))

    def _unpack(self, digest: str, name: str, root: str) -> Path:
        """Unpack what has this digest as a folder of this name; functions see it at `root`."""
        if not _DIGEST.fullmatch(digest):
            raise PackageUnavailable(f"no digest: {digest!r}")
        target = self.folder / name
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
        except AwsError as error:
            raise PackageUnavailable(f"package {digest} cannot be had: {error.message}") from error
        for interpreter in self._interpreters:
            self._precompile(interpreter, target, root)
        return target

    def _join(self, layers: Sequence[Path], name: str) -> Path:
        """Lay layers over each other as a folder of this name."""
        target = self.folder / name
        if not target.is_dir():
            try:
                layer_sets.make(layers, target)
            except OSError as error:
                raise PackageUnavailable(f"layers cannot be laid over each other: {error}") from error
        return target

    def _precompile(self, interpreter: Path, folder: Path, root: str) -> None:
        # Slower cold starts are all that is lost where this fails.
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [str(interpreter), "-I", "-S", str(_PRECOMPILE), str(folder), root],
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PRECOMPILE_SECONDS,
                check=False,
            )

    async def close(self) -> None:
        """Give up what is under way."""
        await self._made.close()


def _together(layers: Sequence[str]) -> str:
    """The name of the folder of these layers in this order. One alone needs no other folder than its own."""
    if len(layers) == 1:
        return f"layer-{layers[0]}"
    return f"layers-{hashlib.sha256(' '.join(layers).encode()).hexdigest()}"
