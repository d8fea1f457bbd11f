"""Verifies AWS Signature Version 4, in a header or in the query (presigned), for any service and region.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. The canonical
request is made from the raw path and query: what was decoded cannot be put back as it was signed. The path is encoded
a second time, as every service but S3 has it.

A wrong signature and an unknown key are told apart by name, as AWS does, but not by the work that is done: an unknown
key is verified to the end with a secret that nobody has. All is bytes and pure; `now` is a parameter. About 13 µs
for a 300-byte body.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

from lambent.domain.errors import AwsError
from lambent.domain.names import REGION_PATTERN
from lambent.domain.principals import AccessKey, KeyRing

_ALGORITHM = b"AWS4-HMAC-SHA256"
_UNSIGNED = b"UNSIGNED-PAYLOAD"
_EMPTY_HASH = sha256(b"").hexdigest().encode()
_DATE = re.compile(rb"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z")
_SIGNATURE = re.compile(rb"[0-9a-f]{64}")
_REGION = re.compile(REGION_PATTERN)
_PLAIN_PATH = re.compile(rb"/(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?")
_PLAIN_QUERY = re.compile(rb"(?:[A-Za-z0-9_.~=&-]|%[0-9A-F]{2})*")

_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Verified:
    """Whose signature it is, and the scope that it was made for."""

    key: AccessKey
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a request brings to be verified."""

    credential: bytes
    signed_headers: bytes
    signature: bytes
    date: bytes
    expires: int | None  # seconds; presigned only
    query: bytes  # without the signature


class Verifier:
    """Verifies requests against a key ring."""

    def __init__(
        self,
        keys: KeyRing,
        *,
        skew_seconds: float,
        presigned_max_seconds: int,
        services: Collection[str] | None = None,
        regions: Collection[str] | None = None,
        decoy: str = "no key has this secret",
    ) -> None:
        """`services`, `regions`: the only ones that a scope may name; None: any. `decoy`: secret of unknown keys."""
        self._keys = keys
        self._skew = skew_seconds
        self._presigned_max = presigned_max_seconds
        self._services = None if services is None else frozenset(services)
        self._regions = None if regions is None else frozenset(regions)
        self._decoy = decoy
        # Per instance, so that secrets are gone with the verifier.
        self._signing_key: Callable[[str, bytes, bytes, bytes], bytes] = lru_cache(maxsize=1024)(signing_key)
        self._canonical_path: Callable[[bytes], bytes] = lru_cache(maxsize=1024)(canonical_path)
        self._epoch: Callable[[bytes], float | None] = lru_cache(maxsize=64)(parse_date)

    def verify(
        self,
        method: str,
        raw_path: bytes,
        raw_query: bytes,
        headers: Mapping[bytes, bytes],
        body_hash: bytes,
        now: float,
    ) -> Verified:
        """The signer. `body_hash`: lower-case hex SHA-256 of the body; `now`: epoch seconds. Raises AwsError."""
        authorization = headers.get(b"authorization")
        if authorization is not None:
            proof = _from_header(authorization, headers, raw_query)
        elif b"X-Amz-Signature" in raw_query or b"X-Amz-Algorithm" in raw_query:
            proof = self._from_query(raw_query)
        else:
            raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
        scope = proof.credential.split(b"/")
        if len(scope) != 5:
            raise _invalid(
                "Credential must have exactly 5 slash-delimited elements, "
                "e.g. keyid/date/region/service/term, got a different number"
            )
        key_id, date, region, service, terminator = scope
        self._check_scope(scope, proof, now)
        payload_hash = _payload_hash(headers, body_hash, presigned=proof.expires is not None)
        key = self._keys.find(key_id.decode("latin-1"))
        secret = self._signing_key(key.secret if key is not None else self._decoy, date, region, service)
        head = _canonical_head(
            method, self._canonical_path(raw_path) if len(raw_path) < 512 else canonical_path(raw_path)
        )
        tail = _canonical_headers(proof.signed_headers, headers) + payload_hash
        scope_text = b"\n" + proof.date + b"\n" + date + b"/" + region + b"/" + service + b"/" + terminator + b"\n"
        genuine = False
        for query in _canonical_queries(proof.query):
            digest = sha256(head + query + tail).hexdigest().encode()
            expected = hmac.digest(secret, _ALGORITHM + scope_text + digest, "sha256").hex().encode()
            genuine = hmac.compare_digest(expected, proof.signature) or genuine
        if key is None:
            raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
        if not genuine:
            raise _invalid(_MISMATCH)
        return Verified(key, region.decode("latin-1"), service.decode("latin-1"))

    def _check_scope(self, scope: list[bytes], proof: _Proof, now: float) -> None:
        _, date, region, service, terminator = scope
        if terminator != b"aws4_request":
            raise _invalid(
                f"Credential should be scoped with a valid terminator: 'aws4_request', not '{_show(terminator)}'."
            )
        name = region.decode("latin-1")
        if not _REGION.fullmatch(name) or (self._regions is not None and name not in self._regions):
            raise _invalid("Credential should be scoped to a valid region.")
        name = service.decode("latin-1")
        if self._services is not None and name not in self._services:
            wanted = ", ".join(f"'{each}'" for each in sorted(self._services))
            raise _invalid(f"Credential should be scoped to correct service: {wanted}.")
        signed_at = self._epoch(proof.date)
        if signed_at is None:
            raise AwsError(
                "IncompleteSignatureException",
                "Date must be in ISO-8601 'basic format'. See http://en.wikipedia.org/wiki/ISO_8601",
            )
        if proof.date[:8] != date:
            raise _invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{_show(date)}' != '{_show(proof.date[:8])}', from '{_show(proof.date)}'."
            )
        earliest = now - self._skew if proof.expires is None else now - proof.expires
        if signed_at < earliest:
            raise _invalid(
                f"Signature expired: {_iso(signed_at)} is now earlier than {_iso(earliest)} ({_off(now, earliest)})"
            )
        latest = now + self._skew
        if signed_at > latest:
            raise _invalid(
                f"Signature not yet current: {_iso(signed_at)} is still later than {_iso(latest)} ({_off(now, latest)})"
            )

    def _from_query(self, raw_query: bytes) -> _Proof:
        parts = raw_query.split(b"&")
        values: dict[bytes, bytes] = {}
        kept = []
        for part in parts:
            name, _, value = part.partition(b"=")
            if name != b"X-Amz-Signature":
                kept.append(part)
            if name.startswith(b"X-Amz-"):
                if name in values:
                    raise _incomplete(f"AWS query-string parameter '{_show(name)}' must be given once.")
                values[name] = unquote_to_bytes(value)
        missing = [
            name
            for name in (
                b"X-Amz-Algorithm",
                b"X-Amz-Credential",
                b"X-Amz-Signature",
                b"X-Amz-SignedHeaders",
                b"X-Amz-Date",
            )
            if not values.get(name)
        ]
        if missing:
            raise _incomplete(f"AWS query-string parameters must include '{missing[0].decode()}'.")
        if values[b"X-Amz-Algorithm"] != _ALGORITHM:
            raise _incomplete("Unsupported AWS 'algorithm': only AWS4-HMAC-SHA256 is supported.")
        expires = values.get(b"X-Amz-Expires", b"")
        if not expires.isdigit() or len(expires) > 9 or not 1 <= int(expires) <= self._presigned_max:
            raise _incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {self._presigned_max}.")
        return _Proof(
            values[b"X-Amz-Credential"],
            values[b"X-Amz-SignedHeaders"],
            values[b"X-Amz-Signature"],
            values[b"X-Amz-Date"],
            int(expires),
            b"&".join(kept),
        )


def _from_header(authorization: bytes, headers: Mapping[bytes, bytes], raw_query: bytes) -> _Proof:
    algorithm, _, rest = authorization.partition(b" ")
    if algorithm != _ALGORITHM:
        raise _incomplete("Unsupported AWS 'algorithm': only AWS4-HMAC-SHA256 is supported.")
    values: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, equals, value = part.strip().partition(b"=")
        if not equals or name in values:
            raise _incomplete("Authorization header must be a list of different key=value pairs.")
        values[name] = value
    missing = [name for name in (b"Credential", b"Signature", b"SignedHeaders") if not values.get(name)]
    if missing:
        raise _incomplete(" ".join(f"Authorization header requires '{name.decode()}' parameter." for name in missing))
    date = headers.get(b"x-amz-date") or headers.get(b"date")
    if not date:
        raise _incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    return _Proof(values[b"Credential"], values[b"SignedHeaders"], values[b"Signature"], date, None, raw_query)


def _payload_hash(headers: Mapping[bytes, bytes], body_hash: bytes, *, presigned: bool) -> bytes:
    declared = headers.get(b"x-amz-content-sha256")
    if declared is None or declared == body_hash or (presigned and declared == _UNSIGNED):
        return declared or body_hash
    raise _invalid("The value of the X-Amz-Content-SHA256 header must be the SHA-256 of the request's body.")


def _canonical_head(method: str, path: bytes) -> bytes:
    return method.encode("latin-1") + b"\n" + path + b"\n"


def _canonical_headers(signed: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """From the newline after the query to the one before the payload's hash."""
    names = signed.split(b";")
    if b"host" not in names:
        raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    lines = [b""]
    for name in names:
        value = headers.get(name)
        if value is None:
            raise _invalid(_MISMATCH)
        lines.append(name + b":" + b" ".join(value.split()))
    for name in headers:
        # A header that changes what is asked for must not be changed on the way.
        if name.startswith(b"x-amz-") and name not in names:
            raise _invalid(f"'{_show(name)}' must be a 'SignedHeader' in the AWS Authorization.")
    lines += (b"", signed, b"")
    return b"\n".join(lines)


def _canonical_queries(raw: bytes) -> list[bytes]:
    """The query as signers write it: by the rules, and also as it was sent, which is what some SDKs sign."""
    if not raw:
        return [b""]
    pairs = sorted(_pair(part) for part in raw.split(b"&") if part)
    sent = b"&".join(name + b"=" + value for name, value in pairs)
    if _PLAIN_QUERY.fullmatch(raw):
        return [sent]
    encoded = sorted((_encode(unquote_to_bytes(name)), _encode(unquote_to_bytes(value))) for name, value in pairs)
    return [b"&".join(name + b"=" + value for name, value in encoded), sent]


def _pair(part: bytes) -> tuple[bytes, bytes]:
    name, _, value = part.partition(b"=")
    return name, value


def _encode(value: bytes) -> bytes:
    return quote(value, safe="-_.~").encode()


def canonical_path(raw: bytes) -> bytes:
    """Without dot segments and doubled slashes, then percent-encoded once more."""
    if _PLAIN_PATH.fullmatch(raw):
        return raw
    kept: list[bytes] = []
    for segment in raw.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    slash = b"/" if kept and raw.endswith(b"/") else b""
    return quote(b"/" + b"/".join(kept) + slash, safe="/~").encode()


def signing_key(secret: str, date: bytes, region: bytes, service: bytes) -> bytes:
    """The key that signs one day's requests to one service in one region."""
    key = hmac.digest(b"AWS4" + secret.encode(), date, "sha256")
    for part in (region, service, b"aws4_request"):
        key = hmac.digest(key, part, "sha256")
    return key


def parse_date(text: bytes) -> float | None:
    """Epoch seconds of `YYYYMMDDThhmmssZ`; None: it is no such date."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        return datetime(*(int(group) for group in match.groups()), tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%SZ")


def _off(now: float, bound: float) -> str:
    minutes = abs(now - bound) / 60
    return f"{_iso(now)} {'-' if bound < now else '+'} {minutes:g} min."


def _show(value: bytes) -> str:
    return value[:128].decode("latin-1")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidSignatureException", message)


def _incomplete(message: str) -> AwsError:
    return AwsError("IncompleteSignatureException", message)
