"""Sends malformed requests to a running cluster, and judges answers and cluster.

The rules: every request is answered, or its connection closed, in time; nothing is answered with a 5xx, INTERNAL or
UNKNOWN; an error is a row of the error table, in AWS's envelope, with the status and gRPC code of its row; no
traceback leaves the house. And afterwards: what was there works, what is listed is whole, and every slot is free.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import urllib.request
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import grpc
from botocore.exceptions import ClientError
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lambent.domain.errors import ERRORS
from lambent.infra.clock import SystemClock
from lambent.v1 import function_service_pb2
from services.frontend.transport.query_door import CODES
from tests.e2e.harness import KEY, SECRET, Cluster, eventually, zipped
from tests.fuzz.generator import case
from tests.fuzz.requests import CHANGING, STEADY, VICTIM, Case, GrpcCase, RawCase, RestCase, World

# Longer than any answer takes here, shorter than a person's patience.
ANSWER_SECONDS = 25.0
CALLERS = 16
SLOTS = 2
# Codes that grpc itself answers with, without a word from the door.
_TRANSPORT = {
    grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
_NEW = re.compile(rb"z\d+")
_CODE = "import time\ndef handler(event, context):\n    if isinstance(event, dict):\n        time.sleep(event.get('s', 0))\n    return event\n"


class Wrong(Exception):
    """An answer that must not be."""


@dataclass
class Storm:
    """What was sent and what came of it."""

    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    created: set[str] = field(default_factory=set)  # answered with 201
    perhaps: set[str] = field(default_factory=set)  # may have been created: nobody read the answer
    touched: set[str] = field(default_factory=set)  # may have been deleted

    @property
    def count(self) -> int:
        return sum(self.outcomes.values())

    def failed(self, number: int, what: str, why: str) -> None:
        """Keep a failure; `python -m tests.fuzz --seed S --first N --count 1` does it again."""
        self.failures.append(f"seed {self.seed} number {number} ({what}): {why}")


def prepare(cluster: Cluster) -> None:
    """The functions that requests are about."""
    cluster.create(STEADY, zipped({"app.py": _CODE}), Timeout=20)
    cluster.create(VICTIM, zipped({"app.py": _CODE}))
    cluster.client().invoke(FunctionName=STEADY)


async def run(cluster: Cluster, storm: Storm, numbers: Iterator[int], stop: Callable[[], bool] = lambda: False) -> None:
    """Send these numbers of the storm's seed, several at once, until they end or `stop` says so or too many fail."""
    clock = SystemClock()
    async with grpc.aio.insecure_channel(cluster.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:

        async def caller() -> None:
            for number in numbers:
                if stop() or len(storm.failures) > 20:
                    return
                world = World(cluster.http, KEY, SECRET, clock.epoch())
                await one(cluster, channel, storm, case(storm.seed, number, world))

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def one(cluster: Cluster, channel: grpc.aio.Channel, storm: Storm, sent: Case) -> None:
    """Send one and judge its answer."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if isinstance(sent, RestCase):
                outcome = await _rest(cluster, storm, sent)
            elif isinstance(sent, GrpcCase):
                outcome = await _grpc(channel, storm, sent)
            else:
                outcome = await _raw(cluster, sent)
    except Wrong as wrong:
        outcome = "wrong"
        storm.failed(sent.number, sent.what, str(wrong))
    except TimeoutError:
        outcome = "wrong"
        storm.failed(sent.number, sent.what, f"neither answer nor end within {ANSWER_SECONDS:g} s")
    except OSError as error:
        outcome = "wrong"
        storm.failed(sent.number, sent.what, f"the door is shut: {error}")
    storm.outcomes[outcome] += 1


# REST


async def _rest(cluster: Cluster, storm: Storm, sent: RestCase) -> str:
    _may_change(storm, sent.operation, sent.subject, sent.wire[:2000])
    host, _, port = cluster.http.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=8 * 1024 * 1024)
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answers = []
    try:
        # The door may have answered and hung up before all was said; then there is still its answer.
        with suppress(OSError):
            await _write(writer, sent)
        if sent.sending == "gone":
            writer.transport.abort()
            return "REST gone"
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while (answer := await _answer(reader, sent.method)) is not None:
                answers.append(answer)
                if sent.sending in ("whole", "slices") or answer[1].get("connection") == "close":
                    break
    finally:
        writer.transport.abort()
    if not answers:
        if sent.must_answer:
            raise Wrong("closed without an answer")
        return "REST closed"
    for status, headers, body in answers:
        _judge(sent, status, headers, body)
        if sent.operation == "CreateFunction" and status == 201:
            storm.created.add(json.loads(body)["FunctionName"])
    return f"REST {answers[0][0]}"


def _may_change(storm: Storm, operation: str, subject: str, wire: bytes) -> None:
    if operation == "CreateFunction":
        storm.perhaps.add(subject)
    elif operation in CHANGING:
        # A spoilt path or message may well name another function than the one that was meant.
        storm.touched |= {subject, *(name.decode() for name in _NEW.findall(unquote_to_bytes(wire)))}


async def _write(writer: asyncio.StreamWriter, sent: RestCase) -> None:
    at = 0
    for cut in (*sent.cuts, len(sent.wire)):
        writer.write(sent.wire[at:cut])
        await writer.drain()
        if sent.cuts:
            await asyncio.sleep(0)  # so that pieces leave as pieces
        at = cut
    if sent.sending == "half closed":
        writer.write_eof()


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[int, dict[str, str], bytes] | None:
    """One answer, of which nothing is taken on trust. None: the connection was closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Wrong(f"half an answer: {error.partial[:200]!r}") from None
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) != 3 or parts[0] != "HTTP/1.1" or not parts[1].isdigit() or any(": " not in line for line in lines):
        raise Wrong(f"no HTTP: {head[:200]!r}")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    status = int(parts[1])
    if status == 100:
        return await _answer(reader, method)
    if headers.get("transfer-encoding") == "chunked":
        return status, headers, b"".join([piece async for piece in _pieces(reader)])
    size = 0 if method == "HEAD" or status == 204 else int(headers["content-length"])
    return status, headers, await reader.readexactly(size)


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The body of a response that streams."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


def _judge(sent: RestCase, status: int, headers: dict[str, str], body: bytes) -> None:
    shown = f"{status} {headers.get('x-amzn-errortype')} {body[:300]!r}"
    if status >= 500 or not status >= 200:
        raise Wrong(f"status {shown}")
    if len(headers.get("x-amzn-requestid", "")) != 36:
        raise Wrong(f"no request id: {shown}")
    if b"Traceback" in body:
        raise Wrong(f"a traceback: {shown}")
    if status < 400:
        return
    if headers.get("content-type") == "application/x-amz-json-1.1":
        _judge_json(sent, status, shown, body)
        return
    if headers.get("content-type") == "text/xml":
        _judge_query(sent, status, shown, body)
        return
    name = headers.get("x-amzn-errortype", "")
    if name not in ERRORS or ERRORS[name].status != status:
        raise Wrong(f"not a row of the error table: {shown}")
    if sent.method == "HEAD" or (not body and "HEAD" in sent.what):
        return
    try:
        document = json.loads(body)
    except ValueError:
        if b"HEAD" in sent.wire[:10]:
            return
        raise Wrong(f"no JSON: {shown}") from None
    if not isinstance(document.get(ERRORS[name].member), str):
        raise Wrong(f"no {ERRORS[name].member}: {shown}")


def _judge_query(sent: RestCase, status: int, shown: str, body: bytes) -> None:
    """An error of the Query door: XML, under a name of that protocol or one of the table's."""
    if sent.method == "HEAD" or b"HEAD" in sent.wire[:10]:
        return
    found = {each.tag.rpartition("}")[2]: each.text for each in ElementTree.fromstring(body).iter()}
    told = {**dict(CODES.values()), **{name: row.status for name, row in ERRORS.items()}}
    if told.get(found["Code"] or "") != status or not found["Message"]:
        raise Wrong(f"not a row of the error table: {shown}")


def _judge_json(sent: RestCase, status: int, shown: str, body: bytes) -> None:
    """An error of the JSON 1.1 door: its name is in the body."""
    if sent.method == "HEAD" or b"HEAD" in sent.wire[:10]:
        return
    document = json.loads(body)
    text = document.get("Message", document.get("message"))  # services spell it both ways
    if status != 400 or document["__type"] not in ERRORS or not isinstance(text, str):
        raise Wrong(f"not a row of the error table: {shown}")


# gRPC


async def _grpc(channel: grpc.aio.Channel, storm: Storm, sent: GrpcCase) -> str:
    _may_change(storm, sent.operation, sent.subject, sent.message[:2000])
    try:
        if sent.streams:
            stream: Any = channel.unary_stream(sent.path)
            async for _ in stream(sent.message, metadata=sent.metadata, timeout=sent.timeout):
                pass
            return "gRPC OK"
        unary: Any = channel.unary_unary(sent.path)
        call = unary(sent.message, metadata=sent.metadata, timeout=sent.timeout)
        if sent.cancel_after is not None:
            await asyncio.sleep(sent.cancel_after)
            call.cancel()
        answer = await call
        if sent.operation == "CreateFunction":
            with suppress(DecodeError):
                storm.created.add(function_service_pb2.FunctionConfiguration.FromString(answer).function_name)
    except grpc.aio.AioRpcError as error:
        _judge_status(sent, error)
        return f"gRPC {error.code().name}"
    except asyncio.CancelledError:
        if sent.cancel_after is None:
            raise
        return "gRPC CANCELLED"
    return "gRPC OK"


def _judge_status(sent: GrpcCase, error: grpc.aio.AioRpcError) -> None:
    code, shown = error.code(), f"{error.code().name} {error.details()!r}"
    if code in (
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    ):
        raise Wrong(shown)
    if "Traceback" in (error.details() or ""):
        raise Wrong(f"a traceback: {shown}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and sent.timeout > 1:
        raise Wrong(f"no answer within {sent.timeout:g} s: {shown}")
    packed = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), None)
    if packed is None:
        # Health and reflection are not ours.
        if code not in _TRANSPORT and sent.path.startswith("/lambent.v1."):
            raise Wrong(f"no details: {shown}")
        return
    assert isinstance(packed, bytes)
    status = status_pb2.Status.FromString(packed)
    info = error_details_pb2.ErrorInfo()
    if not status.details or not status.details[0].Unpack(info):
        raise Wrong(f"no ErrorInfo: {shown}")
    if info.reason not in ERRORS or ERRORS[info.reason].grpc != code.name or not info.metadata["RequestId"]:
        raise Wrong(f"not a row of the error table: {shown} {info.reason}")


async def _raw(cluster: Cluster, sent: RawCase) -> str:
    host, _, port = cluster.grpc.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        with suppress(ConnectionError):
            writer.write(sent.wire)
            await writer.drain()
            writer.write_eof()
            await reader.read()
    finally:
        writer.transport.abort()
    return "raw closed"


# Afterwards


def aftermath(cluster: Cluster, storm: Storm, *, invoked: int = 20) -> None:
    """What must hold of the cluster when all is quiet; adds to the storm's failures. `invoked`: so many new functions."""
    client = cluster.client()
    try:
        _settled(cluster, storm, client, invoked)
    except (ClientError, OSError, AssertionError) as error:
        storm.failed(-1, "afterwards", f"{type(error).__name__}: {error}")


def _invoked(client: Any) -> Any:
    """Once the function may be invoked: the storm may have used up the requests of its last second."""

    def once() -> Any:
        try:
            return client.invoke(FunctionName=STEADY, Payload=b'{"s": 0.4}')
        except client.exceptions.TooManyRequestsException as error:
            if error.response["Reason"] != "FunctionInvocationRateLimitExceeded":
                raise
            return None

    return eventually(once)


def _settled(cluster: Cluster, storm: Storm, client: Any, invoked: int) -> None:
    # A request whose name was spoilt may have stopped any function.
    for page in client.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            client.delete_function_concurrency(FunctionName=function["FunctionName"])
    # All slots at once, twice: a slot that leaked would throttle one of them.
    for _ in range(2):
        with ThreadPoolExecutor(SLOTS) as threads:
            calls = [threads.submit(_invoked, client) for _ in range(SLOTS)]
            for call in calls:
                answer = call.result()
                assert "FunctionError" not in answer, answer["Payload"].read()
    listed = {
        function["FunctionName"]
        for page in client.get_paginator("list_functions").paginate()
        for function in page["Functions"]
    }
    # Other names come from spoilt documents; of those only that they are whole is asked below.
    numbered = {name for name in listed if _NEW.fullmatch(name.encode())}
    stray = numbered - storm.created - storm.perhaps
    assert not stray, f"nobody created {sorted(stray)[:10]}"
    lost = {name for name in storm.created if _NEW.fullmatch(name.encode())} - storm.touched - listed
    assert not lost, f"created and gone: {sorted(lost)[:10]}"
    for position, name in enumerate(sorted(listed - {STEADY, VICTIM})):
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 50})
        if position < invoked:
            with urllib.request.urlopen(client.get_function(FunctionName=name)["Code"]["Location"]) as package:
                # Not by its first bytes: an archive may have something in front.
                assert zipfile.is_zipfile(io.BytesIO(package.read())), name
            client.invoke(FunctionName=name)
