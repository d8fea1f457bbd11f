"""Payload format 2.0: requests as events, and what functions return as answers."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.domain.principals import Principal
from lambent.infra.http_messages import HttpRequest
from services.frontend.transport import http_events
from services.frontend.transport.http_events import Asked, MalformedAnswer

HOST = "abc.lambda-url.us-east-1.localhost:9001"
CALLER = Principal("AKID", "111111111111", "arn:aws:iam::111111111111:user/ada")


def event(
    method: str = "GET", path: bytes = b"/", query: bytes = b"", headers: dict[bytes, bytes] | None = None,
    body: bytes = b"", caller: Principal | None = None,
) -> dict[str, Any]:  # fmt: skip
    request = HttpRequest(method, path, query, {b"host": HOST.encode(), **(headers or {})}, body, "10.0.0.7:4711")
    asked = Asked("id-1", "abc", HOST, "http", "9001", caller, 1_583_348_638.39, "Root=1-5e5fff5e-0")
    made: dict[str, Any] = json.loads(http_events.event(request, asked))
    return made


def test_an_event_has_what_aws_says_of_a_request() -> None:
    agent = {b"user-agent": b"curl/8", b"cookie": b"a=1; b=2", b"x-many": b"1,2"}
    made = event(
        "POST", b"/my%20path/%C3%A4", b"p1=a&p1=b&p2=%26+c&q", {**agent, b"content-type": b"text/plain"}, b"hi"
    )
    assert made == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my path/ä",
        "rawQueryString": "p1=a&p1=b&p2=%26+c&q",
        "cookies": ["a=1", "b=2"],
        "queryStringParameters": {"p1": "a,b", "p2": "& c", "q": ""},
        "headers": {
            "host": HOST, "user-agent": "curl/8", "x-many": "1,2", "content-type": "text/plain",
            "x-forwarded-for": "10.0.0.7", "x-forwarded-proto": "http", "x-forwarded-port": "9001",
            "x-amzn-trace-id": "Root=1-5e5fff5e-0",
        },
        "requestContext": {
            "accountId": "anonymous", "apiId": "abc", "domainName": "abc.lambda-url.us-east-1.localhost",
            "domainPrefix": "abc", "requestId": "id-1", "routeKey": "$default", "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000", "timeEpoch": 1583348638390,
            "http": {
                "method": "POST", "path": "/my path/ä", "protocol": "HTTP/1.1", "sourceIp": "10.0.0.7",
                "userAgent": "curl/8",
            },
        },
        "body": "hi",
        "isBase64Encoded": False,
    }  # fmt: skip


def test_what_a_request_does_not_have_its_event_does_not_have() -> None:
    assert not {"body", "cookies", "queryStringParameters"} & event().keys()


def test_who_signed_is_told() -> None:
    context = event(caller=CALLER)["requestContext"]
    assert context["accountId"] == "111111111111"
    assert context["authorizer"]["iam"] == {
        "accessKey": "AKID", "accountId": "111111111111", "callerId": "AKID", "cognitoIdentity": None,
        "principalOrgId": None, "userArn": CALLER.arn, "userId": "AKID",
    }  # fmt: skip


def test_proxies_before_us_are_kept() -> None:
    headers = event(headers={b"x-forwarded-for": b"1.2.3.4", b"x-forwarded-proto": b"https"})["headers"]
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("1.2.3.4, 10.0.0.7", "https")


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("application/json; charset=utf-8", '{"ä":1}'.encode(), ('{"ä":1}', False)),
        ("application/vnd.api+json", b"{}", ("{}", False)),
        ("application/x-www-form-urlencoded", b"a=b", ("a=b", False)),
        ("TEXT/HTML", b"<p>", ("<p>", False)),
        ("image/png", b"\x89PNG", ("iVBORw==", True)),
        ("application/octet-stream", b"text", ("dGV4dA==", True)),
        ("text/plain", b"\xff", ("/w==", True)),
        (None, b"text", ("text", False)),
        (None, b"\xff", ("/w==", True)),
    ],
)
def test_bodies_are_text_or_base64(content_type: str | None, body: bytes, told: tuple[str, bool]) -> None:
    made = event("POST", headers={} if content_type is None else {b"content-type": content_type.encode()}, body=body)
    assert (made["body"], made["isBase64Encoded"]) == told


JSON = ("Content-Type", "application/json")


@pytest.mark.parametrize(
    ("returned", "status", "headers", "body"),
    [
        ({"statusCode": 201}, 201, [JSON], b""),
        ({"statusCode": "404", "body": "no"}, 404, [JSON], b"no"),
        ({"statusCode": 200, "headers": {"content-type": "text/plain"}}, 200, [("content-type", "text/plain")], b""),
        (
            {"statusCode": 200, "headers": {"X-N": 1, "X-B": True, "X-0": None, "Content-Length": "7"}},
            200, [("X-N", "1"), ("X-B", "true"), JSON], b"",
        ),
        ({"statusCode": 200, "cookies": ["a=1", "b=2"]}, 200, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), JSON], b""),
        ({"statusCode": 200, "body": "iVBORw==", "isBase64Encoded": True}, 200, [JSON], b"\x89PNG"),
        ({"statusCode": 200, "body": {"a": "ä"}}, 200, [JSON], '{"a":"ä"}'.encode()),
        ({"message": "hi", "list": [1, 2.50]}, 200, [JSON], b'{"message":"hi","list":[1,2.5]}'),
        (["hello", 3, True], 200, [JSON], b'["hello",3,true]'),
        ("text", 200, [JSON], b"text"),
        (3, 200, [JSON], b"3"),
        (None, 200, [JSON], b"null"),
        ({"statusCode": 403, "body": "cut \ud83d"}, 403, [JSON], b"cut ?"),
        ({"statusCode": 403, "body": {"n": float("nan")}}, 403, [JSON], b'{"n":NaN}'),
        ("cut \ud83d", 200, [JSON], b"cut ?"),
        ([float("nan")], 200, [JSON], b"[NaN]"),
    ],
)  # fmt: skip
def test_answers(returned: Any, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    made = http_events.answer(json.dumps(returned).encode())
    assert (made.status, made.headers, made.body) == (status, headers, body)


def test_a_header_with_half_a_pair_is_one() -> None:
    response = http_events.answer(json.dumps({"statusCode": 200, "headers": {"x": "\ud83d"}}).encode()).response()
    assert (b"x", b"?") in response.headers


@pytest.mark.parametrize(
    "returned",
    [
        {"statusCode": "abc"},
        {"statusCode": None},
        {"statusCode": True},
        {"statusCode": 200.5},
        {"statusCode": 100},
        {"statusCode": 600},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": [1]},
        {"statusCode": 200, "body": "no base64!", "isBase64Encoded": True},
    ],
)
def test_what_is_no_answer(returned: Any) -> None:
    with pytest.raises(MalformedAnswer):
        http_events.answer(json.dumps(returned).encode())


def test_a_streamed_response_begins_with_its_head() -> None:
    data = b'{"statusCode":201,"cookies":["a=1"]}' + bytes(8) + b"one two"
    for cut in range(data.index(bytes(8)) + 8):
        assert http_events.prelude(data[:cut]) is None
    found = http_events.prelude(data)
    assert found is not None
    head, body = found
    assert (head.status, head.headers, body) == (
        201, [("Set-Cookie", "a=1"), ("Content-Type", "application/octet-stream")], b"one two",
    )  # fmt: skip
    # Where nobody took it piece by piece it means the same.
    whole = http_events.answer(data)
    assert (whole.status, whole.body) == (201, b"one two")
    assert http_events.answer(b"\x00\x01").headers == [("Content-Type", "application/octet-stream")]
    for bad in (b"[]" + bytes(8), b"{" + bytes(8), b'{"statusCode":7}' + bytes(8)):
        with pytest.raises(MalformedAnswer):
            http_events.prelude(bad)


TEXT = st.text(max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ANSWERS = st.fixed_dictionaries(
    {"statusCode": st.integers(0, 700) | JSON_VALUES},
    optional={
        "headers": st.dictionaries(TEXT, JSON_VALUES, max_size=3) | JSON_VALUES,
        "cookies": st.lists(TEXT, max_size=2) | JSON_VALUES,
        "body": JSON_VALUES,
        "isBase64Encoded": st.booleans(),
    },
)


@given(
    st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40),
    st.sampled_from([b"text/plain", b"image/png", b"\xff", b";"]),
)  # fmt: skip
def test_any_request_is_an_event(path: bytes, query: bytes, cookie: bytes, body: bytes, kind: bytes) -> None:
    made = event("PUT", b"/" + path, query, {b"cookie": cookie, b"content-type": kind, b"x-any": cookie}, body)
    told = made.get("body", "")
    assert (base64.b64decode(told) if made["isBase64Encoded"] else told.encode()) == body


@given(ANSWERS | JSON_VALUES)
def test_anything_returned_is_an_answer_or_none(returned: Any) -> None:
    for payload in (json.dumps(returned).encode(), json.dumps(returned, ensure_ascii=False).encode()):
        try:
            response = http_events.answer(payload).response()
        except MalformedAnswer:
            continue
        assert 200 <= response.status <= 599
        assert all(isinstance(part, bytes) for header in response.headers for part in header)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_none(payload: bytes) -> None:
    with suppress(MalformedAnswer):
        assert 200 <= http_events.answer(payload).response().status <= 599


def test_what_is_set_for_other_sites_goes_before_what_the_function_says() -> None:
    ours = [("access-control-allow-origin", "https://a"), ("vary", "Origin")]
    told = http_events.with_cors([("Access-Control-Allow-Origin", "*"), ("Vary", "Accept"), ("X", "y")], ours)
    assert told == [("Vary", "Accept"), ("X", "y"), *ours]
