"""`python -m lambent.entry SERVICE`: the one program that every service process runs.

`services/` stands at the top of a checkout and travels inside the wheel below `lambent/_bundle`, so that the wheel adds
one import name. This puts whichever is there on the path of this process, and of no other
(docs/decisions/0002-one-import-name.md).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from lambent.infra import config, lifecycle, logs

# Service → module with `make(settings) -> lifecycle.Service`.
SERVICES: Mapping[str, str] = {
    "frontend": "services.frontend.wiring",
    "poller": "services.poller.wiring",
    "scheduler": "services.scheduler.wiring",
    "worker": "services.worker.service",
}


# How many objects more than before make the collector look for cycles.
_NEW_OBJECTS = 20_000


def services_root() -> Path:
    """The folder that holds `services/`."""
    package = Path(__file__).resolve().parent
    bundle = package / "_bundle"
    return bundle if bundle.is_dir() else package.parent


def load(module: str) -> ModuleType:
    """A module below `services`, by name: nothing in `lambent` imports one."""
    root = str(services_root())
    if root not in sys.path:
        sys.path.append(root)
    return importlib.import_module(module)


def main(arguments: list[str] | None = None) -> int:
    """Parse, configure, run."""
    parser = argparse.ArgumentParser(prog="python -m lambent.entry", description="Run one Lambent service.")
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument("--config", type=Path, help="TOML file with settings")
    parser.add_argument("--ready-fd", type=int, help="descriptor on which to say that the service is ready")
    given = parser.parse_args(arguments)
    try:
        loaded = config.load(given.config, dict(os.environ), {})
    except config.ConfigError as error:
        sys.stderr.write(f"lambent: {error}\n")
        return 2
    telemetry = loaded.settings.telemetry
    logs.configure(given.service, level=telemetry.log_level, form=telemetry.log_format)
    make = load(SERVICES[given.service]).make
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # Nearly all that a call makes is gone by its reference counts. With Python's 700 new objects between two looks, the
    # collector walks over the calls under way again and again: a fourteenth of a gRPC call's time.
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    try:
        service = make(loaded.settings)
    except lifecycle.StartError as error:
        lifecycle.tell_failed(given.ready_fd, error)
        return 1
    return _run(service, given.ready_fd)


def _run(service: lifecycle.Service, ready: int | None) -> int:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(lifecycle.serve(service, ready))


if __name__ == "__main__":
    sys.exit(main())
