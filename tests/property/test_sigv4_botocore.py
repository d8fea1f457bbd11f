"""botocore is the oracle: whatever it signs is verified, and nothing that differs from it by one bit is."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambent.domain.errors import AwsError
from lambent.domain.principals import AccessKey, KeyRing
from lambent.infra.sigv4 import Verifier, parse_date

KEY = AccessKey.of_user("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "123456789012")
CREDENTIALS = Credentials(KEY.id, KEY.secret)

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
segment = text.map(lambda value: quote(value, safe="-_.~"))
paths = st.lists(segment, max_size=4).map(lambda parts: "/" + "/".join(parts))
queries = st.lists(st.tuples(text, text), max_size=4).map(
    lambda pairs: "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in pairs)
)
token = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=10)
header_value = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
headers = st.dictionaries(
    token.map(lambda name: "x-amz-t" + name), st.lists(header_value, min_size=1, max_size=3).map("  ".join), max_size=3
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE"])
regions = st.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"])
names = st.sampled_from(["lambda", "monitoring", "application-autoscaling"])


class Wire:
    """A signed request as a server sees it."""

    def __init__(self, request: Any) -> None:
        prepared = request.prepare()
        url = urlsplit(prepared.url)
        self.method: str = prepared.method
        self.path = (url.path or "/").encode()
        self.query = url.query.encode()
        self.headers = {
            key.lower().encode(): (value if isinstance(value, bytes) else value.encode())
            for key, value in prepared.headers.items()
        }
        self.headers[b"host"] = url.netloc.encode()
        self.body: bytes = prepared.body or b""

    def signed_at(self) -> float:
        date = self.headers.get(b"x-amz-date")
        if date is None:
            date = dict(part.split(b"=", 1) for part in self.query.split(b"&"))[b"X-Amz-Date"]
        epoch = parse_date(date)
        assert epoch is not None
        return epoch

    def verify(self, now: float | None = None) -> Any:
        verifier = Verifier(KeyRing([KEY]), skew_seconds=300, presigned_max_seconds=604800)
        body_hash = sha256(self.body).hexdigest().encode()
        return verifier.verify(
            self.method, self.path, self.query, self.headers, body_hash, self.signed_at() if now is None else now
        )


def signed(
    method: str, path: str, query: str, extra: dict[str, str], body: bytes, region: str, service: str, presign: bool
) -> Wire:
    url = "http://localhost:8080" + path + ("?" + query if query else "")
    # botocore's presigner moves a body into the query.
    request = AWSRequest(method, url, data=b"" if presign else body, headers=extra)
    auth = SigV4QueryAuth(CREDENTIALS, service, region, 60) if presign else SigV4Auth(CREDENTIALS, service, region)
    auth.add_auth(request)
    return Wire(request)


requests = st.builds(
    signed,
    methods,
    paths,
    queries,
    headers,
    st.binary(max_size=40),
    regions,
    names,
    st.booleans(),
)


@given(requests)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_what_botocore_signs_is_verified(wire: Wire) -> None:
    assert wire.verify().key is KEY


@given(requests, st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_one_flipped_bit_is_not(wire: Wire, data: st.DataObject) -> None:
    now = wire.signed_at()
    places = ["path", "query", "body", "method"]
    covered = [b"host", b"x-amz-date", *(name for name in wire.headers if name.startswith(b"x-amz-t"))]
    places += [name.decode() for name in covered if name in wire.headers]
    if b"authorization" in wire.headers:
        places.append("signature")
    place = data.draw(st.sampled_from(places))
    if place == "method":
        wire.method = "PATCH"
    elif place == "signature":
        whole = wire.headers[b"authorization"]
        start = whole.index(b"Signature=") + len(b"Signature=")
        wire.headers[b"authorization"] = whole[:start] + flip(whole[start:], data)
    elif place in ("path", "query", "body"):
        value = getattr(wire, place)
        if not value:
            return
        setattr(wire, place, flip(value, data))
        if place == "path" and same_path(value, wire.path):
            return
        if place == "query" and same_query(value, wire.query):
            return
    else:
        value = wire.headers[place.encode()]
        changed = flip(value, data)
        if changed.split() == value.split():
            return
        wire.headers[place.encode()] = changed
    with pytest.raises(AwsError):
        wire.verify(now)


def flip(value: bytes, data: st.DataObject) -> bytes:
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def same_path(before: bytes, after: bytes) -> bool:
    """Canonical paths lose dot segments and doubled slashes; the router accepts neither."""

    def segments(path: bytes) -> list[bytes]:
        kept: list[bytes] = []
        for each in path.split(b"/"):
            if each == b"..":
                del kept[-1:]
            elif each not in (b"", b"."):
                kept.append(each)
        return kept

    return segments(before) == segments(after)


def same_query(before: bytes, after: bytes) -> bool:
    """Two spellings of one query: %2d and %2D, %41 and A."""

    def pairs(query: bytes) -> list[tuple[bytes, bytes]]:
        parts = [part.partition(b"=") for part in query.split(b"&") if part]
        return sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in parts)

    return pairs(before) == pairs(after)
