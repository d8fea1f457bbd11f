"""URLs that serve a package for a while to whoever has them, as AWS's presigned S3 URLs do.

/_lambent/code/DIGEST?expires=EPOCH&signature=HMAC
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from urllib.parse import parse_qs

from lambent.domain.clock import Clock
from lambent.infra.code_store import CodeStore
from lambent.infra.http_messages import HttpRequest, HttpResponse, error_response

PREFIX = "/_lambent/code/"
# Seconds of the epoch; more digits are no time of ours.
_EXPIRES_DIGITS = 12


class CodeUrls:
    """Makes and serves the URLs of one cluster."""

    def __init__(self, code: CodeStore, key: bytes, base_url: str, valid_seconds: int, clock: Clock) -> None:
        """`base_url`: where the REST door is reached, without a final slash."""
        self._code = code
        self._key = key
        self._base_url = base_url
        self._valid_seconds = valid_seconds
        self._clock = clock

    def make(self, digest: str) -> str:
        """A URL for a package."""
        expires = int(self._clock.epoch()) + self._valid_seconds
        return f"{self._base_url}{PREFIX}{digest}?expires={expires}&signature={self._sign(digest, expires)}"

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Serves the URLs, for the REST door."""
        package = None
        if request.method in ("GET", "HEAD"):
            package = await self._package(request.raw_path.decode("latin-1"), request.raw_query.decode("latin-1"))
        if package is None:
            return error_response("AccessDeniedException", "The URL is not valid, or not any more")
        return HttpResponse(200, [(b"Content-Type", b"application/zip")], package)

    async def _package(self, path: str, query: str) -> bytes | None:
        """The package that a URL is for. None: the URL is no good, or not any more."""
        digest = path.removeprefix(PREFIX)
        parameters = parse_qs(query)
        expires, signature = parameters.get("expires", [""])[0], parameters.get("signature", [""])[0]
        if not (expires.isascii() and expires.isdecimal() and len(expires) <= _EXPIRES_DIGITS and signature.isascii()):
            return None
        if not hmac.compare_digest(self._sign(digest, int(expires)), signature):
            return None
        if self._clock.epoch() > int(expires):
            return None
        try:
            return await asyncio.to_thread(self._code.get, digest)
        except KeyError:
            return None

    def _sign(self, digest: str, expires: int) -> str:
        return hmac.new(self._key, f"{digest}:{expires}".encode(), hashlib.sha256).hexdigest()
