"""InvocationService: running functions, now or later."""

from __future__ import annotations

import base64
import binascii
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import msgspec

from lambent.domain.async_events import RetryPolicy
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.event_options import EventOptions, event_options
from lambent.domain.functions import State
from lambent.domain.json_text import is_json
from lambent.domain.limits import Limits
from lambent.domain.lineage import stopped
from lambent.domain.names import LATEST, FunctionRef, not_found, parse
from lambent.domain.policies import INVOKE_ASYNC
from lambent.infra.frames import Stream
from lambent.infra.functions.directory import FunctionDirectory, Known
from lambent.infra.functions.waking import Waker
from lambent.infra.invocation_telemetry import InvocationTelemetry
from lambent.infra.invoker.invoker import Invoker, Outcome, Target
from lambent.v1 import invocation_service_pb2 as pb
from services.frontend.events import AS_ON_AWS, EventAcceptor
from services.frontend.operations.permissions import Guests
from services.frontend.operations.settling import Settler
from services.frontend.operations.unserved import refuse_unserved
from services.frontend.transport.call import Call

# Decoding into this checks that text is JSON without building what it says.
_JSON = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class InvocationOperations:
    """The operations of lambent.v1.InvocationService."""

    def __init__(
        self,
        *,
        directory: FunctionDirectory,
        settler: Settler,
        waker: Waker,
        invoker: Invoker,
        events: EventAcceptor,
        telemetry: InvocationTelemetry,
        guests: Guests,
        limits: Limits,
        rng: random.Random,
    ) -> None:
        """`rng`: draws which version of an alias with weights a request goes to."""
        self._directory = directory
        self._settler = settler
        self._waker = waker
        self._invoker = invoker
        self._events = events
        self._telemetry = telemetry
        self._guests = guests
        self._limits = limits
        self._retries = RetryPolicy.standard(limits)
        self._rng = rng

    async def invoke(self, request: pb.InvokeRequest, call: Call) -> pb.InvokeResponse:
        """Run a function, in AWS's order of checks: name, existence, state, size, JSON, then admission."""
        ref = _named(request, call)
        if ref.tenant != call.tenant:
            await self._guests.admit(ref, call)
        known = self._known(ref) or await self._find(ref)
        target = self._drawn(known, request)
        kind = request.invocation_type or "RequestResponse"
        payload, context = self._checked(request, kind)
        options = AS_ON_AWS
        if request.HasField("dedup_token") or request.HasField("not_before"):
            options = self._event_options(request, kind, known)
        if kind == "DryRun":
            return pb.InvokeResponse(status_code=204)
        if kind == "Event":
            await self._accept(ref, target, payload, options, call)
            return pb.InvokeResponse(status_code=202)
        self._check_loop(known, target, call)
        with self._telemetry.invocation(call, target) as span:
            outcome = await self._invoker.invoke(
                target,
                payload,
                request_id=call.request_id,
                arn=ref.arn,
                trace=span.trace_header,
                client_context=context,
                tail=request.log_type == "Tail",
            )
            span.ended(outcome)
        result = outcome.result
        response = pb.InvokeResponse(status_code=200, payload=outcome.payload, executed_version=target.version)
        if result.error is not None:
            response.function_error = result.error
        if result.tail is not None:
            response.log_result = base64.b64encode(result.tail).decode()
        return response

    async def invoke_async(self, request: pb.InvokeAsyncRequest, call: Call) -> pb.InvokeAsyncResponse:
        """Queue an event for $LATEST; the checks are those of `invoke`. Another qualifier names nothing."""
        ref = parse(request.function_name, None, call.tenant, anyones=True)
        if ref.tenant != call.tenant:
            await self._guests.admit(ref, call, INVOKE_ASYNC)
        if ref.qualifier not in (None, LATEST):
            raise not_found(ref)
        known = self._known(ref) or await self._find(ref)
        payload = self._payload(request.invoke_args, "Event")
        await self._accept(ref, self._drawn(known, None), payload, AS_ON_AWS, call)
        return pb.InvokeAsyncResponse(status=202)

    async def invoke_with_response_stream(
        self, request: pb.InvokeWithResponseStreamRequest, call: Call
    ) -> AsyncIterator[pb.InvokeWithResponseStreamResponse]:
        """Run a function and hand its response on as it comes; the checks are those of `invoke`."""
        ref = _named(request, call)
        if ref.tenant != call.tenant:
            await self._guests.admit(ref, call)
        known = self._known(ref) or await self._find(ref)
        target = self._drawn(known, request)
        kind = request.invocation_type or "RequestResponse"
        payload, context = self._checked(request, kind)
        if kind == "DryRun":
            yield pb.InvokeWithResponseStreamResponse(status_code=204)
            return
        head = pb.InvokeWithResponseStreamResponse(status_code=200, executed_version=target.version)
        head.response_stream_content_type = "application/octet-stream"
        begun = False
        self._check_loop(known, target, call)
        with self._telemetry.invocation(call, target) as span:
            items = self._invoker.stream(
                target,
                payload,
                request_id=call.request_id,
                arn=ref.arn,
                trace=span.trace_header,
                client_context=context,
                tail=request.log_type == "Tail",
            )
            async with aclosing(items):
                async for item in items:
                    if isinstance(item, Outcome):
                        span.ended(item)
                        if not begun:
                            yield head
                        for step in _completion(item):
                            yield step
                    elif isinstance(item, Stream):
                        begun = True
                        head.response_stream_content_type = item.content_type
                        yield head
                    else:
                        yield _piece(item)

    def _checked(
        self, request: pb.InvokeRequest | pb.InvokeWithResponseStreamRequest, kind: str
    ) -> tuple[bytes, str | None]:
        """Payload and client context of a request, once it has been found to be one that is served."""
        payload = self._payload(request.payload, kind)
        if isinstance(request, pb.InvokeRequest) and request.HasField("durable_execution_name"):
            refuse_unserved(request)
        return payload, self._client_context(request.client_context) if request.client_context else None

    def _payload(self, payload: bytes, kind: str) -> bytes:
        """The event: JSON text within the limit; nothing at all is an empty object."""
        limits = self._limits
        limit = limits.async_request_bytes if kind == "Event" else limits.sync_request_bytes
        if len(payload) > limit:
            raise AwsError(
                "RequestEntityTooLargeException",
                f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
            )
        if not payload:
            return b"{}"
        _check_json(payload)
        return payload

    def _check_loop(self, known: Known, target: Target, call: Call) -> None:
        """Raises RecursiveInvocationException where the call comes of a loop that ends here."""
        if call.trace_header is not None and known.in_loop(call.trace_header, self._limits.recursive_invocations):
            self._telemetry.stopped(target)
            raise stopped()

    async def _accept(
        self, ref: FunctionRef, target: Target, payload: bytes, options: EventOptions, call: Call
    ) -> None:
        """Have an event run later."""
        trace = self._telemetry.accepted(call, target)
        call.answered_id = await self._events.accept(
            ref.tenant, ref.name, ref.qualifier, call.request_id, trace, payload, options, target.tenant_id
        )

    def _known(self, ref: FunctionRef) -> Known | None:
        """The function, if the directory has it here and it can be invoked. None: the store has to be asked."""
        known = self._directory.known(ref.tenant, ref.name, ref.qualifier)
        return None if known is None or known.target is None else known

    def _drawn(self, known: Known, request: pb.InvokeRequest | pb.InvokeWithResponseStreamRequest | None) -> Target:
        """What is to run: for an alias with weights, one of its two versions; and for the tenant that the request
        names."""
        target = known.target if known.additional is None else known.draw(self._rng.random())
        assert target is not None
        tenant_id = request.tenant_id if request is not None and request.HasField("tenant_id") else None
        return target if tenant_id is None and not target.isolated else target.of_tenant(tenant_id)

    async def _find(self, ref: FunctionRef) -> Known:
        """The function from the store, in a state in which it can be invoked."""
        known = await self._directory.find(ref.tenant, ref.name, ref.qualifier)
        if known is None:
            raise not_found(ref)
        if known.target is None:
            record = await self._settler.look(known.record)
            if record is not known.record:
                known = await self._directory.find(ref.tenant, ref.name, ref.qualifier)
        if known is not None and known.target is None and known.version_state is State.PENDING:
            raise AwsError(
                "SnapStartNotReadyException",
                "Lambda is initializing your function. It will be ready to invoke once your function state becomes "
                "ACTIVE.",
            )
        if known is None or known.target is None:
            state = known.record.state if known is not None else State.FAILED
            if known is not None and known.version_state is State.FAILED:
                state = State.FAILED
            elif known is not None and await self._waker.wake(known.record):
                state = State.PENDING
            raise AwsError(
                "ResourceConflictException",
                "The operation cannot be performed at this time. "
                f"The function is currently in the following state: {state}",
            )
        return known

    def _event_options(self, request: pb.InvokeRequest, kind: str, known: Known) -> EventOptions:
        """What was asked beyond AWS's API. Raises InvalidParameterValueException."""
        policy = self._retries if known.event_config is None else known.event_config.policy(self._retries)
        return event_options(
            request.dedup_token if request.HasField("dedup_token") else None,
            request.not_before if request.HasField("not_before") else None,
            kind,
            self._events.now(),
            policy.event_age_seconds,
        )

    def _client_context(self, encoded: str) -> str:
        """The JSON text of a client context. Raises what AWS says of one that is too long or no JSON."""
        if len(encoded) > self._limits.client_context_bytes:
            raise invalid_parameter(
                f"Client context must be no more than {self._limits.client_context_bytes} bytes of base64 text."
            )
        try:
            text = base64.b64decode(encoded, validate=True)
            _JSON.decode(text)
            return text.decode()
        except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
            raise AwsError(
                "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
            ) from None


def _piece(data: bytes) -> pb.InvokeWithResponseStreamResponse:
    update = pb.InvokeResponseStreamUpdate(payload=data)
    event = pb.InvokeWithResponseStreamResponseEvent(payload_chunk=update)
    return pb.InvokeWithResponseStreamResponse(event_stream=event)


def _completion(outcome: Outcome) -> Iterator[pb.InvokeWithResponseStreamResponse]:
    """What is told at the end: the response of a function that did not stream, then how it went."""
    result = outcome.result
    complete = pb.InvokeWithResponseStreamCompleteEvent()
    if result.error is not None:
        complete.error_code = result.error
        complete.error_details = outcome.payload.decode("utf-8", "replace")
    elif outcome.payload:
        yield _piece(outcome.payload)
    if result.tail is not None:
        complete.log_result = base64.b64encode(result.tail).decode()
    event = pb.InvokeWithResponseStreamResponseEvent(invoke_complete=complete)
    yield pb.InvokeWithResponseStreamResponse(event_stream=event)


def _named(request: pb.InvokeRequest | pb.InvokeWithResponseStreamRequest, call: Call) -> FunctionRef:
    """What is to be invoked; of another account where its tenant is not the caller's own."""
    qualifier = request.qualifier if request.HasField("qualifier") else None
    return parse(request.function_name, qualifier, call.tenant, anyones=True)


def _check_json(payload: bytes) -> None:
    try:
        _JSON.decode(payload)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _has_lone_surrogates(payload):
            return
        raise AwsError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from None


def _has_lone_surrogates(payload: bytes) -> bool:
    """Whether this is JSON that no text can be made of: an escaped half of a pair without the other, as clients write
    that have cut a text between the two (RFC 8259, section 8.2). Its decoder refuses that; functions may have it."""
    return _SURROGATE.search(payload) is not None and is_json(payload)
