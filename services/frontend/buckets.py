"""Packages in buckets: read where the cluster's connections lead to S3, or to what speaks its protocol.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
from dataclasses import dataclass
from urllib.parse import quote

from lambent.domain.clock import Clock
from lambent.domain.destinations import resource_of
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.names import Tenant
from lambent.infra.connections import Connection, Connections
from lambent.infra.http_client import Answer, AnswerTooLong, HttpFailure, HttpLink, host_of

_log = logging.getLogger(__name__)

# For one object, the wait for its turn included. AWS's SDKs wait for an answer as long as a minute.
SECONDS = 50.0
_CODE, _MESSAGE = (re.compile(rf"<{name}>([^<]*)</{name}>") for name in ("Code", "Message"))
# What an answer without a body, or with somebody else's, stands for.
_CODES = {301: "PermanentRedirect", 307: "TemporaryRedirect", 403: "AccessDenied", 404: "NoSuchKey"}
# Codes of errors that go by, whatever their status.
_PASSING = ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout")


@dataclass(frozen=True, slots=True)
class BucketObject:
    """Where a package is."""

    bucket: str
    key: str
    version: str | None  # None: the latest


class Buckets:
    """Reads packages."""

    def __init__(self, connections: Connections, clock: Clock, *, most_bytes: int) -> None:
        """`most_bytes`: no package is larger."""
        self._connections = connections
        self._clock = clock
        self._most = most_bytes
        # One after the other: each is held in memory as a whole.
        self._turn = asyncio.Semaphore(1)

    async def read(self, tenant: Tenant, there: BucketObject) -> bytes | None:
        """The bytes of a package; None: it is larger than any may be.

        Raises InvalidParameterValueException where the name is no good, that and AccessDeniedException with what S3
        says, ServiceUnavailableException where it says nothing.
        """
        if not {".", ".."}.isdisjoint(there.key.split("/")):
            # To what is between here and the object this may be a path to another one.
            raise invalid_parameter("S3Key: a part of a package's key cannot be . or ..")
        resource = resource_of(f"arn:aws:s3:::{there.bucket}", ("s3",))
        connection = None if resource is None else self._connections.find(tenant, resource)
        if connection is None:
            raise invalid_parameter("S3Bucket: no connection of this cluster leads to S3; send the package as ZipFile.")
        try:
            async with asyncio.timeout(SECONDS), self._turn:
                answer = await self._get(connection, tenant, there)
        except AnswerTooLong:
            return None
        except (TimeoutError, HttpFailure) as error:
            _log.warning("a package cannot be read", extra={"bucket": there.bucket, "reason": str(error)})
            raise _unavailable() from error
        if answer.status != 200:
            raise refusal(there, answer)
        return answer.body

    async def _get(self, connection: Connection, tenant: Tenant, there: BucketObject) -> Answer:
        path = f"/{there.bucket}/{quote(there.key)}"
        query = "" if there.version is None else f"versionId={quote(there.version, safe='')}"
        headers = {"host": host_of(connection.endpoint)}
        signed = connection.signer(tenant.region, "s3").sign("GET", path, headers, b"", self._clock.epoch(), query)
        target = f"{path}?{query}" if query else path
        return await HttpLink(connection.endpoint, self._most).exchange("GET", target, signed, b"", SECONDS, last=True)


def refusal(there: BucketObject, answer: Answer) -> AwsError:
    """What the caller is told of an answer without the object, in AWS's texts."""
    text = answer.body.decode(errors="replace")
    found, said = _CODE.search(text), _MESSAGE.search(text)
    code = html.unescape(found[1]) if found is not None else _CODES.get(answer.status, str(answer.status))
    told = f"S3 Error Code: {code}. S3 Error Message: {html.unescape(said[1]) if said is not None else code}"
    if code in _PASSING or answer.status >= 500:
        _log.warning("a package cannot be read", extra={"bucket": there.bucket, "reason": told})
        return _unavailable()
    if code == "AccessDenied":
        return AwsError(
            "AccessDeniedException",
            "Your access has been denied by S3, please make sure your request credentials have permission to GetObject "
            f"for {there.bucket}/{there.key}. {told}",
        )
    return invalid_parameter(f"Error occurred while GetObject. {told}")


def _unavailable() -> AwsError:
    return AwsError("ServiceUnavailableException", "The package cannot be read from S3 at the moment; try again.")
