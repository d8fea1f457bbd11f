"""Calls to a service at an AWS-compatible endpoint by AWS's JSON protocol, signed, over one connection.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lambent.domain.clock import Clock
from lambent.infra.connections import Connection
from lambent.infra.http_client import HttpFailure, HttpLink, host_of

# How long a call may take beyond what it asks the service to wait.
SECONDS = 10.0
# Ten messages of 1 MiB, as JSON, in which one character can take six.
_ANSWER_BYTES = 64 * 1024 * 1024


class SourceError(Exception):
    """A service does not do what it is asked. `code`: its own; empty: it could not be reached."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message


class ExpiredPlace(SourceError):
    """Where a stream was to be read from on was asked for too long ago."""


class AwsJsonLink:
    """One service, one call at a time."""

    def __init__(
        self, connection: Connection, *, region: str, service: str, target: str, version: str, clock: Clock
    ) -> None:
        """`region`: to sign for where the connection says none. `service`: to sign for. `target`: prefix of
        X-Amz-Target. `version`: of the protocol."""
        self._link = HttpLink(connection.endpoint, _ANSWER_BYTES)
        self._host = host_of(connection.endpoint)
        self._signer = connection.signer(region, service)
        self._target = target
        self._type = f"application/x-amz-json-{version}"
        self._clock = clock

    async def call(self, operation: str, document: Mapping[str, object], wait_seconds: float = 0) -> dict[str, Any]:
        """What an operation answers. `wait_seconds`: how long the service may let it wait. Raises SourceError."""
        body = json.dumps(document).encode()
        headers = {"host": self._host, "content-type": self._type, "x-amz-target": f"{self._target}.{operation}"}
        signed = self._signer.sign("POST", "/", headers, body, self._clock.epoch())
        try:
            answer = await self._link.exchange("POST", "/", signed, body, SECONDS + wait_seconds)
        except HttpFailure as error:
            raise SourceError("", str(error)) from error
        try:
            said = json.loads(answer.body) if answer.body else {}
        except (ValueError, RecursionError):
            said = None
        if 200 <= answer.status < 300 and isinstance(said, dict):
            return said
        raise _error(answer.status, answer.headers, said)

    def close(self) -> None:
        """Hang up; another call connects again."""
        self._link.close()


def _error(status: int, headers: Mapping[str, str], said: object) -> SourceError:
    """What an answer that is no success means."""
    if not isinstance(said, dict):
        return SourceError("", f"the endpoint answered {status} and no JSON")
    # Services that had another protocol before call their errors as they did there, too.
    old, _, _ = headers.get("x-amzn-query-error", "").partition(";")
    code = str(said.get("__type", "")).rpartition("#")[2] or str(status)
    return SourceError(old or code, str(said.get("message") or said.get("Message") or ""))
