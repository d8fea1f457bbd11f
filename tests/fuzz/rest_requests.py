"""Requests for the two HTTP doors: REST and JSON 1.1."""

from __future__ import annotations

import base64
import random
from urllib.parse import quote

from lambent.v1 import options_pb2
from tests.fuzz import documents, signing
from tests.fuzz.requests import (
    ALIAS,
    OPERATIONS,
    WEIGHTS,
    Operation,
    RestCase,
    Sending,
    World,
    document,
    payload,
    spelling,
    subject,
)

_REST = [each for each in OPERATIONS if each.verb is not None]
_REST_WEIGHTS = [WEIGHTS.get(each.name, 1) for each in _REST]


def rest(rng: random.Random, number: int, world: World) -> RestCase:
    """One request for an HTTP door."""
    operation = rng.choices(_REST, _REST_WEIGHTS)[0]
    about = subject(rng, number, operation.name)
    tricks: list[str] = []
    name = about if rng.random() < 0.6 else spelling(rng, about)
    if name != about:
        tricks.append(f"name {name[:40]!r}")
    path = operation.path.replace("{function_name}", quote(name.encode("utf-8", "surrogatepass"), safe="$:"))
    path = path.replace("{name}", ALIAS if rng.random() < 0.8 else rng.choice(["7", "nobody", "%20", "a:b", "x" * 200]))
    path = path.replace("{statement_id}", rng.choice(["s", "s", "nobody", "a%20b", "x" * 200]))
    path = path.replace("{uuid}", rng.choice(["12345678-1234-1234-1234-123456789abc", "nobody", "a%20b", "x" * 200]))
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    path = path.replace(
        "{resource}", quote(arn.encode("utf-8", "surrogatepass"), safe="$:" if rng.random() < 0.5 else "")
    )
    headers: signing.Headers = [(b"Host", world.host.encode())]
    if operation.target:
        headers += _target_headers(rng, operation.target, tricks)
    query, body = _query(rng, operation), b""
    if operation.name in ("Invoke", "InvokeAsync"):
        body = payload(rng)
        headers += _invoke_headers(rng)
    elif operation.form:
        headers.append((b"Content-Type", b"application/x-www-form-urlencoded"))
        body = operation.form
        if rng.random() < 0.5:
            body = rng.choice(
                [body[: rng.randrange(len(body))], body + b"&" + body, body + b"&x=%ff" * 200, b"\xff" + body]
            )
            tricks.append("form")
    elif operation.verb in ("POST", "PUT"):
        members = document(rng, operation, name)
        if rng.random() < 0.6:
            members = documents.change(rng, members, operation.method.input_type)
            tricks.append("document")
        body = documents.text(members).encode("utf-8", "surrogatepass")
        if rng.random() < 0.15:
            body = documents.spoil(rng, body)
            tricks.append("JSON")
    method = operation.verb or "GET"
    target, answered = path.encode(), True
    if len(target) > 1 and rng.random() < 0.12:
        target, trick = _odd_path(rng, target)
        tricks.append(trick)
    if rng.random() < 0.06:
        # None of these changes anything under any path.
        method = rng.choice(
            ["HEAD", "OPTIONS", "PATCH", "TRACE", "GET", "PROPFIND", "get", "BREW", "CONNECT", "M-SEARCH"]
        )
        answered = method not in ("get", "BREW", "CONNECT")
        tricks.append(f"method {method}")
    by = signing.Signature(world.key, world.secret, world.now, service=operation.signing_name)
    headers, query = _proof(rng, by, method, target, query, headers, body, tricks)
    return _sent(rng, number, operation, about, method, target, query, headers, body, tricks, answered=answered)


def _query(rng: random.Random, operation: Operation) -> bytes:
    parts = []
    for each in operation.method.input_type.fields:
        rule = each.GetOptions().Extensions[options_pb2.field]
        if rule.location == options_pb2.LOCATION_QUERY and rng.random() < 0.3:
            value = rng.choice(
                ["1", "50", "$LATEST", ALIAS, "ALL", *documents.STRINGS, str(rng.choice(documents.NUMBERS))]
            )
            parts.append(f"{rule.name}={quote(value[:3000].encode('utf-8', 'surrogatepass'), safe='-_.~')}")
    if rng.random() < 0.04:
        parts.append(
            rng.choice(
                [
                    "",
                    "&&",
                    "=",
                    "x",
                    "%",
                    "%zz=%",
                    "a=%FF",
                    "Marker=%FF",
                    "Qualifier",
                    "Qualifier=a&Qualifier=b",
                    ";",
                    "%00=%00",
                    "a=" + "b" * 9000,
                ]
            )
        )
    return "&".join(parts).encode()


def _target_headers(rng: random.Random, target: str, tricks: list[str]) -> signing.Headers:
    if rng.random() < 0.08:
        tricks.append("target")
        known = target.encode()
        other = [b"", known[:-1], known.lower(), b"Lambda.Invoke", known + b".", b"x" * 9000, b"\xff"]
        known = rng.choice(other)
    else:
        known = target.encode()
    kind = b"application/x-amz-json-1.1" if rng.random() < 0.9 else rng.choice([b"", b"text/plain", b"\xff"])
    return [(b"X-Amz-Target", known), (b"Content-Type", kind)]


def _invoke_headers(rng: random.Random) -> signing.Headers:
    out: signing.Headers = []
    if rng.random() < 0.3:
        out.append((b"X-Amz-Log-Type", rng.choice([b"Tail", b"None", b"tail", b"", b"\xff"])))
    if rng.random() < 0.3:
        out.append(
            (
                b"X-Amz-Invocation-Type",
                rng.choice([b"RequestResponse", b"DryRun", b"Event", b"", b"event", b"x" * 70_000]),
            )
        )
    if rng.random() < 0.2:
        contexts = [
            base64.b64encode(b'{"custom": {}}'),
            b"***",
            b"",
            b"A" * 3584,
            b"A" * 3583,
            base64.b64encode(b"\xff"),
            base64.b64encode(b"[" * 2000),
            b"\xc3\x28",
        ]
        out.append((b"X-Amz-Client-Context", rng.choice(contexts)))
    if rng.random() < 0.15:
        out.append(
            (
                b"X-Amzn-Trace-Id",
                rng.choice(
                    [
                        b"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
                        b"Root=",
                        b"\xff",
                        b"x" * 5000,
                        b"Root=1-2-3;Parent=\xe2\x98\x83",
                    ]
                ),
            )
        )
    if rng.random() < 0.1:
        out.append(
            (b"traceparent", rng.choice([b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"00-0-0-0", b"\xff\xfe"]))
        )
    if rng.random() < 0.05:
        out.append(
            (
                rng.choice([b"X-Amz-Tenant-Id", b"X-Amz-Durable-Execution-Name"]),
                rng.choice([b"blue", b"", b"\xff", b"y" * 300]),
            )
        )
    return out


def _odd_path(rng: random.Random, path: bytes) -> tuple[bytes, str]:
    match rng.randrange(12):
        case 0:
            return path + b"/", "final slash"
        case 1:
            return path + b"//", "final slashes"
        case 2:
            return path.replace(b"/", b"//", rng.randint(1, 3)), "doubled slash"
        case 3:
            at = rng.randrange(1, len(path))
            return path[:at] + b"%%%02x" % path[at] + path[at + 1 :], "needless encoding"
        case 4:
            at = rng.randrange(1, len(path) + 1)
            return path[:at] + rng.choice(
                [b"%", b"%0", b"%zz", b"%00", b"%2F", b"%2e%2e", b"%FF", b"%C0%AF", b"%25", b"%u0041"]
            ) + path[at:], "odd encoding"
        case 5:
            return path + rng.choice([b"/..", b"/.", b"/../x", b"/./"]), "dots"
        case 6:
            return rng.choice(
                [
                    b"/",
                    b"/2015-03-31",
                    b"/2015-03-31/functions/x/y/z",
                    b"/2014-11-13/functions/x/invoke",
                    b"/favicon.ico",
                    b"/2018-10-31/layers/x",
                    b"//",
                ]
            ), "elsewhere"
        case 7:
            digest = rng.choice([b"", b"a" * 64, b"../../etc/passwd", b"%FF", "ü".encode()])
            # A question mark may be in it: what follows is then the query.
            proof = rng.choice(
                [
                    b"",
                    b"?expires=9999999999&signature=" + b"0" * 64,
                    b"?expires=%F0%9D%9F%98&signature=%C3%BC",
                    b"?expires=" + b"9" * 5000 + b"&signature=x",
                    b"?expires=1&signature=%FF",
                ]
            )
            return b"/_lambent/code/" + digest + proof, "package URL"
        case 8:
            return path + b"x" * rng.choice([600, 5000, 70_000]), "long path"
        case 9:
            return path + rng.choice([b"\xc3\xbc", b"\xff", b'"<>', b"^`{|}", b"\\"]), "raw bytes"
        case 10:
            return path.swapcase(), "case"
        case _:
            return path[: rng.randrange(1, len(path))], "cut path"


def _proof(
    rng: random.Random, by: signing.Signature, method: str, path: bytes, query: bytes, headers: signing.Headers, body: bytes,
    tricks: list[str],
) -> tuple[signing.Headers, bytes]:  # fmt: skip
    share = rng.random()
    if share < 0.06:
        tricks.append("wrong signer")
        by = signing.wrong_signer(rng, by)
    if share > 0.97 or (not body and share > 0.93):
        expires = rng.choice([60, 604_800, 0, -1, 604_801, 10**12]) if rng.random() < 0.5 else 60
        query = signing.in_query(by, method, path, query, headers, expires)
        tricks.append("presigned")
        if rng.random() < 0.4:
            query = documents.flipped(rng, query).replace(b" ", b"+").replace(b"\r", b"").replace(b"\n", b"")
            tricks.append("changed")
        return headers, query
    if share > 0.91:
        tricks.append("unsigned")
        return headers, query
    headers = signing.in_header(by, method, path, query, headers, body)
    if share > 0.84:
        tricks.append("garbled proof")
        headers = signing.garbled(rng, headers)
    return headers, query


def _sent(
    rng: random.Random, number: int, operation: Operation, subject: str, method: str, path: bytes, query: bytes,
    headers: signing.Headers, body: bytes, tricks: list[str], *, answered: bool,
) -> RestCase:  # fmt: skip
    """The bytes, and how they are sent."""
    target = path + b"?" + query if query else path
    version, framed = b"HTTP/1.1", body
    sending: Sending = "whole"
    extra: signing.Headers = [(b"Content-Length", b"%d" % len(body))] if body or method in ("POST", "PUT") else []
    # A body that is cut, or longer than what is said, is not for us to judge beyond: an answer or an end.
    if rng.random() < 0.14:
        trick, extra, framed, version, target = _framing(rng, body, extra, version, target)
        tricks.append(trick)
        sending, answered = "half closed", False
    lines = [b"%b %b %b" % (method.encode(), target, version)] if version else [b"%b %b" % (method.encode(), target)]
    wire = b"\r\n".join([*lines, *(name + b": " + value for name, value in [*headers, *extra]), b"", b""]) + framed
    cuts: tuple[int, ...] = ()
    share = rng.random()
    if share < 0.03:
        wire = wire[: rng.randrange(1, len(wire))]
        sending, answered = rng.choice(["half closed", "gone"]), False
        tricks.append(f"cut off, {sending}")
    elif share < 0.05:
        sending, answered = "gone", False
        tricks.append("gone")
    elif share < 0.07:
        wire, answered = documents.flipped(rng, wire), False
        sending = "half closed"
        tricks.append("bytes changed")
    elif share < 0.15:
        cuts = tuple(sorted(rng.randrange(len(wire)) for _ in range(rng.choice([1, 3, 20]))))
        sending = sending if sending != "whole" else "slices"
    elif share < 0.16 and method == "GET":
        wire, sending = wire + wire, "half closed"
        tricks.append("two at once")
    return RestCase(
        number, f"{operation.name}: {', '.join(tricks) or 'as it should be'}", operation.name, method, wire,
        sending,
        cuts, answered, subject,
    )  # fmt: skip


def _framing(
    rng: random.Random, body: bytes, extra: signing.Headers, version: bytes, target: bytes
) -> tuple[str, signing.Headers, bytes, bytes, bytes]:
    size = len(body)
    match rng.randrange(13):
        case 0:
            value = rng.choice(
                [
                    b"%d" % (size + 10),
                    b"%d" % max(0, size - 1),
                    b"-1",
                    b"+5",
                    b"0x10",
                    b"",
                    b"1e3",
                    b"9" * 30,
                    b"5, 5",
                    b"70167212",
                    b" ",
                    b"\xd9\xa3",
                ]
            )
            return f"content-length {value!r}", [(b"Content-Length", value)], body, version, target
        case 1:
            return (
                "two lengths",
                [*extra, (b"Content-Length", b"%d" % (size + rng.randrange(2)))],
                body,
                version,
                target,
            )
        case 2:
            return "chunks", [(b"Transfer-Encoding", b"chunked")], chunked(rng, body), version, target
        case 3:
            piece = rng.choice(
                [
                    b"zz\r\n",
                    b"-1\r\n",
                    b"FFFFFFFFFFFFFFFFFF\r\n",
                    b"5\r\nab",
                    b"0\r\n",
                    b"3\nabc\n0\n\n",
                    b"1;" + b"e" * 9000 + b"\r\nx\r\n",
                    b"",
                ]
            )
            return f"bad chunks {piece[:20]!r}", [(b"Transfer-Encoding", b"chunked")], piece, version, target
        case 4:
            return (
                "length and chunks",
                [*extra, (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")],
                chunked(rng, body),
                version,
                target,
            )
        case 5:
            coding = rng.choice(
                [b"gzip", b"identity", b"chunked, gzip", b"gzip, chunked", b"xchunked", b"chunked\x0b", b""]
            )
            return f"coding {coding!r}", [(b"Transfer-Encoding", coding)], chunked(rng, body), version, target
        case 6:
            trailers = rng.choice(
                [
                    b"X-Amz-Log-Type: Tail",
                    b"Content-Length: x",
                    b"Authorization: x",
                    b"Host: y",
                    b"T: " + b"t" * 50_000,
                    b"no colon",
                ]
            )
            return (
                f"trailer {trailers[:20]!r}",
                [(b"Transfer-Encoding", b"chunked")],
                chunked(rng, body)[:-2] + trailers + b"\r\n\r\n",
                version,
                target,
            )
        case 7:
            odd = rng.choice(
                [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.1 ", b"http/1.1", b"", b"HTTP/1.1\r\nX", b"ICE/1.0"]
            )
            return f"version {odd!r}", extra, body, odd, target
        case 8:
            value = rng.choice([b"100-continue", b"200-ok", b"", b"100-Continue, x"])
            return f"expect {value!r}", [*extra, (b"Expect", value)], body, version, target
        case 9:
            name, value = rng.choice(
                [
                    (b"Connection", b"Upgrade"),
                    (b"Connection", b"close"),
                    (b"Connection", b"keep-alive, x"),
                    (b"Upgrade", b"h2c"),
                    (b"HTTP2-Settings", b"AAMAAABkAAQ"),
                ]
            )
            return "connection", [*extra, (b"Connection", b"Upgrade"), (name, value)], body, version, target
        case 10:
            name, value = rng.choice([
                (b"no colon\r\nX", b"y"), (b"X\0", b"y"), (b"X", b"a\0b"), (b" X", b"folded"), (b"X", b"a\r\n b"), (b"", b"nameless"), (b"X ", b"y"), (b"X", b"a\nb"),
                (b"X", b"\x7f\x01"), (b"\xff", b"y"), (b"X", b"y" * 1_100_000), (b"X" * 70_000, b"y"),
            ])  # fmt: skip
            return f"header {name[:20]!r}", [*extra, (name, value)], body, version, target
        case 11:
            many = [(b"X-%d" % number, b"v") for number in range(rng.choice([100, 3000]))]
            return "many headers", [*extra, *many], body, version, target
        case _:
            odd = rng.choice(
                [
                    b"*",
                    b"http://other" + target,
                    b"http://[::1" + target,
                    b"other:80",
                    target + b"#fragment",
                    target + b" x",
                    target[1:],
                    b"\t" + target,
                    b"http://",
                ]
            )
            return f"target {odd[:20]!r}", extra, body, version, odd


def chunked(rng: random.Random, body: bytes) -> bytes:
    """A body in chunks of any size."""
    out, at = [], 0
    while at < len(body):
        size = rng.choice([1, 10, 1000, 100_000])
        piece = body[at : at + size]
        out.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += size
    return b"".join(out) + b"0\r\n\r\n"
