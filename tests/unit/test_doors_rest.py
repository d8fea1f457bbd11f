"""The REST door below what AWS's clients show: routing, presigned requests, refusals in AWS's envelope."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.domain.limits import Limits
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.http import HttpRequest, HttpResponse
from lambent.infra.sigv4 import Verifier
from services.frontend.transport.dispatch import Dispatch, DispatchError
from services.frontend.transport.rest_door import RestDoor
from services.frontend.transport.routes import Match, RouteTable
from tests.unit.doors_support import KEY, KEYS, REGION, EchoFunctions, both_doors, services

FUNCTIONS = "/2015-03-31/functions"


class Bench:
    """A door without sockets."""

    def __init__(self, limits: Limits | None = None, regions: set[str] | None = None) -> None:
        limits = limits or Limits()
        echoes = services()
        assert isinstance(echoes[0][1], EchoFunctions)
        self.functions = echoes[0][1]
        self.outcomes: list[tuple[str, str]] = []
        clock = SystemClock()
        self.door = RestDoor(
            Dispatch(echoes, clock=clock, observe=lambda name, outcome: self.outcomes.append((name, outcome))),
            lambda name: Verifier(KEYS, skew_seconds=300, presigned_max_seconds=3600, services={name}, regions=regions),
            clock=clock,
            ids=SystemIds(),
            limits=limits,
            plain={"/_lambent/": self._plain},
        )

    async def _plain(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, [], request.raw_path)

    async def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> HttpResponse:
        """Signed by header."""
        request = AWSRequest(
            method, "http://h" + target, data=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        SigV4Auth(Credentials(KEY.id, KEY.secret), "lambda", REGION).add_auth(request)
        return await self.raw(method, target, body, dict(request.headers))

    async def raw(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> HttpResponse:
        path, _, query = target.encode().partition(b"?")
        low = {name.lower().encode(): value.encode() for name, value in headers.items()}
        return await self.door.handle(HttpRequest(method, path, query, {**low, b"host": b"h"}, body))


def error(response: HttpResponse) -> tuple[int, str, Any]:
    headers = dict(response.headers)
    assert len(headers[b"x-amzn-RequestId"]) == 36
    return response.status, headers[b"x-amzn-ErrorType"].decode(), json.loads(response.body)


@pytest.mark.parametrize("target", [f"{FUNCTIONS}/", FUNCTIONS, f"{FUNCTIONS}/?Marker=1"])
async def test_a_final_slash_makes_no_difference(target: str) -> None:
    assert (await Bench().send("GET", target)).status == 200


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_the_deprecated_invocation_is_served_as_old_clients_spell_it(end: str, body: bytes) -> None:
    response = await Bench().send("POST", f"/2014-11-13/functions/f/invoke-async{end}", body)
    assert (response.status, response.body) == (202, b"")


async def test_an_encoded_arn_is_one_segment_and_decoded_once() -> None:
    bench = Bench()
    assert (
        await bench.send("GET", f"{FUNCTIONS}/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af")
    ).status == 200
    assert bench.functions.seen[0][0].function_name == "arn:aws:lambda:us-east-1:123456789012:function:f"
    assert error(await bench.send("GET", f"{FUNCTIONS}/a%252Fb"))[1] == "ValidationException"
    assert error(await bench.send("GET", f"{FUNCTIONS}/%FF"))[1] == "SerializationException"


@pytest.mark.parametrize(
    "path", ["/", "/nothing", f"{FUNCTIONS}/f/nothing", f"{FUNCTIONS}//invocations", f"{FUNCTIONS}/..", f"/{FUNCTIONS}"]
)
async def test_unknown_paths(path: str) -> None:
    assert error(await Bench().send("POST", path))[:2] == (404, "UnknownOperationException")


async def test_wrong_method_names_the_right_ones() -> None:
    response = await Bench().send("PATCH", FUNCTIONS)
    assert error(response)[:2] == (405, "MethodNotAllowedException")
    assert dict(response.headers)[b"Allow"] == b"GET, POST"


async def test_no_signature() -> None:
    answer = error(await Bench().raw("GET", FUNCTIONS, b"", {}))
    assert answer == (403, "MissingAuthenticationTokenException", {"message": "Missing Authentication Token"})


async def test_a_changed_body_is_not_what_was_signed() -> None:
    bench = Bench()
    request = AWSRequest("POST", f"http://h{FUNCTIONS}", data=b"{}")
    SigV4Auth(Credentials(KEY.id, KEY.secret), "lambda", REGION).add_auth(request)
    answer = error(await bench.raw("POST", FUNCTIONS, b"{ }", dict(request.headers)))
    assert answer[:2] == (403, "InvalidSignatureException")
    assert bench.functions.seen == []


async def test_presigned_get() -> None:
    bench = Bench()
    request = AWSRequest("GET", f"http://h{FUNCTIONS}/f?Qualifier=%24LATEST")
    SigV4QueryAuth(Credentials(KEY.id, KEY.secret), "lambda", REGION, 60).add_auth(request)
    url = urlsplit(request.url)
    response = await bench.raw("GET", f"{url.path}?{url.query}", b"", {})
    assert response.status == 200
    assert bench.functions.seen[0][0].qualifier == "$LATEST"
    answer = error(await bench.raw("GET", f"{url.path}?{url.query.replace('LATEST', 'OTHER')}", b"", {}))
    assert answer[1] == "InvalidSignatureException"


async def test_only_configured_regions() -> None:
    answer = error(await Bench(regions={"eu-west-1"}).send("GET", FUNCTIONS))
    assert answer[2] == {"message": "Credential should be scoped to a valid region."}


async def test_trace_headers() -> None:
    bench = Bench()
    await bench.send("GET", FUNCTIONS, traceparent="00-1-2-01")
    await bench.send("GET", FUNCTIONS, traceparent="00-1-2-01", X_Amzn_Trace_Id="Root=1-2-3")
    await bench.send("GET", FUNCTIONS)
    assert [call.trace_header for _, call in bench.functions.seen] == ["00-1-2-01", "Root=1-2-3", None]


async def test_plain_handlers_answer_beside_the_api() -> None:
    response = await Bench().raw("GET", "/_lambent/code/x", b"", {})
    assert (response.status, response.body) == (200, b"/_lambent/code/x")


async def test_bodies_over_the_limit_in_the_operations_words() -> None:
    limits = Limits(sync_request_bytes=10, control_request_bytes=20)
    door = Bench(limits).door
    invoke = HttpRequest("POST", f"{FUNCTIONS}/f/invocations".encode(), b"", {b"x-amz-invocation-type": b"Event"})
    create = HttpRequest("POST", FUNCTIONS.encode(), b"", {})
    assert (door.body_limit(invoke), door.body_limit(create)) == (10, 20)
    text = "11 byte payload is too large for the Event invocation type (limit 10 bytes)"
    assert error(door.too_large(invoke, 11))[2] == {"Type": "User", "message": text}
    status, _, body = error(door.too_large(create, 21))
    assert (status, body["message"]) == (413, "Request must be smaller than 20 bytes for the CreateFunction operation")


async def test_what_http_refuses_has_the_envelope_too() -> None:
    async with both_doors() as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.http_port)
        writer.write(b"rubbish\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
    assert answer.startswith("HTTP/1.1 400 ")
    assert "x-amzn-RequestId: " in answer


def test_routes_with_a_required_query_are_tried_first() -> None:
    [route] = [each for each in Bench().door.routes if each.entry.name == "GetFunction"]
    all_of = dataclasses.replace(route, required_query=frozenset({("List", "ALL")}))
    match = Match({"GET": [all_of, route]}, ())
    assert match.choose("GET", b"a=1&List=ALL") is all_of
    assert match.choose("GET", b"List=ONE") is route
    assert match.choose("GET", b"") is route
    assert match.choose("PUT", b"") is None
    assert Match({"GET": [all_of]}, ()).choose("GET", b"") is None


def test_two_rpcs_cannot_claim_one_route() -> None:
    entries = list(Dispatch(services(), clock=SystemClock()).entries.values())
    with pytest.raises(DispatchError, match="are both POST /2015-03-31/functions"):
        RouteTable([*entries, entries[0]])


def test_what_has_a_path_is_served_and_nothing_else() -> None:
    table = RouteTable(Dispatch(services(), clock=SystemClock()).entries.values())
    assert {route.entry.name for route in table.routes} == {
        "CreateFunction",
        "GetFunction",
        "GetFunctionConfiguration",
        "GetFunctionCodeSigningConfig",
        "ListFunctions",
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
        "DeleteFunction",
        "Invoke",
        "InvokeAsync",
        "InvokeWithResponseStream",
    }


async def test_what_ends_before_an_operation_is_counted_too() -> None:
    bench = Bench()
    await bench.send("GET", "/nothing")
    await bench.send("PATCH", FUNCTIONS)
    await bench.raw("GET", FUNCTIONS, b"", {})
    await bench.send("POST", FUNCTIONS, b"{")
    await bench.send("GET", FUNCTIONS)
    bench.door.too_large(HttpRequest("POST", FUNCTIONS.encode(), b"", {}), 1 << 40)
    bench.door.refused(400, "rubbish")
    bench.door.unwelcome(HttpRequest("POST", FUNCTIONS.encode(), b"", {}))
    assert bench.outcomes == [
        ("-", "UnknownOperationException"),
        ("-", "MethodNotAllowedException"),
        ("ListFunctions", "MissingAuthenticationTokenException"),
        ("CreateFunction", "SerializationException"),
        ("ListFunctions", "OK"),
        ("CreateFunction", "RequestEntityTooLargeException"),
        ("-", "BadRequestException"),
        ("CreateFunction", "MissingAuthenticationTokenException"),
    ]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, None),
        ({"key": "AKIDNOBODY"}, "UnrecognizedClientException"),
        ({"secret": "wrong"}, None),  # only the body tells
        ({"service": "s3"}, "InvalidSignatureException"),
        ({"path": "/nothing"}, "UnknownOperationException"),
        ({"method": "PATCH"}, "MethodNotAllowedException"),
        ({"path": "/_lambent/code/x"}, None),
    ],
)
def test_what_a_head_alone_rules_out(change: dict[str, str], name: str | None) -> None:
    it = {"key": KEY.id, "secret": KEY.secret, "service": "lambda", "path": FUNCTIONS, "method": "POST"} | change
    request = AWSRequest(it["method"], f"http://h{it['path']}", data=b"x")
    SigV4Auth(Credentials(it["key"], it["secret"]), it["service"], REGION).add_auth(request)
    headers = {key.lower().encode(): value.encode() for key, value in request.headers.items()}
    answer = Bench().door.unwelcome(HttpRequest(it["method"], it["path"].encode(), b"", {**headers, b"host": b"h"}))
    assert (None if answer is None else error(answer)[1]) == name


async def test_no_room_for_bodies_says_when_to_come_again() -> None:
    response = Bench().door.refused(503, "full")
    assert error(response) == (503, "ServiceUnavailableException", {"Type": "Service", "Message": "full"})
    assert dict(response.headers)[b"Retry-After"] == b"1"
