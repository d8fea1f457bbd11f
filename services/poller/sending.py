"""Tells destinations and dead-letter queues, over their own protocols or into the built-in streams; tries again for
hours, and counts what could not be told."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from lambent.domain import destinations
from lambent.domain.async_events import Condition, End, Outcome, RetryPolicy, decide
from lambent.domain.clock import Clock
from lambent.domain.destinations import Destination
from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra.connections import Connection, Connections
from lambent.infra.http_client import HttpFailure, exchange, host_of
from lambent.infra.queue.port import Dead, Delayed, Done, Leased, QueueKey, Verdict
from lambent.infra.queue.records import DELIVERIES, Delivery, EventState, decode_delivery, decode_state, encode
from lambent.infra.telemetry import Telemetry, by_function
from services.poller.core import aws_requests
from services.poller.core.aws_requests import Message, Refusal

_log = logging.getLogger(__name__)

SECONDS = 10.0  # for one attempt


class BuiltIn(Protocol):
    """Where what has no connection is told."""

    async def keep(self, tenant: Tenant, destination: Destination, delivery: Delivery, body: bytes) -> None:
        """Raises ServiceUnavailableException."""
        ...


@dataclass(slots=True)
class Sender:
    """Carries deliveries out."""

    connections: Connections
    built_in: BuiltIn
    clock: Clock

    async def send(self, tenant: Tenant, target: str, delivery: Delivery, body: bytes) -> Refusal | None:
        """One attempt. None: it was taken."""
        destination = destinations.parse(target, destinations.ON_FAILURE)
        if destination is None:
            return Refusal(f"{target} cannot be told anything", False)
        connection = self.connections.find(tenant, destination)
        try:
            if connection is None:
                await self.built_in.keep(tenant, destination, delivery, body)
                return None
            return await self._call(connection, tenant, destination, delivery, body)
        except AwsError as error:
            return Refusal(error.message, True)
        except HttpFailure as error:
            return Refusal(str(error), True)
        except ValueError as error:  # what is to be told cannot be said in the service's protocol
            return Refusal(f"it cannot be sent: {error}", False)

    async def _call(
        self, connection: Connection, tenant: Tenant, destination: Destination, delivery: Delivery, body: bytes
    ) -> Refusal | None:
        message = Message(body, delivery.attributes, trace=delivery.trace)
        if destination.service == "events":
            condition = Condition(delivery.condition)
            entry = destinations.bus_entry(body, destination.arn, delivery.function_arn, condition)
            message = Message(body, {}, entry)
        elif destination.service == "s3":
            key = delivery.key or destinations.object_key(delivery.name, delivery.since, delivery.request_id)
            message = Message(body, {}, object_key=key)
        request = aws_requests.request(destination, message, connection.endpoint)
        signer = connection.signer(destination.region or tenant.region, destination.service)
        headers = {**request.headers, "host": host_of(connection.endpoint)}
        signed = signer.sign(request.method, request.path, headers, request.body, self.clock.epoch())
        if delivery.trace:
            # Unsigned, as AWS's SDKs send it: what stands between may write it anew.
            signed = {**signed, "x-amzn-trace-id": delivery.trace}
        answer = await exchange(request.method, connection.endpoint, request.path, signed, request.body, SECONDS)
        return aws_requests.judge(destination.service, answer.status, answer.body)


class Deliveries:
    """Decides after each attempt, and counts."""

    def __init__(self, sender: Sender, standard: RetryPolicy, seconds: float, telemetry: Telemetry) -> None:
        """`seconds`: how long a delivery is tried; the waits between are those of throttled events."""
        self._sender = sender
        self._policy = RetryPolicy(
            0, seconds, standard.error_wait_seconds, standard.backoff_seconds, standard.backoff_max_seconds
        )
        self._failures: Counter[tuple[Tenant, str]] = Counter()
        self._dead_letter_errors: Counter[tuple[Tenant, str]] = Counter()
        telemetry.observe("aws.lambda.destinationdeliveryfailures", lambda: by_function(self._failures))
        telemetry.observe("aws.lambda.deadlettererrors", lambda: by_function(self._dead_letter_errors))

    async def run(self, key: QueueKey, item: Leased, now: float) -> tuple[Verdict, bool]:
        """One attempt at a delivery; answers what becomes of it, and whether it was held back."""
        delivery, body = decode_delivery(item.value)
        before, _ = decode_state(item.state)
        target = key.name.removeprefix(DELIVERIES)
        refusal = await self._sender.send(key.tenant, target, delivery, body)
        if refusal is None:
            return Done(), False
        progress = before.progress(delivery.since)
        decision = decide(progress, Outcome.SYSTEM_ERROR, self._policy, now)
        state = EventState(
            before.attempts + 1, decision.progress.deferrals, "Refused", refusal.detail, since=before.since
        )
        if refusal.passing and not isinstance(decision, End):
            return Delayed(decision.at, encode(state, b"")), True
        counts = self._dead_letter_errors if delivery.kind == "DeadLetter" else self._failures
        counts[key.tenant, delivery.name] += 1
        _log.warning(
            "%s of an event cannot be delivered", delivery.kind,
            extra={"target": target, "request_id": delivery.request_id, "detail": refusal.detail},
        )  # fmt: skip
        return Dead(encode(state, b"")), False
