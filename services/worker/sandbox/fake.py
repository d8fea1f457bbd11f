"""A sandbox for tests: the package's module is executed in this process, on the loop. Answers as the real ones do.

What it cannot do is run beside the test: a handler that never returns would stop the loop. The names `print` and `TMP`
in the module are the sandbox's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.worker.guest import wire
from services.worker.sandbox.port import Exit, Sandbox, SandboxSpec, SandboxUnavailable


class FakeSandbox:
    """One sandbox."""

    def __init__(self, pool: FakePool, spec: SandboxSpec, tmp: Path) -> None:
        self._pool = pool
        self._spec = spec
        self._tmp = tmp
        self._loop = asyncio.get_running_loop()
        self.channel, self._guest = socket.socketpair()
        self._guest.setblocking(False)
        self.output, self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._buffer = bytearray()
        self._handler: Callable[[Any, Any], Any] | None = None
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._destroyed = False
        self._loop.add_reader(self._guest.fileno(), self._readable)

    runtime_root = "/var/runtime"
    bootstraps = ""
    launcher = False
    user = None
    own_network = False

    @property
    def task_root(self) -> str:
        return str(self._spec.code)

    @property
    def opt_root(self) -> str:
        return "/opt" if self._spec.opt is None else str(self._spec.opt)

    @property
    def ended(self) -> bool:
        return self._exit.done()

    def peak_memory_kb(self) -> int:
        return 1024

    def out_of_memory(self) -> bool:
        return False

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = self._guest.recv(1 << 20)
            if not data:
                self._end(Exit(0, None, False))
            self._buffer += data
        size = wire.HEAD.size
        while len(self._buffer) >= size:
            kind, meta, payload = wire.HEAD.unpack_from(self._buffer)
            if len(self._buffer) < size + meta + payload or self._exit.done():
                return
            head, body = (
                bytes(self._buffer[size : size + meta]),
                bytes(self._buffer[size + meta : size + meta + payload]),
            )
            del self._buffer[: size + meta + payload]
            try:
                self._frame(kind, head, body)
            except SystemExit as request:
                self._end(Exit(request.code if isinstance(request.code, int) else 0, None, False))

    def _frame(self, kind: int, meta: bytes, payload: bytes) -> None:
        usage = wire.USAGE.pack(1024)
        if kind == wire.INIT:
            module, _, name = json.loads(meta)["handler"].rpartition(".")
            names: dict[str, Any] = {"print": self._print, "TMP": str(self._tmp)}
            try:
                source = (self._spec.code / f"{module}.py").read_text(encoding="utf-8")
                exec(compile(source, module, "exec"), names)
                self._handler = names[name]
            except Exception as error:
                self._failed(wire.INIT_ERROR, error, "")
                self._end(Exit(1, None, False))
            else:
                self._guest.send(wire.pack(wire.READY, usage))
        elif kind == wire.INVOKE:
            request_id = json.loads(meta)[0]
            try:
                assert self._handler is not None
                answer = json.dumps(self._handler(json.loads(payload or b"{}"), None)).encode()
            except Exception as error:
                self._failed(wire.ERROR, error, request_id)
            else:
                self._guest.send(wire.pack(wire.RESPONSE, usage, answer))

    def _failed(self, kind: int, error: Exception, request_id: str) -> None:
        name = type(error).__name__
        document = {"errorMessage": str(error), "errorType": name, "requestId": request_id, "stackTrace": []}
        self._guest.send(wire.pack(kind, wire.USAGE.pack(1024) + name.encode(), json.dumps(document).encode()))

    def _print(self, *values: object) -> None:
        os.write(self._pipe, (" ".join(map(str, values)) + "\n").encode())

    def _end(self, how: Exit) -> None:
        if self._exit.done():
            return
        self._exit.set_result(how)
        self._loop.remove_reader(self._guest.fileno())
        self._guest.close()
        os.close(self._pipe)

    def wanted(self) -> None:
        """There is nothing to yield to."""

    def initialised(self) -> None:
        """There is no share."""

    def freeze(self) -> None:
        if not self._exit.done():
            self._loop.remove_reader(self._guest.fileno())

    def thaw(self) -> None:
        if not self._exit.done():
            self._loop.add_reader(self._guest.fileno(), self._readable)

    def kill(self) -> None:
        self._end(Exit(None, 9, False))

    def reset(self) -> FakeSandbox:
        self.kill()
        if not self._destroyed:
            self._destroyed = True
            os.close(self.output)
        return self._pool.make(self._spec, self._tmp)

    def destroy(self, reason: str) -> None:
        self.kill()
        if not self._destroyed:
            self._destroyed = True
            os.close(self.output)
            shutil.rmtree(self._tmp, ignore_errors=True)

    async def exited(self) -> Exit:
        return await asyncio.shield(self._exit)


class FakePool:
    """A SandboxPool of fakes."""

    level = "fake"
    reason = "asked for"

    def __init__(self, runtimes: frozenset[str] = frozenset({"python3.11"})) -> None:
        self._runtimes = runtimes
        self._made: list[FakeSandbox] = []

    async def start(self) -> None:
        """Nothing to bring up."""

    def take(self, spec: SandboxSpec) -> FakeSandbox:
        if spec.runtime not in self._runtimes:
            raise SandboxUnavailable(f"no interpreter for {spec.runtime} on this worker")
        return self.make(spec, Path(tempfile.mkdtemp(prefix="lambent-fake-")))

    restores = False

    def restore(self, spec: SandboxSpec, snapshot: Sandbox) -> FakeSandbox:
        raise SandboxUnavailable("a fake cannot be copied")

    def make(self, spec: SandboxSpec, tmp: Path) -> FakeSandbox:
        """A sandbox over a folder for temporary files."""
        made = FakeSandbox(self, spec, tmp)
        self._made.append(made)
        return made

    async def close(self) -> None:
        for sandbox in self._made:
            sandbox.destroy("WorkerClosed")
