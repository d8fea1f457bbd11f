"""What every isolation level answers the same way: the contract of services/worker/sandbox/port.py."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.worker.guest import landlock, wire
from services.worker.sandbox.fake import FakePool
from services.worker.sandbox.native import NativeConfig, NativePool
from services.worker.sandbox.port import Exit, Sandbox, SandboxPool, SandboxSpec, SandboxUnavailable

RUNTIME = "python3.11"
PATIENCE = 10.0
APP = """
import os, signal, sys, time
try:
    TMP
except NameError:
    import tempfile
    TMP = tempfile.gettempdir()
def handler(event, context):
    print("called with", event)
    if event == "exit":
        sys.exit(3)
    if event == "child" and os.fork() == 0:
        os.setsid()
        while True:
            signal.pause()
    if event == "bomb":
        while True:
            try:
                if os.fork() == 0:
                    signal.pause()
            except OSError:
                os._exit(1)
            time.sleep(0.001)
    if event == "hog":
        held = bytes(1) * (400 << 20)
        while True:
            pass
    if event == "import":
        import part
        return part.__file__
    if event.startswith("/"):
        with open(event) as file:
            return file.read()
    if event.startswith("touch "):
        try:
            open(event[6:], "w").close()
        except OSError as error:
            return error.strerror
    path = os.path.join(TMP, "kept")
    if event == "write":
        with open(path, "w") as file:
            file.write("here")
    return os.path.exists(path)
"""


def user_namespaces() -> bool:
    return subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True).returncode == 0


LEVELS = ["fake", "process"]
if landlock.version() >= landlock.LEAST:
    LEVELS.append("landlock")
if user_namespaces():
    LEVELS.append("user-namespace")
if os.geteuid() == 0:
    LEVELS.append("namespaces")


def lay_out(folder: Path) -> None:
    folder.chmod(0o755)
    code = folder / "packages" / "a"
    code.mkdir(parents=True)
    (code / "app.py").write_text(APP)


def groups_of(worker: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"*/lambent/{worker}"))


@pytest.fixture(params=LEVELS)
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SandboxPool]:
    lay_out(tmp_path)
    made: SandboxPool
    if request.param == "fake":
        made = FakePool(frozenset({RUNTIME}))
    else:
        interpreters = {RUNTIME: Path(sys.executable)}
        worker = f"contract-{os.getpid()}"
        config = NativeConfig(
            worker, tmp_path / "packages", tmp_path / "run", interpreters, level=request.param, stems=1
        )
        made = NativePool(config)
    await made.start()
    assert made.level == request.param
    assert made.reason
    yield made
    await made.close()
    assert groups_of(f"contract-{os.getpid()}") == []


def spec(tmp_path: Path, slot: int = 0, runtime: str = RUNTIME, opt: Path | None = None) -> SandboxSpec:
    return SandboxSpec(f"e{slot}", slot, runtime, tmp_path / "packages" / "a", 128, 64, 0.5, opt)


class Guest:
    """Talks to a sandbox as the worker does."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.channel = sandbox.channel
        self.channel.setblocking(False)
        self.loop = asyncio.get_running_loop()

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE):
            head = b""
            while len(head) < wire.HEAD.size:
                head += await self._some(wire.HEAD.size - len(head))
            kind, meta, payload = wire.HEAD.unpack(head)
            body = b""
            while len(body) < meta + payload:
                body += await self._some(meta + payload - len(body))
            return kind, body[meta:]

    async def _some(self, size: int) -> bytes:
        data = await self.loop.sock_recv(self.channel, size)
        if not data:
            raise EOFError
        return data

    async def init(self) -> None:
        names = ("FUNCTION_NAME", "FUNCTION_VERSION", "FUNCTION_MEMORY_SIZE", "LOG_GROUP_NAME", "LOG_STREAM_NAME")
        task = {
            "handler": "app.handler",
            "environ": {f"AWS_LAMBDA_{name}": "x" for name in names},
            "task_root": self.sandbox.task_root,
            "opt_root": self.sandbox.opt_root,
            "runtime_root": self.sandbox.runtime_root,
            "response_limit": 1 << 20,
        }
        await self.loop.sock_sendall(self.channel, wire.pack(wire.INIT, json.dumps(task).encode()))
        assert (await self.frame())[0] == wire.READY

    async def invoke(self, event: str) -> object:
        meta = json.dumps(["r", 0, "arn", "", None]).encode()
        await self.loop.sock_sendall(self.channel, wire.pack(wire.INVOKE, meta, json.dumps(event).encode()))
        kind, body = await self.frame()
        assert kind == wire.RESPONSE
        return json.loads(body)

    async def exited(self) -> Exit:
        return await asyncio.wait_for(self.sandbox.exited(), PATIENCE)

    def close(self) -> None:
        self.channel.close()


async def taken(pool: SandboxPool, tmp_path: Path, slot: int = 0) -> Guest:
    guest = Guest(pool.take(spec(tmp_path, slot)))
    await guest.init()
    return guest


async def test_it_runs_the_function_and_carries_what_it_prints(pool: SandboxPool, tmp_path: Path) -> None:
    guest = await taken(pool, tmp_path)
    assert await guest.invoke("look") is False
    assert os.read(guest.sandbox.output, 1000) == b"called with look\n"
    with pytest.raises(BlockingIOError):
        os.read(guest.sandbox.output, 1000)
    guest.close()


async def test_layers_are_where_it_says_and_cannot_be_written(pool: SandboxPool, tmp_path: Path) -> None:
    layers = tmp_path / "packages" / "layers"
    (layers / "python").mkdir(parents=True)
    (layers / "python" / "part.txt").write_text("of a layer")
    (layers / "python" / "part.py").write_text("x = 1")
    guest = Guest(pool.take(spec(tmp_path, opt=layers)))
    await guest.init()
    assert await guest.invoke(f"{guest.sandbox.opt_root}/python/part.txt") == "of a layer"
    if pool.level != "fake":
        assert await guest.invoke("import") == f"{guest.sandbox.opt_root}/python/part.py"
    if pool.level in ("namespaces", "user-namespace"):
        assert guest.sandbox.opt_root == "/opt"
        assert await guest.invoke("touch /opt/new") == "Read-only file system"
    elif pool.level == "landlock":
        assert await guest.invoke(f"touch {layers}/new") == "Permission denied"
    guest.sandbox.kill()
    await guest.exited()
    again = Guest(guest.sandbox.reset())
    await again.init()
    assert await again.invoke(f"{again.sandbox.opt_root}/python/part.txt") == "of a layer"
    guest.close()
    again.close()


async def test_an_exit_is_told_as_often_as_it_is_asked_for(pool: SandboxPool, tmp_path: Path) -> None:
    guest = await taken(pool, tmp_path)
    with pytest.raises(EOFError):
        await guest.invoke("exit")
    assert await guest.exited() == await guest.exited() == Exit(3, None, False)
    guest.close()


async def test_reset_kills_and_keeps_tmp(pool: SandboxPool, tmp_path: Path) -> None:
    guest = await taken(pool, tmp_path)
    assert await guest.invoke("write") is True
    fresh = Guest(guest.sandbox.reset())
    assert await guest.exited() == Exit(None, 9, False)
    await fresh.init()
    assert await fresh.invoke("look") is True
    fresh.sandbox.kill()
    assert await fresh.exited() == Exit(None, 9, False)
    again = Guest(fresh.sandbox.reset())
    await again.init()
    assert await again.invoke("look") is True
    for one in (guest, fresh, again):
        one.close()


async def test_what_is_frozen_does_nothing_until_it_is_thawed_and_can_be_killed(
    pool: SandboxPool, tmp_path: Path
) -> None:
    guest = await taken(pool, tmp_path)
    for _ in range(2):
        guest.sandbox.freeze()
        guest.sandbox.freeze()
        answer = asyncio.ensure_future(guest.invoke("look"))
        done, _ = await asyncio.wait((answer,), timeout=0.05)
        assert not done
        guest.sandbox.thaw()
        guest.sandbox.thaw()
        assert await answer is False
    guest.sandbox.freeze()
    fresh = Guest(guest.sandbox.reset())
    assert await guest.exited() == Exit(None, 9, False)
    await fresh.init()
    fresh.sandbox.freeze()
    fresh.sandbox.destroy("test")
    assert await fresh.exited() == Exit(None, 9, False)
    for one in (guest, fresh):
        one.close()


async def test_environments_do_not_share_tmp(pool: SandboxPool, tmp_path: Path) -> None:
    one, two = await taken(pool, tmp_path, 0), await taken(pool, tmp_path, 1)
    assert await one.invoke("write") is True
    assert await two.invoke("look") is False
    one.close()
    two.close()


async def test_destroy_ends_it_at_once_and_may_be_repeated(pool: SandboxPool, tmp_path: Path) -> None:
    early = Guest(pool.take(spec(tmp_path, 2)))
    early.sandbox.destroy("before it has begun")
    assert (await early.exited()).signal == 9
    guest = await taken(pool, tmp_path)
    guest.sandbox.destroy("test")
    guest.sandbox.destroy("test")
    guest.sandbox.kill()
    assert await guest.exited() == Exit(None, 9, False)
    early.close()
    guest.close()


async def test_a_runtime_that_is_not_here_is_refused(pool: SandboxPool, tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="cobol"):
        pool.take(spec(tmp_path, runtime="cobol"))


async def test_more_than_are_kept_in_advance_can_be_taken_at_once(pool: SandboxPool, tmp_path: Path) -> None:
    sandboxes = [pool.take(spec(tmp_path, slot)) for slot in range(10)]
    guests = [Guest(sandbox) for sandbox in sandboxes]
    await asyncio.gather(*(guest.init() for guest in guests))
    assert await asyncio.gather(*(guest.invoke("look") for guest in guests)) == [False] * 10
    for guest in guests:
        guest.close()


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "fake"])
async def test_memory_and_processes_are_limited_without_control_groups(level: str, tmp_path: Path) -> None:
    lay_out(tmp_path)
    interpreters = {RUNTIME: Path(sys.executable)}
    folders = tmp_path / "packages", tmp_path / "run"
    config = NativeConfig(
        "sampled", *folders, interpreters, level=level, stems=1, processes=24, control_groups=False
    )  # fmt: skip
    pool = NativePool(config)
    await pool.start()
    try:
        assert "sampling" in pool.reason
        guest = await taken(pool, tmp_path)
        assert await guest.invoke("look") is False
        with pytest.raises(EOFError):
            await guest.invoke("hog")
        assert await guest.exited() == Exit(None, 9, True)
        guest.close()
        guest = await taken(pool, tmp_path)
        with pytest.raises(EOFError):
            await guest.invoke("bomb")
        if level == "namespaces":  # its user may have no more processes
            assert await guest.exited() == Exit(1, None, False)
        else:
            assert await guest.exited() == Exit(None, 9, False)
        guest.close()
    finally:
        await pool.close()


async def test_a_level_that_the_machine_lacks_is_refused_with_a_hint(tmp_path: Path) -> None:
    pool = NativePool(NativeConfig("none", tmp_path / "packages", tmp_path / "run", {RUNTIME: Path("/bin/false")}))
    with pytest.raises(SandboxUnavailable, match="check `interpreters`"):
        await pool.start()
