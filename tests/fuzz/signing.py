"""Signature Version 4 from the client's side, and the ways to get it wrong."""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

from lambent.infra.sigv4 import canonical_path, signing_key

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signs, and for what."""

    key: str
    secret: str
    now: float
    region: str = "us-east-1"
    service: str = "lambda"
    terminator: str = "aws4_request"
    scope_date: str | None = None  # None: the day of `now`

    @property
    def time(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).strftime("%Y%m%dT%H%M%SZ")

    @property
    def scope(self) -> str:
        return f"{self.scope_date or self.time[:8]}/{self.region}/{self.service}/{self.terminator}"

    def of(self, method: str, path: bytes, query: bytes, headers: Headers, names: list[bytes], payload: bytes) -> str:
        """Hexadecimal signature over these headers; `payload` is the hash of the body."""
        values = {name.lower(): b" ".join(value.split()) for name, value in headers}
        pairs = sorted(part.partition(b"=") for part in query.split(b"&") if part)
        canonical = b"\n".join(
            [
                method.encode("latin-1"),
                canonical_path(path),
                b"&".join(name + b"=" + value for name, _, value in pairs),
                *(name + b":" + values.get(name, b"") for name in names),
                b"",
                b";".join(names),
                payload,
            ]
        )
        digest = hashlib.sha256(canonical).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self.time}\n{self.scope}\n{digest}".encode()
        date = (self.scope_date or self.time[:8]).encode()
        key = signing_key(self.secret, date, self.region.encode(), self.service.encode())
        return hmac.digest(key, text, "sha256").hex()


def in_header(by: Signature, method: str, path: bytes, query: bytes, headers: Headers, body: bytes) -> Headers:
    """The headers with X-Amz-Date and Authorization."""
    headers = [*headers, (b"X-Amz-Date", by.time.encode())]
    names = sorted({name.lower() for name, _ in headers if name.lower() == b"host" or name.lower().startswith(b"x-")})
    digest = hashlib.sha256(body).hexdigest().encode()
    signature = by.of(method, path, query, headers, names, digest)
    credential = f"AWS4-HMAC-SHA256 Credential={by.key}/{by.scope}, SignedHeaders=".encode()
    return [*headers, (b"Authorization", credential + b";".join(names) + b", Signature=" + signature.encode())]


def in_query(by: Signature, method: str, path: bytes, query: bytes, headers: Headers, expires: int) -> bytes:
    """The query of a presigned request without a body."""
    proof = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{by.key}/{by.scope}",
        "X-Amz-Date": by.time,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    parts = [query] if query else []
    parts += [f"{name}={quote(value, safe='-_.~')}".encode() for name, value in proof.items()]
    whole = b"&".join(parts)
    nothing = hashlib.sha256(b"").hexdigest().encode()
    return whole + b"&X-Amz-Signature=" + by.of(method, path, whole, headers, [b"host"], nothing).encode()


SIGNER_TRICKS = ("key", "secret", "old", "ahead", "region", "service", "terminator", "scope date")


def wrong_signer(rng: random.Random, by: Signature) -> Signature:
    """Somebody who may not."""
    match rng.choice(SIGNER_TRICKS):
        case "key":
            return replace(by, key=rng.choice(["AKIDNOBODY", "", "ü", "x" * 3000, "a/b"]))
        case "secret":
            return replace(by, secret=by.secret + "x")
        case "old":
            return replace(by, now=by.now - rng.choice([301, 3600, 86_400 * 400]))
        case "ahead":
            return replace(by, now=by.now + rng.choice([330, 86_400, 86_400 * 36_500]))
        case "region":
            return replace(by, region=rng.choice(["", "nowhere", "us-east-1%00", "US-EAST-1", "*", "us-east-11"]))
        case "service":
            return replace(by, service=rng.choice(["s3", "", "Lambda", "lambda "]))
        case "terminator":
            return replace(by, terminator=rng.choice(["aws3_request", "", "aws4_request/x"]))
        case _:
            return replace(by, scope_date=rng.choice(["20000101", "", "99999999", "today"]))


def garbled(rng: random.Random, headers: Headers) -> Headers:
    """Proof that is there but not as it should be."""
    out: Headers = []
    trick = rng.choice(
        ["flip", "cut", "twice", "scheme", "empty", "no date", "odd date", "hash", "unsigned", "parameter"]
    )
    for name, value in headers:
        if name == b"Authorization":
            match trick:
                case "flip":
                    at = rng.randrange(len(value))
                    value = value[:at] + bytes([rng.choice(b"0aZ=,/ ;\xff")]) + value[at + 1 :]
                case "cut":
                    value = value[: rng.randrange(len(value))]
                case "twice":
                    out.append((name, value))
                case "scheme":
                    value = rng.choice([b"Bearer x", b"AWS4-HMAC-SHA1" + value[16:], b"Basic eDp5", value.lower()])
                case "empty":
                    value = b""
                case "parameter":
                    value += rng.choice(
                        [b", Signature=" + b"0" * 64, b", X", b",,,", b", Credential=a/b/c/d/e", b"=" * 999]
                    )
        if name == b"X-Amz-Date":
            if trick == "no date":
                continue
            if trick == "odd date":
                value = rng.choice([b"", b"now", b"20261332T256199Z", b"00000000T000000Z", b"9" * 5000, b"\xff"])
        out.append((name, value))
    if trick == "hash":
        out.append(
            (
                b"X-Amz-Content-Sha256",
                rng.choice([b"", b"UNSIGNED-PAYLOAD", b"0" * 64, b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"]),
            )
        )
    if trick == "unsigned":
        out.append((b"X-Amz-Invocation-Type", b"DryRun"))
    return out
