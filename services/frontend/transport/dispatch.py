"""The table that both doors are built from: every RPC of the public services with its operation.

It refuses to be made when an RPC lacks an operation, or an operations object has a public coroutine that no RPC
names. `_unary` and `_stream` below are all that stands between a door and an operation; the doors do no more than
decode, authenticate (which needs the wire's bytes), and encode.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lambent.domain.clock import Clock
from lambent.domain.errors import AwsError
from lambent.v1 import options_pb2
from services.frontend.transport.call import Call
from services.frontend.transport.validation import validator

_log = logging.getLogger(__name__)

Unary = Callable[[Any, Call], Awaitable[Any]]
Stream = Callable[[Any, Call], AsyncIterator[Any]]


class DispatchError(Exception):
    """The services and the operations do not match; the process cannot start."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One RPC. Exactly one of `run`, `stream` and `many` is set; `run` and `stream` with all that stands around the
    operation."""

    name: str  # e.g. CreateFunction
    full_name: str  # e.g. lambent.v1.FunctionService.CreateFunction
    method: MethodDescriptor
    rule: options_pb2.MethodRule
    action: str  # as policies call it, e.g. lambda:CreateFunction
    request_class: type[Message]
    response_class: type[Message]
    check: Callable[[Message], None]  # raises ValidationException
    run: Unary | None
    run_checked: Unary | None  # the same for a request that `check` has passed
    stream: Stream | None
    many: Entry | None  # the RPC whose requests it takes by the stream


# The name under which requests are counted that name no operation.
NO_OPERATION = "-"

# Told the RPC's name and how it ended: OK or the error's name.
Observer = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around every operation needs."""

    clock: Clock
    observe: Observer


def _unary(entry: Entry, around: Surroundings, operation: Unary, check: Callable[[Message], None] | None) -> Unary:
    """What stands between a door and an operation, in one coroutine: a warm invocation pays for every one it enters.

    Who may do nothing is told so. Values out of shape never reach the operation (`check`; None: the door has checked).
    One that outlasts its caller's patience is cancelled. A defect of ours becomes ServiceException: the client gets the
    request id, the log gets the rest. Every call is counted by RPC and outcome.
    """
    observe, clock, name, free = around.observe, around.clock, entry.name, entry.rule.free

    async def run(request: Any, call: Call) -> Any:
        try:
            if call.principal.powerless and not free:
                raise _denied(entry, call)
            if check is not None:
                check(request)
            if call.deadline is None:
                response = await operation(request, call)
            else:
                response = await _bounded(operation, request, call, call.deadline - clock.monotonic())
        except AwsError as error:
            observe(name, error.name)
            raise
        except asyncio.CancelledError:
            observe(name, "Cancelled")
            raise
        except Exception as error:
            defect = _defect(entry, call, error)
            observe(name, defect.name)
            raise defect from None
        observe(name, "OK")
        return response

    return run


async def _bounded(operation: Unary, request: Any, call: Call, seconds: float) -> Any:
    """Run an operation, at most `seconds`."""
    try:
        async with asyncio.timeout(seconds) as bound:
            return await operation(request, call)
    except TimeoutError:
        if not bound.expired():
            raise
        raise _too_late() from None


def _stream(entry: Entry, around: Surroundings, operation: Stream) -> Stream:
    """The same for an RPC that answers with a stream: one error path, and the deadline spans all items."""
    check = entry.check

    async def streamed(request: Any, call: Call) -> AsyncIterator[Any]:
        outcome = "Cancelled"
        try:
            if call.principal.powerless:
                raise _denied(entry, call)
            check(request)
            limit = None if call.deadline is None else call.deadline - around.clock.monotonic()
            bound = asyncio.timeout(limit)
            try:
                async with bound:
                    async for item in operation(request, call):
                        yield item
            except TimeoutError:
                if not bound.expired():
                    raise
                raise _too_late() from None
            outcome = "OK"
        except AwsError as error:
            outcome = error.name
            raise
        except Exception as error:
            outcome = "ServiceException"
            raise _defect(entry, call, error) from None
        finally:
            around.observe(entry.name, outcome)

    return streamed


def _defect(entry: Entry, call: Call, error: Exception) -> AwsError:
    _log.error(
        "operation failed",
        extra={"operation": entry.full_name, "request_id": call.request_id},
        exc_info=error,
    )
    return AwsError("ServiceException", f"An internal error occurred. Request id: {call.request_id}")


def _denied(entry: Entry, call: Call) -> AwsError:
    who, action = call.principal.arn, entry.action
    why = f"because no identity-based policy allows the {action} action"
    return AwsError("AccessDeniedException", f"User: {who} is not authorized to perform: {action} {why}")


def _too_late() -> AwsError:
    return AwsError("RequestTimeoutException", "The deadline of the request passed before the operation had ended")


class Dispatch:
    """Full method name → Entry."""

    def __init__(
        self,
        services: Iterable[tuple[ServiceDescriptor, object]],
        *,
        clock: Clock,
        observe: Observer = lambda name, outcome: None,
    ) -> None:
        """`services`: each service with the object that has its operations. Raises DispatchError."""
        around = Surroundings(clock, observe)
        self.observe = observe  # doors tell it of what ends before an operation, of no operation as NO_OPERATION
        self._entries: dict[str, Entry] = {}
        problems: list[str] = []
        self.services: list[ServiceDescriptor] = []
        for service, operations in services:
            self.services.append(service)
            many = {method: _rule(method).many_of for method in service.methods if _rule(method).many_of}
            wanted = {_snake(method.name): method for method in service.methods if method not in many}
            owner = type(operations).__name__
            problems += [
                f"{owner}.{name} is an operation of no RPC of {service.full_name}"
                for name in sorted(_public_coroutines(operations) - wanted.keys())
            ]
            for name, method in wanted.items():
                problem = _mismatch(method, name, operations)
                if problem is not None:
                    problems.append(problem)
                else:
                    self._entries[method.full_name] = _entry(method, getattr(operations, name), around)
            for method, name in many.items():
                target = self._entries.get(f"{service.full_name}.{name}")
                if target is None or target.run is None or not (method.client_streaming and method.server_streaming):
                    problems.append(f"{method.full_name} is to take many of {name}, which is no unary RPC beside it")
                else:
                    self._entries[method.full_name] = _entry(method, None, around, many=target)
        if problems:
            raise DispatchError("; ".join(problems))

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All of them, in the protos' order."""
        return self._entries


def _rule(method: MethodDescriptor) -> options_pb2.MethodRule:
    return method.GetOptions().Extensions[options_pb2.method]


def _entry(method: MethodDescriptor, operation: Any, around: Surroundings, many: Entry | None = None) -> Entry:
    rule = _rule(method)
    service = method.containing_service.GetOptions().Extensions[options_pb2.service]
    request_class = GetMessageClass(method.input_type)
    entry = Entry(
        name=method.name,
        full_name=method.full_name,
        method=method,
        rule=rule,
        action=_action(method.name, rule, service),
        request_class=request_class,
        response_class=GetMessageClass(method.output_type),
        check=validator(request_class, service.invalid_request or "ValidationException"),
        run=None,
        run_checked=None,
        stream=None,
        many=many,
    )
    if many is not None:
        return entry
    if method.server_streaming:
        return replace(entry, stream=_stream(entry, around, operation))
    return replace(
        entry, run=_unary(entry, around, operation, entry.check), run_checked=_unary(entry, around, operation, None)
    )


# Operations whose action has another name, and the prefix of what is not AWS's.
# Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
_ACTIONS = {
    "Invoke": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
    "GetLayerVersionByArn": "GetLayerVersion",
}
_OURS = "lambent"


def _action(name: str, rule: options_pb2.MethodRule, service: options_pb2.ServiceRule) -> str:
    prefix = service.signing_name or ("lambda" if rule.aws_operation else _OURS)
    return f"{prefix}:{_ACTIONS.get(rule.aws_operation, rule.aws_operation or name)}"


def _public_coroutines(operations: object) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(type(operations))
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    }


def _mismatch(method: MethodDescriptor, name: str, operations: object) -> str | None:
    where = f"{type(operations).__name__}.{name}"
    operation = getattr(type(operations), name, None)
    if operation is None:
        return f"{method.full_name} has no operation: {where} is missing"
    if method.client_streaming:
        return f"{method.full_name} takes a stream of requests, which no door serves but as many of another RPC"
    if method.server_streaming and not inspect.isasyncgenfunction(operation):
        return f"{where} must be an async generator, since {method.full_name} answers with a stream"
    if not method.server_streaming and not inspect.iscoroutinefunction(operation):
        return f"{where} must be a coroutine function"
    return None


def _snake(name: str) -> str:
    """`CreateFunction` → `create_function`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
