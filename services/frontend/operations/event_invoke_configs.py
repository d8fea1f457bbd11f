"""EventInvokeService: how asynchronous events of functions, versions and aliases are run.

What may be set is decided by lambent/domain/event_invoke.py.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain import event_invoke
from lambent.domain.clock import Clock
from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError
from lambent.domain.event_invoke import EventInvokeConfig, Wanted
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, Tenant, function_arn, parse
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import event_invoke_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.editing import Editor
from services.frontend.transport.call import Call

_Change = pb.PutFunctionEventInvokeConfigRequest | pb.UpdateFunctionEventInvokeConfigRequest
_Request = _Change | pb.GetFunctionEventInvokeConfigRequest | pb.DeleteFunctionEventInvokeConfigRequest


class EventInvokeConfigOperations:
    """The operations of lambent.v1.EventInvokeService."""

    def __init__(self, *, store: FunctionStore, editor: Editor, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._editor = editor
        self._limits = limits
        self._clock = clock

    async def put_function_event_invoke_config(
        self, request: pb.PutFunctionEventInvokeConfigRequest, call: Call
    ) -> pb.FunctionEventInvokeConfig:
        """Replaces everything."""
        ref, now = _ref(request, call), self._clock.epoch()
        wanted = _wanted(request)
        return await self._change(ref, wanted, lambda before: event_invoke.put(wanted, now))

    async def update_function_event_invoke_config(
        self, request: pb.UpdateFunctionEventInvokeConfigRequest, call: Call
    ) -> pb.FunctionEventInvokeConfig:
        """Changes the members that are sent."""
        ref, now = _ref(request, call), self._clock.epoch()
        wanted = _wanted(request)

        def decide(before: EventInvokeConfig | None) -> EventInvokeConfig:
            if before is None:
                raise event_invoke.nothing_set(ref)
            return event_invoke.merge(before, wanted, now)

        return await self._change(ref, wanted, decide)

    async def get_function_event_invoke_config(
        self, request: pb.GetFunctionEventInvokeConfigRequest, call: Call
    ) -> pb.FunctionEventInvokeConfig:
        """What is set."""
        ref = _ref(request, call)
        assert ref.qualifier is not None
        function = await self._store.find(ref.tenant, ref.name, ref.qualifier)
        config = None if function is None else function.event_configs.get(ref.qualifier)
        if config is None:
            raise event_invoke.nothing_set(ref)
        return _message(ref.tenant, ref.name, ref.qualifier, config)

    async def delete_function_event_invoke_config(
        self, request: pb.DeleteFunctionEventInvokeConfigRequest, call: Call
    ) -> pb.DeleteFunctionEventInvokeConfigResponse:
        """Goes back to the defaults."""
        ref = _ref(request, call)
        qualifier = ref.qualifier
        assert qualifier is not None

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            if qualifier not in function.event_configs:
                raise event_invoke.nothing_set(ref)
            return Edit(ref.tenant, ref.name, NOBODY, event_configs={qualifier: None}, settings=settings)

        await self._edit(ref, decide, event_invoke.nothing_set(ref))
        return pb.DeleteFunctionEventInvokeConfigResponse()

    async def list_function_event_invoke_configs(
        self, request: pb.ListFunctionEventInvokeConfigsRequest, call: Call
    ) -> pb.ListFunctionEventInvokeConfigsResponse:
        """One page, by qualifier. Markers carry the last qualifier of the page before."""
        ref = parse(request.function_name, None, call.tenant)
        function = await self._store.read(ref.tenant, ref.name)
        if function is None:
            raise event_invoke.no_function()
        after = paging.marker_after(request) if request.HasField("marker") else ""
        found, marker = paging.page(
            (qualifier for qualifier in sorted(function.event_configs) if qualifier > after),
            lambda qualifier: qualifier,
            paging.page_size(request, self._limits),
        )
        return pb.ListFunctionEventInvokeConfigsResponse(
            next_marker=marker,
            function_event_invoke_configs=[
                _message(ref.tenant, ref.name, qualifier, function.event_configs[qualifier]) for qualifier in found
            ],
        )

    async def _change(
        self, ref: FunctionRef, wanted: Wanted, change: Callable[[EventInvokeConfig | None], EventInvokeConfig]
    ) -> pb.FunctionEventInvokeConfig:
        qualifier = ref.qualifier
        assert qualifier is not None
        for destination in event_invoke.functions_told(ref, wanted):
            name, told = destination.function
            other = await self._store.find(ref.tenant, name, told or LATEST)
            if other is None or not other.stands_for(told or LATEST):
                raise event_invoke.unknown_function(destination.arn)
        answer: list[EventInvokeConfig] = []

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            if not function.stands_for(qualifier):
                raise event_invoke.no_function()
            answer[:] = [change(function.event_configs.get(qualifier))]
            return Edit(ref.tenant, ref.name, NOBODY, event_configs={qualifier: answer[0]}, settings=settings)

        await self._edit(ref, decide, event_invoke.no_function())
        return _message(ref.tenant, ref.name, qualifier, answer[0])

    async def _edit(
        self, ref: FunctionRef, decide: Callable[[Function, ConcurrencyState], Edit], missing: AwsError
    ) -> None:
        """As `Editor.edit`; `missing`: what is said where there is no function."""
        if await self._store.get(ref.tenant, ref.name) is None:
            raise missing
        await self._editor.edit(ref, decide)


def _ref(request: _Request, call: Call) -> FunctionRef:
    """What a request is about; $LATEST where it names no qualifier."""
    ref = parse(request.function_name, request.qualifier if request.HasField("qualifier") else None, call.tenant)
    return FunctionRef(ref.tenant, ref.name, ref.qualifier or LATEST)


def _wanted(request: _Change) -> Wanted:
    config = request.destination_config
    success, failure = config.on_success, config.on_failure
    return Wanted(
        request.maximum_retry_attempts if request.HasField("maximum_retry_attempts") else None,
        request.maximum_event_age_in_seconds if request.HasField("maximum_event_age_in_seconds") else None,
        # A destination that is sent without an ARN is none.
        success.destination if config.HasField("on_success") else None,
        failure.destination if config.HasField("on_failure") else None,
    )


def _message(tenant: Tenant, name: str, qualifier: str, config: EventInvokeConfig) -> pb.FunctionEventInvokeConfig:
    modified = Timestamp()
    modified.FromMilliseconds(int(config.last_modified * 1000))
    return pb.FunctionEventInvokeConfig(
        last_modified=modified,
        function_arn=function_arn(tenant, name, qualifier),
        maximum_retry_attempts=config.retry_attempts,
        maximum_event_age_in_seconds=config.event_age_seconds,
        # Both are there, told or not.
        destination_config=pb.DestinationConfig(
            on_success=pb.OnSuccess(destination=config.on_success),
            on_failure=pb.OnFailure(destination=config.on_failure),
        ),
    )
