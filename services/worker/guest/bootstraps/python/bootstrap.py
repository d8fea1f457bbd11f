"""Our Python runtime as a program of its own: `python bootstrap.py OPT RUNTIME LIMIT`.

For functions that no fork of a running interpreter can be: those that bring shared libraries, whose places are decided
when a program starts, and those with a wrapper (AWS_LAMBDA_EXEC_WRAPPER). OPT and RUNTIME are the folders of layers and
SDKs, LIMIT the most bytes of a response; all else is in the environment, where a wrapper may have changed it.
"""

from __future__ import annotations

import importlib
import os
import sys

_GUEST = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main() -> int:
    sys.path.insert(0, _GUEST)
    load = importlib.import_module("loading").load
    sys.path.pop(0)
    del sys.modules["loading"]
    load("bootstraps/python/snapshot_restore_py", "snapshot_restore_py")
    for file in ("wire", "documents", "guestlogs"):
        load(file)
    runtime, client = load("runtime"), load("client")
    runtime.open_streams()
    opt, sdks, limit = sys.argv[1:]
    environ = dict(os.environ)
    del sys.argv[1:]
    code: int = client.serve(
        {
            "environ": environ,
            "handler": environ["_HANDLER"],
            "task_root": environ["LAMBDA_TASK_ROOT"],
            "opt_root": opt,
            "runtime_root": sdks,
            "response_limit": int(limit),
        }
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
