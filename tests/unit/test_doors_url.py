"""The door of function URLs, without sockets: who is let in, what runs, and what is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.domain.errors import AwsError
from lambent.domain.function_urls import ANYBODY, BUFFERED, IAM, INVOKE_URL, STREAMED, Cors, FunctionUrl, UrlPlace
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.policies import INVOKE, Policy, Statement
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.http_messages import HttpRequest, HttpResponse
from lambent.infra.sigv4 import Verifier
from lambent.v1 import invocation_service_pb2 as pb
from services.frontend.transport.call import Call
from services.frontend.transport.dispatch import Dispatch
from services.frontend.transport.http_events import INTEGRATION
from services.frontend.transport.url_door import Found, UrlDoor
from tests.unit.doors_support import ACCOUNT, KEY, KEYS, REGION

ID = "0123456789abcdef0123456789abcdef"
HOST = f"{ID}.lambda-url.{REGION}.localhost"
TENANT = Tenant(ACCOUNT, REGION)
OPEN = Policy((Statement("a", INVOKE_URL, "*"), Statement("b", INVOKE, "*")), "r")
SERVICE = pb.DESCRIPTOR.services_by_name["InvocationService"]


class Functions:
    """InvocationService that does as it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[pb.InvokeRequest | pb.InvokeWithResponseStreamRequest, Call]] = []
        self.answer = pb.InvokeResponse(status_code=200, payload=b'"ran"')
        self.error: AwsError | None = None
        self.kind = INTEGRATION
        self.pieces: list[bytes] = []
        self.fails = False  # after the pieces

    async def invoke(self, request: pb.InvokeRequest, call: Call) -> pb.InvokeResponse:
        self.seen.append((request, call))
        if self.error is not None:
            raise self.error
        call.trace_out = "Root=1-0-0"
        return self.answer

    async def invoke_async(self, request: pb.InvokeAsyncRequest, call: Call) -> pb.InvokeAsyncResponse:
        raise AssertionError("no address leads here")

    async def invoke_with_response_stream(
        self, request: pb.InvokeWithResponseStreamRequest, call: Call
    ) -> AsyncIterator[pb.InvokeWithResponseStreamResponse]:
        self.seen.append((request, call))
        if self.error is not None:
            raise self.error
        yield pb.InvokeWithResponseStreamResponse(status_code=200, response_stream_content_type=self.kind)
        for piece in self.pieces:
            chunk = pb.InvokeResponseStreamUpdate(payload=piece)
            event = pb.InvokeWithResponseStreamResponseEvent(payload_chunk=chunk)
            yield pb.InvokeWithResponseStreamResponse(event_stream=event)
        complete = pb.InvokeWithResponseStreamCompleteEvent(error_code="Unhandled" if self.fails else None)
        event = pb.InvokeWithResponseStreamResponseEvent(invoke_complete=complete)
        yield pb.InvokeWithResponseStreamResponse(event_stream=event)


class Bench:
    """The door with one address."""

    def __init__(
        self, auth_type: str = ANYBODY, mode: str = BUFFERED, cors: Cors | None = None, policy: Policy | None = OPEN,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self.functions = Functions()
        self.counted: list[tuple[Tenant, str, int]] = []
        self._found = Found(UrlPlace(TENANT, "f", "live"), FunctionUrl(ID, auth_type, mode, cors, 0.0, 0.0), policy)
        clock = SystemClock()
        self.door = UrlDoor(
            Dispatch([(SERVICE, self.functions)], clock=clock), self,
            Verifier(KEYS, skew_seconds=300, presigned_max_seconds=3600, services={"lambda"}),
            base="https://localhost:8443", observe=lambda tenant, name, status, _: self.counted.append((tenant, name, status)),
            clock=clock, ids=SystemIds(), limits=limits or Limits(),
        )  # fmt: skip

    async def find(self, id_: str) -> Found | None:
        return self._found if id_ == ID else None

    async def ask(
        self, method: str = "GET", path: str = "/", body: bytes = b"", host: str = HOST, region: str = "",
        secret: str = KEY.secret, more: Mapping[str, str] = {}, **headers: str,
    ) -> HttpResponse:  # fmt: skip
        """`region`: signed for it; empty: not signed."""
        request = AWSRequest(method, f"https://{host}{path}", data=body, headers={**headers, **more})
        if region:
            SigV4Auth(Credentials(KEY.id, secret), "lambda", region).add_auth(request)
        low = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
        raw_path, _, query = path.partition("?")
        return await self.door.handle(
            HttpRequest(method, raw_path.encode(), query.encode(), {**low, b"host": host.encode()}, body, "127.0.0.1:1")
        )


def header(response: HttpResponse, name: str) -> str | None:
    found = [value.decode() for key, value in response.headers if key.decode().lower() == name]
    return found[0] if found else None


async def body_of(response: HttpResponse) -> bytes:
    return response.body if response.pieces is None else b"".join([piece async for piece in response.pieces])


async def test_a_request_becomes_an_invocation_of_the_functions_account() -> None:
    bench = Bench()
    response = await bench.ask("POST", "/a?b=c", b"{}")
    assert (response.status, response.body) == (200, b"ran")
    ((request, call),) = bench.functions.seen
    assert (request.function_name, request.qualifier, call.tenant) == ("f", "live", TENANT)
    assert header(response, "x-amzn-requestid") == call.request_id
    assert header(response, "x-amzn-trace-id") == "Root=1-0-0"
    event = json.loads(request.payload)
    assert (event["rawPath"], event["rawQueryString"], event["body"]) == ("/a", "b=c", "{}")
    assert event["requestContext"]["requestId"] == call.request_id
    assert (event["headers"]["x-forwarded-proto"], event["headers"]["x-forwarded-port"]) == ("https", "8443")
    assert bench.counted == [(TENANT, "f", 200)]


async def test_a_trace_goes_on_in_the_event() -> None:
    bench = Bench()
    await bench.ask(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    await bench.ask(more={"X-Amzn-Trace-Id": "Root=1-5e5fff5e-1;Sampled=1"})
    await bench.ask(traceparent="nonsense")
    told = [json.loads(request.payload)["headers"]["x-amzn-trace-id"] for request, _ in bench.functions.seen]
    assert told[0] == "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
    assert told[1] == "Root=1-5e5fff5e-1;Sampled=1"
    assert told[2].startswith("Root=1-")
    assert bench.functions.seen[2][1].trace_header == told[2]


@pytest.mark.parametrize(
    "host", [HOST.replace("0", "1"), HOST.replace(REGION, "eu-west-1"), "x" + HOST, f"{ID}.lambda-url.x.localhost"]
)
async def test_an_address_that_is_nobodys_tells_nothing(host: str) -> None:
    bench = Bench()
    response = await bench.ask(host=host)
    assert (response.status, response.body) == (403, b'{"Message":null}')
    assert not bench.functions.seen
    assert not bench.counted


async def test_a_policy_has_to_let_anybody_in() -> None:
    bench = Bench(policy=None)
    response = await bench.ask()
    assert (response.status, header(response, "x-amzn-errortype")) == (403, "AccessDeniedException")
    assert json.loads(response.body)["Message"].startswith("Forbidden. For troubleshooting")
    assert not bench.functions.seen
    assert bench.counted == [(TENANT, "f", 403)]


async def test_a_signature_lets_its_account_in() -> None:
    bench = Bench(IAM, policy=None)
    assert (await bench.ask("POST", "/x", b"body", region=REGION)).status == 200
    event = json.loads(bench.functions.seen[0][0].payload)
    assert event["requestContext"]["authorizer"]["iam"]["userArn"] == KEY.principal.arn
    refused = [
        await bench.ask(),
        await bench.ask(region=REGION, secret="wrong" * 8),
        await bench.ask(region="eu-west-1"),
    ]
    assert [response.status for response in refused] == [403, 403, 403]
    assert "does not match" in refused[1].body.decode()
    assert len(bench.functions.seen) == 1


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (AwsError("TooManyRequestsException", "Rate Exceeded."), 429, "Rate exceeded"),
        (AwsError("ServiceUnavailableException", "No worker has room."), 503, "No worker has room."),
        (AwsError("RequestEntityTooLargeException", "It is too large."), 413, "It is too large."),
        (AwsError("ResourceConflictException", "It is being made."), 502, None),
    ],
)
@pytest.mark.parametrize("mode", [BUFFERED, STREAMED])
async def test_what_cannot_run_is_told(error: AwsError, status: int, text: str | None, mode: str) -> None:
    bench = Bench(mode=mode)
    bench.functions.error = error
    response = await bench.ask()
    assert response.status == status
    told = response.body.decode()
    assert (told == "Internal Server Error") if text is None else (json.loads(told) == {"message": text})


async def test_a_function_that_fails_tells_nothing_of_why() -> None:
    bench = Bench()
    for answer in (
        pb.InvokeResponse(status_code=200, payload=b'{"errorMessage":"secret"}', function_error="Unhandled"),
        pb.InvokeResponse(status_code=200, payload=b'{"statusCode":"secret"}'),
    ):
        bench.functions.answer = answer
        response = await bench.ask()
        assert (response.status, response.body) == (502, b"Internal Server Error")


async def test_an_event_that_is_too_large_runs_nothing() -> None:
    bench = Bench(limits=Limits(sync_request_bytes=3000))
    assert (await bench.ask("POST", body=b"x" * 1000)).status == 200
    response = await bench.ask("POST", body=b"\xff" * 2999)  # as base64 it is a third larger
    assert response.status == 413
    assert len(bench.functions.seen) == 1
    head = HttpRequest("POST", b"/", b"", {b"host": HOST.encode()})
    assert bench.door.body_limit(head) == 3000
    assert bench.door.too_large(head, 3001).status == 413
    assert bench.door.refused(408, "slow").status == 408


async def test_browsers_of_other_sites() -> None:
    bench = Bench(IAM, cors=Cors(allow_origins=("https://a",), allow_methods=("PUT",)))
    preflight = await bench.ask("OPTIONS", Origin="https://a")
    assert (preflight.status, header(preflight, "access-control-allow-methods")) == (200, "PUT")
    assert not bench.functions.seen, "the function is not asked"
    answer = pb.InvokeResponse(payload=b'{"statusCode":200,"headers":{"access-control-allow-origin":"*","x-a":"b"}}')
    bench.functions.answer = answer
    response = await bench.ask("PUT", region=REGION, Origin="https://a")
    allowed = [value for name, value in response.headers if name.lower() == b"access-control-allow-origin"]
    assert (allowed, header(response, "x-a")) == ([b"https://a"], "b")
    forbidden = await bench.ask("PUT", Origin="https://a")
    assert (forbidden.status, header(forbidden, "access-control-allow-origin")) == (403, "https://a")
    # Without anything set for other sites the function answers such requests itself.
    own = Bench()
    assert (await own.ask("OPTIONS")).body == b"ran"


async def test_a_response_streams_behind_its_head() -> None:
    bench = Bench(mode=STREAMED)
    bench.functions.pieces = [b'{"statusCode":201,"headers":{"x-a"', b':"b"}}' + bytes(5), bytes(3) + b"one", b" two"]
    response = await bench.ask()
    assert response.pieces is not None
    assert (response.status, header(response, "x-a")) == (201, "b")
    assert await body_of(response) == b"one two"


async def test_a_stream_without_a_head_is_handed_on_as_it_is() -> None:
    bench = Bench(mode=STREAMED)
    bench.functions.kind, bench.functions.pieces = "text/plain", [b"{", b"}"]
    response = await bench.ask()
    assert (response.status, header(response, "content-type")) == (200, "text/plain")
    assert await body_of(response) == b"{}"


@pytest.mark.parametrize("pieces", [[], [b'{"statusCode":'], [b"no json" + bytes(8)], [b"x" * 70_000]])
async def test_a_stream_that_fails_before_its_head_is_a_failure(pieces: list[bytes]) -> None:
    bench = Bench(mode=STREAMED)
    bench.functions.pieces, bench.functions.fails = pieces, not pieces
    response = await bench.ask()
    assert (response.status, response.body, response.pieces) == (502, b"Internal Server Error", None)


async def test_a_stream_that_fails_later_is_cut_off() -> None:
    bench = Bench(mode=STREAMED)
    bench.functions.pieces, bench.functions.fails = [b"{}" + bytes(8) + b"one"], True
    response = await bench.ask()
    assert response.pieces is not None
    assert await anext(response.pieces) == b"one"
    with pytest.raises(Exception, match="Unhandled"):
        await anext(response.pieces)


async def test_a_status_without_a_body_has_none() -> None:
    bench = Bench(mode=STREAMED)
    bench.functions.pieces = [b'{"statusCode":204}' + bytes(8) + b"nobody reads this"]
    response = await bench.ask()
    assert (response.status, response.pieces) == (204, None)
