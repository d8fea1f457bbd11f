"""Requests that no good client sends: what answers them, and that the cluster is none the worse for it."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError

from lambent.infra import tokens
from lambent.infra.clock import SystemClock
from lambent.v1 import invocation_service_pb2
from tests.e2e.harness import KEY, ROLE, SECRET, Cluster, zipped
from tests.fuzz import packages
from tests.fuzz.drive import SLOTS, Storm, aftermath, prepare, run
from tests.fuzz.signing import Headers, Signature, in_header

CODE = "def handler(event, context):\n    return event\n"
MARK = "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    print('ended', event.get('n'))\n    return event.get('n')\n"

# (seed, number) that found a defect once.
FOUND = [
    (1, 86),  # a package URL whose signature is not ASCII: 500
    (1, 136),  # a client context nested a thousand deep: 500
    (1, 474),  # rubbish to the health service: UNKNOWN with a traceback
    (2, 11184),  # an error text that made the trailers too long for clients
]
SEED, COUNT = 20_260_101, 4000


async def _storm(cluster: Cluster, storm: Storm, numbers: Iterator[int]) -> None:
    await run(cluster, storm, numbers)


def test_thousands_of_malformed_requests_hurt_nobody(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS=str(SLOTS))
    prepare(cluster)
    storm = Storm(SEED)
    asyncio.run(_storm(cluster, storm, iter(range(COUNT))))
    found = []
    for seed, number in FOUND:
        again = Storm(seed)
        asyncio.run(_storm(cluster, again, iter([number])))
        found += again.failures
        storm.created |= again.created
        storm.perhaps |= again.perhaps
        storm.touched |= again.touched
    aftermath(cluster, storm, invoked=5)
    assert storm.failures + found == []
    assert storm.count == COUNT


def send(cluster: Cluster, method: str, path: str, body: bytes, *, sent: int | None = None) -> socket.socket:
    """A signed request on a connection of its own, of whose body only `sent` bytes go out."""
    by = Signature(KEY, SECRET, SystemClock().epoch())
    mine: Headers = [(b"Host", cluster.http.encode()), (b"Connection", b"close")]
    headers = in_header(by, method, path.encode(), b"", mine, body)
    head = b"\r\n".join(
        [
            f"{method} {path} HTTP/1.1".encode(),
            *(name + b": " + value for name, value in headers),
            b"Content-Length: %d" % len(body),
        ]
    )
    host, _, port = cluster.http.rpartition(":")
    peer = socket.create_connection((host, int(port)), timeout=30)
    peer.sendall(head + b"\r\n\r\n" + body[:sent])
    return peer


def received(peer: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Everything until the end of the connection, as status, headers, document; status 0: nothing came."""
    data = b""
    while piece := peer.recv(65536):
        data += piece
    peer.close()
    if not data:
        return 0, {}, None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), headers, json.loads(body) if body else None


def creation(name: str, package: bytes) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": package},
    }


BAD_PACKAGES = [
    "climbs out", "absolute", "link out", "absolute link", "below a link", "device", "twice", "file and folder", "overlapping",
    "encrypted", "wrong checksum", "no entries", "link with NUL",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD_PACKAGES)
def test_packages_that_are_refused_leave_nothing(cluster: Cluster, kind: str) -> None:
    client = cluster.client()
    with pytest.raises(ClientError) as caught:
        client.create_function(**creation("badly-packed", packages.BAD[kind]()))
    error = caught.value.response
    assert (error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]) == (
        400,
        "InvalidParameterValueException",
    )
    assert "Could not unzip uploaded file" in error["Error"]["Message"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName="badly-packed")


def test_a_link_within_the_package_is_kept(cluster: Cluster) -> None:
    package = packages.package(("real.py", CODE.encode(), 0), ("app.py", b"real.py", stat.S_IFLNK | 0o777))
    name = cluster.create("linked", package)
    assert cluster.client().invoke(FunctionName=name, Payload=b"[1]")["Payload"].read() == b"[1]"


def test_a_handler_that_does_not_exist_is_the_functions_error(cluster: Cluster) -> None:
    name = cluster.create("no-handler", zipped({"app.py": CODE}), Handler="app.missing")
    answer = cluster.client().invoke(FunctionName=name)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"].read())["errorType"] == "Runtime.HandlerNotFound"
    module = cluster.create("no-module", zipped({"app.py": CODE}), Handler="other.handler")
    answer = cluster.client().invoke(FunctionName=module)
    assert json.loads(answer["Payload"].read())["errorType"] == "Runtime.ImportModuleError"


def test_a_body_that_is_cut_off_creates_nothing(cluster: Cluster) -> None:
    document = creation("half", b"")
    document["Code"] = {"ZipFile": "A" * 100_000}
    peer = send(cluster, "POST", "/2015-03-31/functions", json.dumps(document).encode(), sent=50_000)
    peer.shutdown(socket.SHUT_WR)
    assert received(peer)[0] in (0, 400)
    with pytest.raises(cluster.client().exceptions.ResourceNotFoundException):
        cluster.client().get_function(FunctionName="half")


def test_members_and_fields_that_nobody_knows_are_ignored(cluster: Cluster) -> None:
    name = cluster.create("unknowns", zipped({"app.py": CODE}))
    path, body = (
        f"/2015-03-31/functions/{name}/configuration",
        b'{"Description": "seen", "Tomorrow": {"a": [1]}, "timeout": 5}',
    )
    status, _, document = received(send(cluster, "PUT", path, body))
    assert (status, document["Description"], document["Timeout"]) == (200, "seen", 3)
    message = invocation_service_pb2.InvokeRequest(function_name=name, payload=b"[7]").SerializeToString()
    unknown = b"\xfa\x3e\x03abc" + b"\xf8\x3e\x01"  # field 1007, as bytes and as a number
    token = tokens.issue(KEY, SECRET, "us-east-1", SystemClock().epoch())
    with grpc.insecure_channel(cluster.grpc) as channel:
        invoke: Any = channel.unary_unary("/lambent.v1.InvocationService/Invoke")
        answer = invoke(message + unknown, metadata=(("authorization", f"Bearer {token}"),), timeout=30)
    assert invocation_service_pb2.InvokeResponse.FromString(answer).payload == b"[7]"


def test_a_client_that_goes_in_the_middle_leaves_its_invocation_running_and_its_slot_free(own_cluster: Any) -> None:
    """Over HTTP nobody cancels: the function runs to its end, and the slot is free from then on."""
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_LIMITS_CONCURRENT_EXECUTIONS="1")
    cluster.create("mark", zipped({"app.py": MARK}), Timeout=30)
    client = cluster.client()
    client.invoke(FunctionName="mark", Payload=b"{}")
    peer, name = running(cluster, client)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()  # with a reset
    patient = cluster.client(retries=10)
    assert patient.invoke(FunctionName="mark", Payload=b'{"n": 2}')["Payload"].read() == b"2"
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(client.invoke, FunctionName="mark", Payload=b'{"n": 3}').result()["StatusCode"] == 200
    cluster.stop()  # logs are written a moment after they are made, and at the latest now
    logs = Path(cluster.data).rglob("*")
    assert any(name in path.read_bytes() for path in logs if path.is_file() and "logs" in str(path))


def running(cluster: Cluster, client: Any) -> tuple[socket.socket, bytes]:
    """A connection whose invocation holds the only slot, and what that will write: a second one is throttled."""
    for attempt in range(20):
        body = json.dumps({"s": 1, "n": f"alone-{attempt}"}).encode()
        peer = send(cluster, "POST", "/2015-03-31/functions/mark/invocations", body)
        try:
            client.invoke(FunctionName="mark", Payload=b"{}")
        except client.exceptions.TooManyRequestsException:
            return peer, f"ended alone-{attempt}".encode()
        received(peer)  # the second one was the first
    raise AssertionError("no invocation ever held the slot")


def test_a_large_body_of_a_stranger_is_refused_before_it_is_sent(cluster: Cluster) -> None:
    """The head says it all: nothing of the fifty megabytes is waited for."""
    host, _, port = cluster.http.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(
            f"POST /2015-03-31/functions HTTP/1.1\r\nHost: {cluster.http}\r\nContent-Length: 50000000\r\n\r\n".encode()
        )
        assert b"MissingAuthenticationTokenException" in peer.recv(65536)


def test_package_urls_with_any_text_are_refused(cluster: Cluster) -> None:
    digest = "a" * 64
    for query in (
        "expires=9999999999&signature=%C3%BC",
        "expires=%F0%9D%9F%98&signature=x",
        f"expires={'9' * 5000}&signature=x",
        "",
    ):
        status, headers, _ = received(send(cluster, "GET", f"/_lambent/code/{digest}?{query}", b""))
        assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")


def test_json_that_is_nested_too_deep_is_the_clients_error(cluster: Cluster) -> None:
    name = cluster.create("deep", zipped({"app.py": CODE}))
    deep = b"[" * 5000 + b"]" * 5000
    client = cluster.client()
    for arguments in ({"Payload": deep}, {"ClientContext": base64.b64encode(deep[:1000] + deep[-1000:]).decode()}):
        with pytest.raises(client.exceptions.InvalidRequestContentException):
            client.invoke(FunctionName=name, **arguments)


def test_rubbish_to_grpcs_own_services_is_the_clients_error(cluster: Cluster) -> None:
    with grpc.insecure_channel(cluster.grpc) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        info: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        for call in (
            lambda: check(b"\xff", timeout=10),
            lambda: list(watch(b"\xff", timeout=10)),
            lambda: list(info(iter([b"\xff"]), timeout=10)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_long_error_text_fits_into_grpcs_trailers(cluster: Cluster) -> None:
    token = tokens.issue(KEY, SECRET, "us-east-1", SystemClock().epoch())
    with grpc.insecure_channel(cluster.grpc) as channel:
        invoke: Any = channel.unary_unary("/lambent.v1.InvocationService/Invoke")
        for character in ("x ", "\N{SNAKE}", "%"):
            message = invocation_service_pb2.InvokeRequest(function_name=character * 30_000).SerializeToString()
            with pytest.raises(grpc.RpcError) as caught:
                invoke(message, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (caught.value.details() or "").endswith("...")
