"""Container images that need no registry of anybody's: this machine's Python with AWS's runtime client, and functions
over it, built as AWS's pages build from images that are not its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from tests.registry import Files, Image, layer

_LEFT_OUT = {
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
}
_PACKAGES = ("awslambdaric", "simplejson", "snapshot_restore_py")
_INTERPRETER = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
CLIENT = [_INTERPRETER, "-m", "awslambdaric"]


@cache
def base_layers() -> tuple[bytes, bytes]:
    """The interpreter with what it needs, and the runtime client at /client."""
    libraries = _below(Path(sysconfig.get_paths()["stdlib"]), "")
    programs = [_INTERPRETER, *(path for path in libraries if ".so" in path)]
    client: dict[str, bytes | None] = {}
    for name in _PACKAGES:
        place = _place(name)
        if place.name == "__init__.py":
            client |= _below(place.parent, f"client/{name}")
        else:
            client[f"client/{place.name}"] = place.read_bytes()
    compiled = _place("runtime_client")
    client[f"client/{compiled.name}"] = compiled.read_bytes()
    programs.append(str(compiled))
    interpreter: dict[str, bytes | None] = {_INTERPRETER: Path(_INTERPRETER).read_bytes(), **libraries}
    for library in _needed(programs):
        interpreter[library] = Path(library).read_bytes()
    return layer(interpreter), layer(client)


def function(source: str, files: Files | None = None, *, architecture: str = "amd64") -> Image:
    """A function's image, its handler app.handler."""
    own = layer({"var/task/app.py": source.encode(), **(files or {})})
    said = {
        "Entrypoint": CLIENT, "Cmd": ["app.handler"], "WorkingDir": "/var/task",
        "Env": ["PYTHONPATH=/client", "GREETING=hello"],
    }  # fmt: skip
    return Image([*base_layers(), own], said, architecture)


def _place(module: str) -> Path:
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


def _below(folder: Path, place: str) -> dict[str, bytes | None]:
    """The files of a folder, where they are or elsewhere."""
    found: dict[str, bytes | None] = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in names:
            file = Path(path) / name
            if file.is_file() and not name.endswith(".a"):
                inside = os.path.join(place, file.relative_to(folder)) if place else str(file)
                found[inside] = file.read_bytes()
    return found


def _needed(programs: list[str]) -> set[str]:
    """The shared libraries of programs, where these look for them."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, timeout=60).stdout
    return set(re.findall(r"(?:=> |\t)(/\S+)", told))
