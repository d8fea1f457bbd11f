"""How an environment talks to what runs in its sandbox, whichever way that speaks; and which way a runtime does.

Two implementations: `NativeGuest`, frames to the Python runtime of our own, and `runtime_api.guest.ApiGuest`, a
launcher and the Runtime API for everything else. Both call back the environment, their `Owner`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lambent.domain.clock import Clock, Ids
from lambent.domain.images import RUNTIME, Built, ImageSettings, started_as
from lambent.domain.limits import Limits
from lambent.domain.runtimes import family
from lambent.infra.frames import Invoke
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1.deployment_pb2 import Deployment
from services.worker.channel import GuestChannel
from services.worker.environment_log import Tap
from services.worker.guest import wire
from services.worker.runtime_api.core import Identity
from services.worker.runtime_api.guest import ApiGuest, Owner
from services.worker.sandbox.port import Sandbox, SandboxSpec

_encode = msgspec.json.Encoder().encode
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"
# Of the variables a function has, those that extensions do not see.
# Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
HIDDEN_FROM_EXTENSIONS = (
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
)


class Guest(Protocol):
    """What runs in one sandbox."""

    @property
    def settled(self) -> bool:
        """Whether an event that is sent now begins to run now: nothing goes on after the last answer."""
        ...

    @property
    def tap(self) -> Tap | None:
        """Whom the log tells of its events; None: nobody wants to know."""
        ...

    def begin(self, task: Mapping[str, Any]) -> None:
        """Start the init phase."""
        ...

    def invoke(self, request: Invoke, deadline_ms: int, payload: bytes) -> None:
        """Hand over an event; `deadline_ms`: epoch milliseconds."""
        ...

    def credit(self, size: int) -> None:
        """So many bytes of a response that streams have been taken."""
        ...

    def rest(self) -> None:
        """Nothing is to come for a while: memory that can be had again may be given back."""
        ...

    def drain(self) -> None:
        """Take what was printed until now."""
        ...

    def end(self, reason: str, done: Callable[[], None]) -> float:
        """Tell what runs that it ends (SPINDOWN, TIMEOUT or FAILURE); answers how many seconds it may take, and calls
        `done` if it takes less. 0: nothing wants to be told."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class NativeGuest(GuestChannel):
    """The Python runtime of our own, which is the sandbox's only process."""

    __slots__ = ()
    settled = True
    tap = None

    def begin(self, task: Mapping[str, Any]) -> None:
        self.send(wire.pack(wire.INIT, _encode(task)))

    def invoke(self, request: Invoke, deadline_ms: int, payload: bytes) -> None:
        meta = _encode((request.request_id, deadline_ms, request.arn, request.trace, request.client_context))
        self.send(wire.HEAD.pack(wire.INVOKE, len(meta), len(payload)) + meta + payload)

    def credit(self, size: int) -> None:
        """It answers in one piece."""

    def rest(self) -> None:
        self.send(wire.pack(wire.REST, b""))

    def end(self, reason: str, done: Callable[[], None]) -> float:
        return 0.0


class RestoredGuest(NativeGuest):
    """The same, as a copy of a snapshot: what the function is, it knows already."""

    __slots__ = ()

    def begin(self, task: Mapping[str, Any]) -> None:
        self.send(wire.pack(wire.RESTORE, _encode({"environ": task["environ"]})))


def is_native(runtime: str) -> bool:
    """Whether a runtime is our own: served by frames, unless extensions need the Runtime API."""
    return family(runtime) == "python"


def needs_launcher(deployment: Deployment, code: Path, opt: Path | None) -> bool:
    """Whether programs have to be started in the sandbox. `code`, `opt`: the function's package and layers as they are
    unpacked here."""
    return needs_program(deployment, code, opt) or (opt is not None and (opt / "extensions").is_dir())


def needs_program(deployment: Deployment, code: Path, opt: Path | None) -> bool:
    """Whether the function's runtime has to be started as a program.

    Our own is, as a rule, a fork of one that runs. Where shared libraries are looked for is decided when a program
    starts, and a wrapper wants to start it.
    """
    if not is_native(deployment.runtime):
        return True
    variables = deployment.variables
    return _WRAPPER in variables or "LD_LIBRARY_PATH" in variables or _brings_libraries(code, opt)


@lru_cache(maxsize=1024)
def _brings_libraries(code: Path, opt: Path | None) -> bool:
    """Whether package or layers, which never change where they are unpacked, have shared libraries where
    LD_LIBRARY_PATH says."""
    folders = [code / "lib"] if opt is None else [code / "lib", opt / "lib"]
    found = [name for folder in folders for name in _names(folder) if ".so" in name]
    return bool(found) or any(name.startswith("lib") and ".so" in name for name in _names(code))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that are runtimes, beside those that a function or a layer brings."""

    interpreters: Mapping[str, Path]  # runtime name → interpreter
    aside: bool = False  # whether sandboxes have a file system of their own, which images and what is mounted need
    file_systems: Mapping[str, Path] = field(default_factory=dict)  # ARN of an access point → its folder here

    def have(self, runtime: str) -> bool:
        """Whether functions of this runtime can run here."""
        if runtime == RUNTIME:
            return self.aside
        return is_native(runtime) or family(runtime) == "provided" or runtime in self.interpreters

    def missing(self, deployment: Deployment) -> str:
        """What this worker lacks that a deployment needs, as one line; empty: nothing."""
        runtime, arn = deployment.runtime, deployment.file_system_arn
        if not self.have(runtime):
            if runtime == RUNTIME:
                return "The worker cannot make the file system that a container image needs; see worker.isolation"
            return f"The worker has no interpreter for the runtime {runtime}; see worker.interpreters"
        if arn and arn not in self.file_systems:
            return f"The worker has no folder for {arn}; see file_systems"
        if arn and not self.aside:
            return "The worker cannot mount file systems; see worker.isolation"
        return ""

    def mounted(self, deployment: Deployment) -> tuple[Path, str] | None:
        """The folder of a deployment's file system, and where it is inside; None: it has none."""
        arn = deployment.file_system_arn
        return (self.file_systems[arn], deployment.file_system_path) if arn in self.file_systems else None

    def commands(self, deployment: Deployment, sandbox: Sandbox, limits: Limits) -> list[list[str]]:
        """Commands of which the first whose program exists is the function's runtime, one that they have."""
        kind = family(deployment.runtime)
        if kind == "provided":
            return [[f"{sandbox.task_root}/bootstrap"], [f"{sandbox.opt_root}/bootstrap"]]
        interpreter = self.interpreters[deployment.runtime]
        if is_native(deployment.runtime):
            # As the zygote has it: a virtual environment is not within sight.
            command = [
                str(interpreter.resolve()), f"{sandbox.bootstraps}/python/bootstrap.py", sandbox.opt_root,
                sandbox.runtime_root, str(limits.sync_response_bytes),
            ]  # fmt: skip
        else:
            command = [str(interpreter), f"{sandbox.bootstraps}/{kind}/bootstrap.mjs"]
        wrapper = deployment.variables.get(_WRAPPER)
        return [[wrapper, *command] if wrapper else command]


def _image_task(deployment: Deployment, built: Built) -> Mapping[str, Any]:
    """What a launcher starts of an image that says this of itself."""
    said = ImageSettings(tuple(deployment.entry_point), tuple(deployment.command), deployment.working_directory)
    start = started_as(built, said)
    return {"entry_point": start.entry_point, "command": start.command, "directory": start.working_directory}


class Shared(Protocol):
    """What guests of a worker share."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    limits: Limits
    ids: Ids
    tasks: TaskOwner
    programs: Programs


def guest_for(
    shared: Shared, owner: Owner, sandbox: Sandbox, spec: SandboxSpec, deployment: Deployment,
    environ: Mapping[str, str], *, restored: bool,
) -> tuple[Guest, Mapping[str, Any]]:  # fmt: skip
    """The guest of a fresh sandbox and the task that it begins with. `restored`: a snapshot's copy is in it."""
    limit = shared.limits.sync_response_bytes
    native = is_native(deployment.runtime)
    task: dict[str, Any] = {
        "handler": deployment.handler,
        "task_root": sandbox.task_root,
        "opt_root": sandbox.opt_root,
        "runtime_root": sandbox.runtime_root,
        "response_limit": limit,
        "tenant_id": deployment.tenant_id or None,
    }
    if native and not sandbox.launcher:
        # A little room: the guest may escape what it says about an error, and bounds it itself.
        room = limit + 65536
        frames = (owner.guest_frame, owner.guest_printed, owner.guest_ended)
        kind = RestoredGuest if restored else NativeGuest
        return kind(shared.loop, sandbox.channel, sandbox.output, room, *frames), {**task, "environ": environ}
    identity = Identity(
        deployment.function_name, deployment.version, deployment.handler, deployment.account, deployment.tenant_id
    )
    program, built = spec.program, spec.image
    guest = ApiGuest(shared.loop, shared.tasks, sandbox, identity, shared.limits, owner, shared.clock, shared.ids)
    return guest, {
        "environ": environ,
        "own_network": sandbox.own_network,
        "extensions": f"{sandbox.opt_root}/extensions",
        "hidden_from_extensions": HIDDEN_FROM_EXTENSIONS,
        "commands": shared.programs.commands(deployment, sandbox, shared.limits) if program and built is None else [],
        "image": None if built is None else _image_task(deployment, built),
        "python": None if program else task,
    }
