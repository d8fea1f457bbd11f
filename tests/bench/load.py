"""Load on the HTTP door and on a gRPC server: signed requests by wrk, or by a small generator where there is no wrk."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc.aio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.v1 import invocation_service_pb2 as pb

CONNECTIONS = 16
# Invocations under way on one stream.
IN_FLIGHT = 64
# A body of 300 bytes, as the budget says.
EVENT = json.dumps({"key": "value", "items": list(range(20)), "text": "x" * 191}).encode()
assert len(EVENT) == 300


@dataclass(frozen=True, slots=True)
class Load:
    """What came of some seconds of load."""

    calls: int
    seconds: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Signed:
    """One invocation as HTTP, signed; good for five minutes."""

    host: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def raw(self) -> bytes:
        """As bytes on a connection."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def sign(host: str, function: str, key: str, secret: str, body: bytes = EVENT, kind: str = "RequestResponse") -> Signed:
    """An Invoke of a function, signed now. `kind`: X-Amz-Invocation-Type."""
    path = f"/2015-03-31/functions/{function}/invocations"
    given = {"Host": host} | ({} if kind == "RequestResponse" else {"X-Amz-Invocation-Type": kind})
    request = AWSRequest("POST", f"http://{host}{path}", data=body, headers=given)
    SigV4Auth(Credentials(key, secret), "lambda", "us-east-1").add_auth(request)
    headers = tuple((name, value) for name, value in request.headers.items() if name.lower() != "host")
    return Signed(host, path, headers, body)


def has_wrk() -> bool:
    """Whether the load generator is installed."""
    return shutil.which("wrk") is not None


async def http_load(signed: Signed, seconds: float, folder: Path) -> Load:
    """As many invocations as 16 connections carry. Raises RuntimeError where one fails."""
    if has_wrk():
        return await asyncio.to_thread(_wrk, signed, seconds, folder)
    return await _generate(signed, seconds)


def _wrk(signed: Signed, seconds: float, folder: Path) -> Load:
    script = folder / "invoke.lua"
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(signed.body.decode())}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in signed.headers]
    script.write_text("\n".join(lines))
    done = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script),
         f"http://{signed.host}{signed.path}"],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> Load:
    """What wrk said. Raises RuntimeError where calls failed."""
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", text)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", text)
    if found is None or failed is not None:
        raise RuntimeError(f"wrk: {failed.group(0) if failed else text}")
    return Load(int(found[1]), float(found[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]])


class _Client(asyncio.Protocol):
    """One keep-alive connection with one request in flight."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.calls = 0
        self.failure: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        size = answer_size(self._buffer)
        if size is None or len(self._buffer) < size:
            return
        if not self._buffer.startswith(b"HTTP/1.1 20"):
            self.failure = self._buffer.decode(errors="replace")
            self.close()
            return
        self._buffer = self._buffer[size:]
        self.calls += 1
        if self._transport is not None:
            self._transport.write(self._request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def answer_size(data: bytes) -> int | None:
    """Bytes of the first whole answer in `data`; None: its head is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", data[: end + 2])
    return end + 4 + (int(found[1]) if found else 0)


async def _generate(signed: Signed, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    host, _, port = signed.host.rpartition(":")
    raw = signed.raw()
    made = [await loop.create_connection(lambda: _Client(raw), host, int(port)) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    calls = sum(client.calls for _, client in made)
    for _, client in made:
        client.close()
        if client.failure is not None:
            raise RuntimeError(client.failure)
    return Load(calls, elapsed)


async def grpc_load(
    address: str, method: str, request: bytes, seconds: float, metadata: Sequence[tuple[str, str]] = ()
) -> Load:
    """Unary calls with raw bytes, 16 in flight; the same client for every server."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(method)
        given = tuple(metadata) or None
        await call(request, metadata=given)
        counts = [0] * CONNECTIONS
        ends = time.perf_counter() + seconds

        async def ask(number: int) -> None:
            while time.perf_counter() < ends:
                await call(request, metadata=given)
                counts[number] += 1

        began = time.perf_counter()
        await asyncio.gather(*(ask(number) for number in range(CONNECTIONS)))
        return Load(sum(counts), time.perf_counter() - began)


async def many_load(
    address: str, method: str, request: pb.InvokeRequest, seconds: float, metadata: Sequence[tuple[str, str]]
) -> Load:
    """InvokeMany, 64 in flight on one stream: for the answers of a message, as many new ones are sent in another."""
    messages = [
        pb.InvokeManyRequest(items=[pb.InvokeManyItem(request=request)] * count).SerializeToString()
        for count in range(IN_FLIGHT + 1)
    ]
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(method, response_deserializer=pb.InvokeManyResponse.FromString)(
            metadata=tuple(metadata)
        )
        began = time.perf_counter()
        await call.write(messages[IN_FLIGHT])
        calls, under_way = 0, IN_FLIGHT
        async for answer in call:
            ended = len(answer.results)
            refused = [result.error.message for result in answer.results if result.HasField("error")]
            if refused:
                raise RuntimeError(refused[0])
            calls += ended
            if time.perf_counter() - began < seconds:
                await call.write(messages[ended])
            else:
                under_way -= ended
                if not under_way:
                    await call.done_writing()
        return Load(calls, time.perf_counter() - began)


def http_latencies(signed: Signed, count: int, pause: float = 0.0) -> list[float]:
    """Microseconds of each of `count` invocations, one after the other on one connection, blocking. `pause`: seconds
    between them."""
    host, _, port = signed.host.rpartition(":")
    raw = signed.raw()
    with socket.create_connection((host, int(port))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = []
        for _ in range(count):
            taken.append(_ask(peer, raw))
            if pause:
                time.sleep(pause)
        return taken


def _ask(peer: socket.socket, raw: bytes) -> float:
    began = time.perf_counter()
    peer.sendall(raw)
    data = peer.recv(65536)
    while (size := answer_size(data)) is None or len(data) < size:
        more = peer.recv(65536)
        if not more:
            raise RuntimeError("the frontend hung up")
        data += more
    elapsed = time.perf_counter() - began
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(data.decode(errors="replace"))
    return elapsed * 1e6


def unix_latencies(path: str, count: int) -> list[float]:
    """Microseconds of each of `count` round trips of the same 300 bytes over a Unix socket."""
    taken = []
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        for _ in range(count):
            began = time.perf_counter()
            peer.sendall(EVENT)
            got = 0
            while got < len(EVENT):
                got += len(peer.recv(65536))
            taken.append((time.perf_counter() - began) * 1e6)
    return taken
