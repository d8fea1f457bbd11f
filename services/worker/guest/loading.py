"""Loads the modules beside this one under names of their own.

A function's own module called `wire` or `runtime` is not to be shadowed, nor to shadow ours.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


def load(file: str, name: str = "") -> Any:
    """The module in `file`, a path without its suffix. `name`: that it gets; else it is made of the file's."""
    name = name or "_lambent_" + file
    spec = importlib.util.spec_from_file_location(name, os.path.join(_HERE, file + ".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
