"""Reading images from a registry: the part of OCI's distribution specification that pulling takes.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md, and
https://distribution.github.io/distribution/spec/auth/token/ for the tokens that most registries want.

Blocking: callers have a thread for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from lambent.domain.clock import Clock
from lambent.domain.images import (
    ACCEPTED,
    Blob,
    Built,
    Fault,
    ImageError,
    ImageName,
    Manifest,
    read_config,
    read_manifest,
)
from lambent.domain.names import Tenant
from lambent.infra.connections import Connection, Connections
from lambent.infra.ecr_login import EcrLogin

_CHUNK = 1024 * 1024
_DOCUMENT_BYTES = 4 * 1024 * 1024  # most of a manifest or configuration, as registries have it
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
# Registries send layers from elsewhere, and are busy now and then. What they say of us stays with them.
_RETRIES = urllib3.Retry(
    total=6, connect=2, read=2, redirect=4, status=3, status_forcelist=(429, 502, 503, 504), backoff_factor=0.3,
    raise_on_status=False,
)  # fmt: skip
_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)


class Resolved(NamedTuple):
    """An image at one moment."""

    digest: str  # of its manifest; lower-case hex SHA-256
    manifest: Manifest
    built: Built


def connection_to(connections: Connections, tenant: Tenant, host: str) -> Connection:
    """Where the registry is that images of a tenant's functions are named after. Raises ImageError."""
    found = connections.registry_of(tenant, host)
    if found is None:
        text = f"no connection of this cluster leads to {host}; the operator's table has them"
        raise ImageError(Fault.UNCONNECTED, text)
    return found


def whose(connection: Connection) -> str:
    """The account that alone may have what a connection leads to, or a word for everybody."""
    return connection.account or "all"


class Registries:
    """Those that connections lead to."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._known: dict[tuple[str, str], Registry] = {}  # by account and host

    def of(self, tenant: Tenant, host: str) -> Registry:
        """The one that images of a tenant's functions are named after. Raises ImageError."""
        found = self._known.get((tenant.account, host))
        if found is None:
            connection = connection_to(self._connections, tenant, host)
            found = self._known[tenant.account, host] = Registry(connection, self._clock)
        return found


class Registry:
    """One registry, as a connection has it."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._endpoint = connection.endpoint
        self._http = urllib3.PoolManager(
            num_pools=4, retries=_RETRIES, timeout=_TIMEOUT, ca_certs=connection.ca or None
        )
        self._own = (
            urllib3.make_headers(basic_auth=f"{connection.access_key}:{connection.secret_key}")
            if connection.access_key
            else {}
        )
        self._ecr = EcrLogin.of(connection, self._http, clock)
        self._known: dict[str, Mapping[str, str]] = {}  # by repository: the headers that it lets us in with

    def resolve(self, name: ImageName, architecture: str) -> Resolved:
        """What an image is now, for processors of AWS's name `architecture`. Raises ImageError."""
        document, media_type = self._manifest(name, name.reference)
        digest = hashlib.sha256(document).hexdigest()
        found = read_manifest(document, media_type, architecture)
        if isinstance(found, Blob):
            digest = found.digest
            document, media_type = self._manifest(name, f"sha256:{digest}")
            found = read_manifest(document, media_type, architecture)
            if isinstance(found, Blob):
                raise ImageError(Fault.UNSUPPORTED, "an index of indexes")
        config = b"".join(self.blob(name, found.config, _DOCUMENT_BYTES))
        return Resolved(digest, found, read_config(config, architecture))

    def blob(self, name: ImageName, blob: Blob, most: int) -> Iterator[bytes]:
        """The bytes of a part of an image, in pieces, whose digest is right once all have come; at most `most` bytes.
        Raises ImageError."""
        if blob.size > most:
            raise ImageError(Fault.TOO_LARGE, f"a part of {blob.size} bytes")
        digest, size = hashlib.sha256(), 0
        for piece in self._get(name, f"blobs/sha256:{blob.digest}", {}, blob.size)[0]:
            digest.update(piece)
            size += len(piece)
            yield piece
        if size != blob.size or digest.hexdigest() != blob.digest:
            raise ImageError(Fault.MALFORMED, f"the registry has something else than sha256:{blob.digest}")

    def _manifest(self, name: ImageName, reference: str) -> tuple[bytes, str]:
        pieces, headers = self._get(name, f"manifests/{reference}", {"Accept": ACCEPTED}, _DOCUMENT_BYTES)
        document = b"".join(pieces)
        if reference.startswith("sha256:") and hashlib.sha256(document).hexdigest() != reference[7:]:
            raise ImageError(Fault.MALFORMED, f"the registry has something else than {reference}")
        return document, headers.get("content-type", "")

    def _get(
        self, name: ImageName, what: str, headers: Mapping[str, str], most: int
    ) -> tuple[Iterator[bytes], Mapping[str, str]]:
        """What lies in a repository: its bytes in pieces, at most `most`, and the answer's headers."""
        url = f"{self._endpoint}/v2/{name.repository}/{what}"
        try:
            known = self._known.get(name.repository, {})
            answer = self._http.request("GET", url, headers={**headers, **known}, preload_content=False)
            if answer.status == 401 or (answer.status == 403 and known):  # ECR's, of a password that has ended
                challenge = answer.headers.get("www-authenticate", "Basic" if self._ecr is not None else "")
                answer.drain_conn()
                known = self._known[name.repository] = self._let_in(challenge, name)
                answer = self._http.request("GET", url, headers={**headers, **known}, preload_content=False)
        except HTTPError as error:
            _unreachable(name, error)
        if answer.status != 200:
            answer.drain_conn()
            answer.release_conn()
            self._refused(name, answer.status)
        return _pieces(name, answer, most), answer.headers

    def _let_in(self, challenge: str, name: ImageName) -> Mapping[str, str]:
        """The headers that a challenge asks for."""
        scheme, _, rest = challenge.partition(" ")
        said = dict(_CHALLENGE.findall(rest))
        login = self._own if self._ecr is None else self._ecr.headers()
        if scheme.lower() == "basic" and login:
            return login
        realm = urlsplit(said.get("realm", ""))
        if scheme.lower() != "bearer" or realm.scheme not in ("https", urlsplit(self._endpoint).scheme):
            self._refused(name, 401)
        asked = {"scope": f"repository:{name.repository}:pull"}
        if "service" in said:
            asked["service"] = said["service"]
        separator = "&" if realm.query else "?"
        url = f"{said['realm']}{separator}{urlencode(asked)}"
        answer = self._http.request("GET", url, headers=login, preload_content=False)
        if answer.status != 200:
            answer.close()
            self._refused(name, answer.status)
        try:
            token = msgspec.json.decode(b"".join(_pieces(name, answer, _DOCUMENT_BYTES)), type=dict[str, object])
        except msgspec.MsgspecError:
            token = {}
        text = token.get("token") or token.get("access_token")
        if not isinstance(text, str) or not text.isprintable():
            raise ImageError(Fault.UNREACHABLE, f"what {name.host} lets in with is no token")
        return {"Authorization": f"Bearer {text}"}

    def _refused(self, name: ImageName, status: int) -> NoReturn:
        self._known.pop(name.repository, None)
        if status in (401, 403):
            raise ImageError(Fault.DENIED, f"{name.host} does not let us read {name.repository}")
        if status == 404:
            raise ImageError(Fault.MISSING, f"{name.host} has no such image in {name.repository}")
        raise ImageError(Fault.UNREACHABLE, f"{name.host} answers {status}")


def _pieces(name: ImageName, answer: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
    size = 0
    try:
        for piece in answer.stream(_CHUNK, decode_content=False):
            size += len(piece)
            if size > most:
                raise ImageError(Fault.TOO_LARGE, f"{name.host} sends more than {most} bytes")
            yield piece
    except HTTPError as error:
        _unreachable(name, error)
    finally:
        answer.close()


def _unreachable(name: ImageName, error: HTTPError) -> NoReturn:
    reason = getattr(error, "reason", None) or error
    raise ImageError(Fault.UNREACHABLE, f"{name.host} cannot be reached: {type(reason).__name__}") from error
