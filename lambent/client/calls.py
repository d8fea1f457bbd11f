"""What both clients share: credentials, requests from arguments, and when to try again."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import msgspec
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from lambent.client.errors import LambentError
from lambent.client.results import InvokeResult, outcome_of
from lambent.domain.clock import Clock
from lambent.infra import tokens
from lambent.v1 import invocation_service_pb2, log_service_pb2

ATTEMPTS = 3
# A token is renewed when less than this share of its life is left.
RENEW_SHARE = 0.2
TOKEN_SECONDS = 900
# Most invocations of one message of a stream, and bytes of payloads with which one is full.
MESSAGE_ITEMS, MESSAGE_BYTES = 32, 1024 * 1024

OPTIONS = (("grpc.max_receive_message_length", 64 * 1024 * 1024), ("grpc.max_send_message_length", 64 * 1024 * 1024))

Payload = bytes | str | dict[str, Any] | list[Any] | int | float | bool | None


@dataclass(slots=True)
class Credentials:
    """An access key, and the token made of it that calls carry."""

    key: str
    secret: str
    region: str
    clock: Clock
    _token: str = ""
    _renew_at: float = 0.0

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a call."""
        now = self.clock.epoch()
        if now >= self._renew_at:
            self._token = tokens.issue(self.key, self.secret, self.region, now, TOKEN_SECONDS)
            self._renew_at = now + TOKEN_SECONDS * (1 - RENEW_SHARE)
        return (("authorization", f"Bearer {self._token}"),)


def method_of(request: Message) -> tuple[str, Any]:
    """The call that takes a message, as a path, and the class of its answer.

    Raises TypeError where none does, or one that takes or answers a stream.
    """
    taken: Any = request.DESCRIPTOR
    for service in taken.file.services_by_name.values():
        for method in service.methods:
            if method.input_type is taken and not (method.client_streaming or method.server_streaming):
                return f"/{service.full_name}/{method.name}", GetMessageClass(method.output_type)
    raise TypeError(f"no call takes a {taken.full_name}")


def event_request(
    name: str, payload: Payload, qualifier: str | None, dedup_token: str | None, not_before: datetime | str | None,
    tenant_id: str | None,
) -> invocation_service_pb2.InvokeRequest:  # fmt: skip
    """An asynchronous invocation. A time without a zone is UTC; text is sent as it is."""
    request = invoke_request(name, payload, qualifier, tenant_id)
    request.invocation_type = "Event"
    if dedup_token is not None:
        request.dedup_token = dedup_token
    if isinstance(not_before, datetime):
        not_before = (not_before if not_before.tzinfo else not_before.replace(tzinfo=UTC)).isoformat()
    if not_before is not None:
        request.not_before = not_before
    return request


def invoke_request(
    name: str, payload: Payload, qualifier: str | None, tenant_id: str | None, *, log_tail: bool = False
) -> invocation_service_pb2.InvokeRequest:
    """An invocation; bytes and text are sent as they are, everything else as JSON."""
    if isinstance(payload, str):
        body = payload.encode()
    elif isinstance(payload, bytes):
        body = payload
    else:
        body = msgspec.json.encode(payload)
    request = invocation_service_pb2.InvokeRequest(function_name=name, payload=body)
    if qualifier is not None:
        request.qualifier = qualifier
    if tenant_id is not None:
        request.tenant_id = tenant_id
    if log_tail:
        request.log_type = "Tail"
    return request


class Many:
    """Invocations of one stream, one for each payload."""

    def __init__(self, name: str, qualifier: str | None, tenant_id: str | None, clock: Clock) -> None:
        self._name = name
        self._qualifier = qualifier
        self._tenant_id = tenant_id
        self._clock = clock
        self._number = 0
        self._message, self._size = invocation_service_pb2.InvokeManyRequest(), 0
        self._started: dict[int, float] = {}  # number → when it was sent: monotonic seconds
        # What ended the payloads before their time, for whoever gave them. The library would say nothing of it.
        self.failure: Exception | None = None

    def requests(self, payloads: Iterable[Payload]) -> Iterator[invocation_service_pb2.InvokeManyRequest]:
        """The payloads, numbered. Those of a sequence travel many to a message; each of another iterable, whose next
        one may take its time, by itself."""
        most = MESSAGE_ITEMS if isinstance(payloads, Sequence) else 1
        try:
            for payload in payloads:
                self._add(payload)
                if len(self._message.items) == most or self._size >= MESSAGE_BYTES:
                    yield self._take()
        except Exception as error:
            self.failure = error
        if self._message.items:
            yield self._take()

    async def requests_as_they_come(
        self, payloads: AsyncIterable[Payload]
    ) -> AsyncIterator[invocation_service_pb2.InvokeManyRequest]:
        """The payloads, numbered, each by itself."""
        try:
            async for payload in payloads:
                self._add(payload)
                yield self._take()
        except Exception as error:
            self.failure = error

    def _add(self, payload: Payload) -> None:
        request = invoke_request(self._name, payload, self._qualifier, self._tenant_id)
        self._message.items.add(number=self._number, request=request)
        self._size += len(request.payload)
        self._started[self._number] = self._clock.monotonic()
        self._number += 1

    def _take(self) -> invocation_service_pb2.InvokeManyRequest:
        message, self._message, self._size = self._message, invocation_service_pb2.InvokeManyRequest(), 0
        return message

    def outcomes(
        self, answer: invocation_service_pb2.InvokeManyResponse
    ) -> Iterator[tuple[int, InvokeResult | LambentError]]:
        """What came of those that a message answers, by number."""
        now = self._clock.monotonic()
        for result in answer.results:
            yield result.number, outcome_of(result, now - self._started.pop(result.number))


def logs_request(
    name: str, request_id: str | None, since: datetime | None, limit: int | None, follow: bool
) -> log_service_pb2.TailLogsRequest:
    """A request for log lines."""
    request = log_service_pb2.TailLogsRequest(function_name=name, request_id=request_id, limit=limit, follow=follow)
    if since is not None:
        start = Timestamp()
        start.FromDatetime(since)
        request.start_time.CopyFrom(start)
    return request


def worth_another_try(error: grpc.RpcError) -> bool:
    """Whether a call certainly did nothing and may do better next time: throttled, or the cluster away."""
    call: Any = error
    if call.code() is grpc.StatusCode.UNAVAILABLE:
        return True
    return call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and (call.details() or "").startswith("Rate ")


def pauses() -> Iterator[float]:
    """Seconds between attempts: up to 0.1, 0.2, ... drawn at random."""
    for attempt in range(ATTEMPTS - 1):
        yield random.uniform(0, 0.1 * 2**attempt)


def request_id_of(metadata: object) -> str:
    """The request id in a call's trailing metadata."""
    for key, value in metadata or ():  # type: ignore[attr-defined]
        if key == "x-amzn-requestid":
            return str(value)
    return ""
