"""Passwords of Amazon's registries: asked for with AWS's keys, and good for twelve hours.

Source: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from lambent.domain.clock import Clock
from lambent.domain.images import Fault, ImageError
from lambent.infra.connections import Connection

_HOST = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?P<china>\.cn)?")
_TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_MARGIN = 600.0  # seconds before its end in which a password is asked for anew


class _Authorization(msgspec.Struct):
    authorizationToken: str  # base64 of USER:PASSWORD
    expiresAt: float  # epoch seconds


class _Answer(msgspec.Struct):
    authorizationData: list[_Authorization]


class EcrLogin:
    """Those of one registry."""

    def __init__(
        self, connection: Connection, place: str, region: str, http: urllib3.PoolManager, clock: Clock
    ) -> None:
        """`place`: the endpoint that gives them."""
        self.place = place
        self._signer = connection.signer(region, "ecr")
        self._http = http
        self._clock = clock
        self._headers: Mapping[str, str] = {}
        self._until = 0.0  # epoch seconds until which those are good

    @classmethod
    def of(cls, connection: Connection, http: urllib3.PoolManager, clock: Clock) -> EcrLogin | None:
        """That of a connection; None: its user and password are a registry's own."""
        found = _HOST.fullmatch(urlsplit(connection.endpoint).netloc)
        region = connection.region or (found["region"] if found is not None else "us-east-1")
        if connection.tokens:
            return cls(connection, connection.tokens, region, http, clock)
        if found is None or not connection.access_key:
            return None
        place = f"https://api.ecr.{found['region']}.amazonaws.com{found['china'] or ''}"
        return cls(connection, place, region, http, clock)

    def headers(self) -> Mapping[str, str]:
        """What a request to the registry is let in with. Raises ImageError."""
        now = self._clock.epoch()
        if now >= self._until:
            found = self._ask(now)
            self._headers = {"Authorization": f"Basic {found.authorizationToken}"}
            self._until = found.expiresAt - _MARGIN
        return self._headers

    def _ask(self, now: float) -> _Authorization:
        host = urlsplit(self.place).netloc
        headers = {"host": host, "content-type": "application/x-amz-json-1.1", "x-amz-target": _TARGET}
        signed = self._signer.sign("POST", "/", headers, b"{}", now)
        try:
            answer = self._http.request("POST", f"{self.place}/", headers=signed, body=b"{}")
        except HTTPError as error:
            raise ImageError(Fault.UNREACHABLE, f"{host} cannot be reached") from error
        if answer.status >= 500:
            raise ImageError(Fault.UNREACHABLE, f"{host} answers {answer.status}")
        try:
            return msgspec.json.decode(answer.data, type=_Answer).authorizationData[0]
        except (msgspec.MsgspecError, IndexError):
            raise ImageError(Fault.DENIED, f"{host} gives no password for ECR with these keys") from None
