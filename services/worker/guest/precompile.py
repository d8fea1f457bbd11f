"""Compiles a package once, when it is unpacked: `python -I -S precompile.py FOLDER ROOT`.

A process of its own, with the interpreter that will run the package: the source is a stranger's, and what it does to a
compiler must not happen to the worker. ROOT is where functions see the folder. Sandboxes cannot write there, so without
this every cold start compiles anew. What the package brings is left as it is.
"""

from __future__ import annotations

import contextlib
import importlib._bootstrap_external as machinery
import os
import resource
import sys
from typing import Any, List, Tuple

SECONDS = 10  # of processor time for one package
MEMORY = 1 << 30
LARGEST = 4 * 1024 * 1024  # bytes of one source

_NO_HASH = bytes(8)  # never looked at

make: Any = machinery  # what follows is not public, and the same since Python 3.7


def sources(folder: str) -> List[Tuple[int, str]]:
    """Every source below the folder, those near the top first: they are imported most."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        depth = place.count(os.sep)
        found += [(depth, os.path.join(place, name)) for name in files if name.endswith(".py")]
    return sorted(found)


def compile_one(folder: str, path: str, root: str) -> None:
    """Write a source's code beside it, as code that is taken without a look at the source."""
    place, name = os.path.split(path)
    cache = os.path.join(place, "__pycache__")
    target = os.path.join(cache, "%s.%s.pyc" % (name[:-3], sys.implementation.cache_tag))
    if os.path.islink(path) or os.path.islink(cache) or os.path.lexists(target) or os.path.getsize(path) > LARGEST:
        return
    with open(path, "rb") as file:
        source = file.read()
    code = compile(source, root + path[len(folder) :], "exec", dont_inherit=True)
    data = make._code_to_hash_pyc(code, _NO_HASH, False)
    os.makedirs(cache, 0o755, exist_ok=True)
    partial = "%s.%d" % (target, os.getpid())
    with open(partial, "wb") as file:
        file.write(data)
    os.replace(partial, target)


def main(folder: str, root: str) -> None:
    os.umask(0o022)
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for _, path in sources(folder):
        with contextlib.suppress(Exception):  # what does not compile says so when it is imported
            compile_one(folder, path, root)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main(sys.argv[1], sys.argv[2])
