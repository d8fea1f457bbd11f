"""An HTTP request as an event, and what a function returns as an HTTP answer: payload format 2.0. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html, and answers that AWS gave.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, unquote_plus

import msgspec

from lambent.domain.principals import Principal
from lambent.infra.http_messages import MONTHS, HttpRequest, HttpResponse

JSON = "application/json"
OCTETS = "application/octet-stream"
# The content type of a streamed response that begins with a document about the answer, and what stands behind that.
INTEGRATION = "application/vnd.awslambda.http-integration-response"
SEPARATOR = bytes(8)

_TEXT = re.compile(
    r"text/.*|application/(json|javascript|x-javascript|ecmascript|xml|yaml|x-yaml|graphql|x-www-form-urlencoded)"
    r"|.*\+(json|xml|yaml)"
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# The server's own to set: how an answer is framed is not the function's to say.
_FRAMING = frozenset({"connection", "content-length", "date", "keep-alive", "transfer-encoding", "upgrade"})


class MalformedAnswer(Exception):
    """What a function returned for an HTTP answer is none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request beside what it says."""

    request_id: str
    url_id: str
    host: str
    scheme: str  # of the address
    port: str
    caller: Principal | None  # who signed it
    epoch: float  # seconds
    trace: str  # X-Amzn-Trace-Id


@dataclass(slots=True)
class Answer:
    """What a function answers."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def response(self) -> HttpResponse:
        """As the server sends it."""
        headers = [
            (name.encode("latin-1", "replace"), value.encode("utf-8", "replace")) for name, value in self.headers
        ]
        return HttpResponse(self.status, headers, self.body)


def event(request: HttpRequest, asked: Asked) -> bytes:
    """The event of a request, as JSON."""
    source, query = _address_of(request.peer), request.raw_query.decode("latin-1")
    headers = {
        name.decode("latin-1"): value.decode("utf-8", "replace")
        for name, value in request.headers.items()
        if name != b"cookie"
    }
    path = unquote(request.raw_path.decode("latin-1"))
    agent = headers.get("user-agent", "")
    forwarded = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = source if forwarded is None else f"{forwarded}, {source}"
    headers.setdefault("x-forwarded-proto", asked.scheme)
    headers.setdefault("x-forwarded-port", asked.port)
    headers["x-amzn-trace-id"] = asked.trace
    context: dict[str, Any] = {
        "accountId": "anonymous" if asked.caller is None else asked.caller.account,
        "apiId": asked.url_id,
        "domainName": asked.host.partition(":")[0],
        "domainPrefix": asked.url_id,
        "http": {
            "method": request.method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": source,
            "userAgent": agent,
        },
        "requestId": asked.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": _time(asked.epoch),
        "timeEpoch": int(asked.epoch * 1000),
    }
    if asked.caller is not None:
        context["authorizer"] = {"iam": _identity(asked.caller)}
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": False,
    }
    cookie = request.headers.get(b"cookie")
    if cookie:
        document["cookies"] = [each.strip() for each in cookie.decode("utf-8", "replace").split(";") if each.strip()]
    if query:
        document["queryStringParameters"] = _parameters(query)
    if request.body:
        document["body"], document["isBase64Encoded"] = _body(request.body, headers.get("content-type"))
    return msgspec.json.encode(document)


def answer(payload: bytes) -> Answer:
    """What a response means that came whole. Raises MalformedAnswer."""
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        try:
            # What only Python's own takes, and runtimes write: half of a surrogate pair, NaN.
            found = json.loads(payload.decode())
        except (ValueError, RecursionError):
            return _streamed_whole(payload)
    if isinstance(found, dict) and "statusCode" in found:
        made = head(found)
        made.body = _body_of(found)
        return made
    if isinstance(found, str):
        return Answer(200, [("Content-Type", JSON)], found.encode("utf-8", "replace"))
    with suppress(msgspec.DecodeError):
        payload = msgspec.json.format(payload, indent=-1)
    return Answer(200, [("Content-Type", JSON)], payload)


def prelude(data: bytes) -> tuple[Answer, bytes] | None:
    """The head that a streamed response begins with, and what has come of the body. None: not all of the head is there.

    Raises MalformedAnswer.
    """
    document, separator, rest = data.partition(SEPARATOR)
    if not separator:
        return None
    try:
        found = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError):
        raise MalformedAnswer("the head of the response is no JSON") from None
    if not isinstance(found, dict):
        raise MalformedAnswer("the head of the response is no object")
    return head({"statusCode": 200, **found}, OCTETS), rest


def head(found: Mapping[str, Any], content_type: str = JSON) -> Answer:
    """Status and headers that a function gave; `content_type`: where it gave none. Raises MalformedAnswer."""
    status = found["statusCode"]
    if isinstance(status, str) and status.isdecimal() and len(status) == 3:
        status = int(status)
    if type(status) is not int or not 200 <= status <= 599:
        raise MalformedAnswer("statusCode is no status of an answer")
    made = Answer(status)
    headers = found.get("headers")
    if headers is not None and not isinstance(headers, dict):
        raise MalformedAnswer("headers is no object")
    for name, value in (headers or {}).items():
        if value is None or name.lower() in _FRAMING:
            continue
        if not _TOKEN.fullmatch(name) or isinstance(value, dict | list):
            raise MalformedAnswer(f"{name!r} is no header")
        made.headers.append((name, _header(value)))
    cookies = found.get("cookies")
    if cookies is not None and not (isinstance(cookies, list) and all(isinstance(each, str) for each in cookies)):
        raise MalformedAnswer("cookies is no list of strings")
    made.headers += [("Set-Cookie", each) for each in cookies or ()]
    if not any(name.lower() == "content-type" for name, _ in made.headers):
        made.headers.append(("Content-Type", content_type))
    return made


def with_cors(headers: list[tuple[str, str]], cors: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers of an answer with what is set for other sites, which goes before what the function says of it."""
    ours = list(cors)
    names = {name for name, _ in ours if name != "vary"}
    return [header for header in headers if header[0].lower() not in names] + ours


def _streamed_whole(payload: bytes) -> Answer:
    """A streamed response of which nothing was sent before its end."""
    found = prelude(payload) if payload.startswith(b"{") else None
    if found is None:
        return Answer(200, [("Content-Type", OCTETS)], payload)
    made, body = found
    made.body = body
    return made


def _body_of(found: Mapping[str, Any]) -> bytes:
    body = found.get("body")
    if body is None:
        return b""
    text = body if isinstance(body, str) else _text(body)
    if found.get("isBase64Encoded") is not True:
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedAnswer("body is no base64 text") from None


def _body(body: bytes, content_type: str | None) -> tuple[str, bool]:
    """The body as text, and whether that is base64."""
    kind = "" if content_type is None else content_type.partition(";")[0].strip().lower()
    if not kind or _TEXT.fullmatch(kind):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            found.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return {name: ",".join(values) for name, values in found.items()}


def _identity(caller: Principal) -> dict[str, Any]:
    return {
        "accessKey": caller.access_key_id,
        "accountId": caller.account,
        "callerId": caller.access_key_id,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": caller.arn,
        "userId": caller.access_key_id,
    }


def _header(value: Any) -> str:
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _address_of(peer: str) -> str:
    """Without the port."""
    return peer.rpartition(":")[0].strip("[]") or peer


def _time(epoch: float) -> str:
    """`12/Mar/2020:19:03:58 +0000`."""
    t = datetime.fromtimestamp(epoch, UTC)
    return f"{t.day:02}/{MONTHS[t.month - 1]}/{t.year}:{t.hour:02}:{t.minute:02}:{t.second:02} +0000"
