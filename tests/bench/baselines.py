"""What stands beside us: a bare grpc.aio echo, bare interpreter starts, awslambdaric, a raw Unix-socket echo.

`python -m tests.bench.baselines grpc PORT-FILE` and `… unix PATH` are the servers; the rest is called.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc.aio

from tests.bench.local_worker import INTERPRETER
from tests.bench.machine import end
from tests.bench.table import ROOT

METHOD = "/bench.Echo/Call"
_START_SECONDS = 20.0


# grpc.aio, with handlers that see raw bytes: its strongest form


async def _serve_grpc(ready: Path) -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Call": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.to_thread(ready.write_text, str(port))
    await stopping.wait()
    await server.stop(0)


class Echo:
    """A server process of ours with the address it gave."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process = process
        self.address = address

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@contextmanager
def grpc_echo(folder: Path) -> Iterator[Echo]:
    """The echo server; `address` is host:port."""
    ready = folder / "grpc-echo"
    with _server("grpc", ready, ready) as process:
        yield Echo(process, f"127.0.0.1:{ready.read_text()}")


@contextmanager
def unix_echo(folder: Path) -> Iterator[Echo]:
    """A blocking echo of 4-byte-length-prefixed messages; `address` is the socket's path."""
    path = folder / "unix-echo"
    with _server("unix", path, path) as process:
        yield Echo(process, str(path))


@contextmanager
def _server(kind: str, argument: Path, appears: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.baselines", kind, str(argument)], cwd=ROOT)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not appears.exists() or (kind == "grpc" and not appears.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the {kind} echo did not start")
            time.sleep(0.01)
        yield process
    finally:
        end(process)


def _serve_unix(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        peer, _ = listener.accept()
        with peer:
            while data := peer.recv(65536):
                peer.sendall(data)


# Starts of processes


def bare_start() -> float:
    """Seconds from spawn to end of an interpreter that does nothing."""
    began = time.perf_counter()
    subprocess.run([str(INTERPRETER), "-I", "-S", "-c", "pass"], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began


def script(source: str) -> float:
    """A fresh interpreter that runs a program; seconds from its spawn to its end."""
    began = time.perf_counter()
    subprocess.run([str(INTERPRETER), "-I", "-c", source], check=True)
    return time.perf_counter() - began


_FORKS = """
import os, sys, time
at_once, end, done, running = int(sys.argv[1]), time.perf_counter() + float(sys.argv[2]), 0, 0
while time.perf_counter() < end or running:
    if running < at_once and time.perf_counter() < end:
        if os.fork() == 0:
            os._exit(0)
        running += 1
    else:
        os.wait()
        running -= 1
        done += 1
print(done)
"""


def bare_forks(at_once: int, seconds: float) -> float:
    """Processes a second that a bare interpreter forks, each of which exits at once, with `at_once` of them around."""
    command = [str(INTERPRETER), "-I", "-S", "-c", _FORKS, str(at_once), str(seconds)]
    return int(subprocess.run(command, check=True, capture_output=True).stdout) / seconds


class RuntimeApi:
    """The smallest AWS Runtime API that awslambdaric talks to: one event, then nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def serve_one(self) -> float:
        """Hand out one event and wait for its response; answers when it came. Raises OSError after a while."""
        self._listener.settimeout(20.0)
        with self._listener.accept()[0] as peer:
            peer.settimeout(20.0)
            buffer = bytearray()
            while True:
                while b"\r\n\r\n" not in buffer:
                    buffer += _some(peer)
                head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n")[1:]:
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                while len(rest) < length:
                    rest += _some(peer)
                buffer = bytearray(rest[length:])
                if head.startswith(b"GET "):
                    deadline = int(time.time() * 1000) + 60_000
                    peer.sendall(
                        b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: r1\r\n"
                        b"Lambda-Runtime-Invoked-Function-Arn: arn\r\nLambda-Runtime-Deadline-Ms: %d\r\n"
                        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % deadline
                    )
                elif b"/response" in head.split(b"\r\n", 1)[0]:
                    return time.perf_counter()
                else:
                    raise OSError(f"awslambdaric reported: {rest[:500]!r}")

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _some(peer: socket.socket) -> bytes:
    data = peer.recv(65536)
    if not data:
        raise OSError("awslambdaric hung up")
    return data


def awslambdaric_start(folder: Path) -> float:
    """Seconds from spawning AWS's own runtime client to its first response. `folder` has app.py."""
    api = RuntimeApi()
    environment = {
        "PATH": "/usr/bin:/bin", "AWS_LAMBDA_RUNTIME_API": api.address, "LAMBDA_TASK_ROOT": str(folder),
        "AWS_LAMBDA_FUNCTION_NAME": "bench", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_GROUP_NAME": "g",
        "AWS_LAMBDA_LOG_STREAM_NAME": "s", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "awslambdaric", "app.handler"], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return api.serve_one() - began
    finally:
        process.kill()
        process.wait()
        api.close()


if __name__ == "__main__":
    if sys.argv[1] == "grpc":
        asyncio.run(_serve_grpc(Path(sys.argv[2])))
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        _serve_unix(sys.argv[2])
