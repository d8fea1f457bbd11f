"""From a folder to a zip file. The same folder always gives the same bytes, so that hashes can be compared."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

import msgspec

# Never part of a package.
LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "function.toml"})
_EPOCH = (1980, 1, 1, 0, 0, 0)

Step = Callable[[str], None]


class PackagingError(Exception):
    """A folder that makes no package; the text is one line."""


class FunctionFile(msgspec.Struct, forbid_unknown_fields=True):
    """`function.toml` in a function's folder: what `lambent deploy` takes where no flag says otherwise."""

    name: str | None = None
    runtime: str | None = None
    handler: str | None = None
    memory: int | None = None
    timeout: int | None = None
    description: str | None = None
    environment: dict[str, str] | None = None


def read_function_file(folder: Path) -> FunctionFile:
    """The folder's function.toml; all empty where there is none."""
    path = folder / "function.toml"
    if not path.exists():
        return FunctionFile()
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), FunctionFile)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise PackagingError(f"{path}: {error}") from None


def package(folder: Path, step: Step, chosen: Callable[[str], bool] = lambda _: True) -> bytes:
    """A zip of the folder, with what its requirements.txt names installed beside the code. `chosen`: whether a file of
    the folder is in, by its name."""
    if not folder.is_dir():
        raise PackagingError(f"{folder} is not a folder")
    with _with_requirements(folder, step) as roots:
        files = {name: path for root in roots for name, path in _files(root) if root != folder or chosen(name)}
        if not files:
            raise PackagingError(f"{folder} holds no files")
        step(f"packing {len(files)} files")
        programs = {name for name, path in files.items() if path.stat().st_mode & 0o111}
        return zipped({name: path.read_bytes() for name, path in files.items()}, programs)


def zipped(files: Mapping[str, bytes], programs: AbstractSet[str] = frozenset()) -> bytes:
    """A zip of these files. `programs`: those that can be run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if name in programs else 0o644) << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


@contextmanager
def _with_requirements(folder: Path, step: Step) -> Iterator[list[Path]]:
    """The folders that make the package; later ones win."""
    requirements = folder / "requirements.txt"
    if not requirements.exists() or not requirements.read_bytes().strip():
        yield [folder]
        return
    target = Path(tempfile.mkdtemp(prefix="lambent-deploy-"))
    try:
        step("installing requirements.txt")
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            "--target", str(target), "-r", str(requirements),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise PackagingError(f"requirements.txt could not be installed: {last}")
        yield [target, folder]
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not LEFT_OUT.intersection(relative.parts) and path.suffix != ".pyc":
            name = relative.as_posix()
            if not name.isprintable():  # nor is a name that is no UTF-8
                raise PackagingError(f"a file cannot be packed by its name, {name!r}; rename it")
            yield name, path
