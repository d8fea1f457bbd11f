"""ConcurrencyService: reserved concurrency of functions, provisioned concurrency of versions and aliases.

What may be set is decided by lambent/domain/concurrency.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from lambent.domain import concurrency
from lambent.domain.concurrency import Provisioned
from lambent.domain.errors import invalid_parameter
from lambent.domain.limits import Limits
from lambent.domain.names import (
    LATEST,
    FunctionRef,
    Tenant,
    function_arn,
    not_found,
    parse,
)
from lambent.infra.functions.port import FunctionStore
from lambent.internal.v1.scheduler_service_pb2 import ProvisionedStatus
from lambent.v1 import concurrency_service_pb2 as pb
from lambent.v1 import function_service_pb2
from services.frontend.operations import paging
from services.frontend.operations.editing import Editor
from services.frontend.operations.lookups import function_ref
from services.frontend.operations.provisioner import Provisioner, check_exists, settings_edit
from services.frontend.provisioned_statuses import ProvisionedStatuses
from services.frontend.transport.call import Call

_FUNCTIONS_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)
_NOT_PUBLISHED = "The function resource provided must be an alias or a published version."

Shown = TypeVar(
    "Shown",
    pb.PutProvisionedConcurrencyConfigResponse,
    pb.GetProvisionedConcurrencyConfigResponse,
    pb.ProvisionedConcurrencyConfigListItem,
)
_Request = (
    pb.PutProvisionedConcurrencyConfigRequest
    | pb.GetProvisionedConcurrencyConfigRequest
    | pb.DeleteProvisionedConcurrencyConfigRequest
)


class ConcurrencyOperations:
    """The operations of lambent.v1.ConcurrencyService."""

    def __init__(
        self,
        *,
        store: FunctionStore,
        editor: Editor,
        provisioner: Provisioner,
        statuses: ProvisionedStatuses,
        limits: Limits,
    ) -> None:
        self._store = store
        self._editor = editor
        self._provisioner = provisioner
        self._statuses = statuses
        self._limits = limits

    # Reserved

    async def put_function_concurrency(
        self, request: pb.PutFunctionConcurrencyRequest, call: Call
    ) -> function_service_pb2.Concurrency:
        """Guarantee a function that much, and no more."""
        ref, executions = _whole_function(request.function_name, call), request.reserved_concurrent_executions
        await self._editor.edit(
            ref,
            lambda function, settings: settings_edit(
                ref, settings, concurrency.put_reserved(settings, ref.name, executions, self._limits)
            ),
        )
        return function_service_pb2.Concurrency(reserved_concurrent_executions=executions)

    async def get_function_concurrency(
        self, request: pb.GetFunctionConcurrencyRequest, call: Call
    ) -> pb.GetFunctionConcurrencyResponse:
        """What a function has reserved; empty where nothing is set."""
        ref = _whole_function(request.function_name, call)
        if await self._store.get(ref.tenant, ref.name) is None:
            raise not_found(ref)
        settings = await self._store.settings(ref.tenant)
        return pb.GetFunctionConcurrencyResponse(reserved_concurrent_executions=settings.reserved.get(ref.name))

    async def delete_function_concurrency(
        self, request: pb.DeleteFunctionConcurrencyRequest, call: Call
    ) -> pb.DeleteFunctionConcurrencyResponse:
        """Give it back. No error if there was none."""
        ref = _whole_function(request.function_name, call)
        await self._editor.edit(
            ref,
            lambda function, settings: settings_edit(ref, settings, concurrency.delete_reserved(settings, ref.name)),
        )
        return pb.DeleteFunctionConcurrencyResponse()

    # Provisioned

    async def put_provisioned_concurrency_config(
        self, request: pb.PutProvisionedConcurrencyConfigRequest, call: Call
    ) -> pb.PutProvisionedConcurrencyConfigResponse:
        """Keep environments of a version or alias initialised; the scheduler begins at once."""
        ref, qualifier = _qualified(request, call, concurrency.UNPUBLISHED)
        executions = request.provisioned_concurrent_executions
        now = await self._provisioner.put(ref, qualifier, executions)
        return _fill(pb.PutProvisionedConcurrencyConfigResponse(), Provisioned(executions, 0, now), None)

    async def get_provisioned_concurrency_config(
        self, request: pb.GetProvisionedConcurrencyConfigRequest, call: Call
    ) -> pb.GetProvisionedConcurrencyConfigResponse:
        """Where one configuration stands."""
        ref, qualifier = _qualified(request, call, _NOT_PUBLISHED)
        function = await self._store.find(ref.tenant, ref.name, qualifier)
        if function is None:
            raise not_found(FunctionRef(ref.tenant, ref.name, None))
        check_exists(function, qualifier)
        configuration = (await self._store.settings(ref.tenant)).of(ref.name).get(qualifier)
        if configuration is None:
            raise concurrency.missing_configuration()
        statuses = await self._describe(ref.tenant, ref.name)
        return _fill(pb.GetProvisionedConcurrencyConfigResponse(), configuration, statuses.get(qualifier))

    async def delete_provisioned_concurrency_config(
        self, request: pb.DeleteProvisionedConcurrencyConfigRequest, call: Call
    ) -> pb.DeleteProvisionedConcurrencyConfigResponse:
        """Let the environments go. No error if there is no configuration."""
        ref, qualifier = _qualified(request, call, _NOT_PUBLISHED)
        await self._provisioner.delete(ref, qualifier)
        return pb.DeleteProvisionedConcurrencyConfigResponse()

    async def list_provisioned_concurrency_configs(
        self, request: pb.ListProvisionedConcurrencyConfigsRequest, call: Call
    ) -> pb.ListProvisionedConcurrencyConfigsResponse:
        """One page, by qualifier. Markers carry the last qualifier of the page before."""
        ref = function_ref(request.function_name, call)
        if await self._store.get(ref.tenant, ref.name) is None:
            raise not_found(ref)
        after = paging.marker_after(request) if request.HasField("marker") else ""
        configurations = (await self._store.settings(ref.tenant)).of(ref.name)
        found, marker = paging.page(
            (qualifier for qualifier in sorted(configurations) if qualifier > after),
            lambda qualifier: qualifier,
            paging.page_size(request, self._limits),
        )
        statuses = await self._describe(ref.tenant, ref.name) if found else {}
        response = pb.ListProvisionedConcurrencyConfigsResponse(next_marker=marker)
        for qualifier in found:
            item = response.provisioned_concurrency_configs.add(
                function_arn=function_arn(ref.tenant, ref.name, qualifier)
            )
            _fill(item, configurations[qualifier], statuses.get(qualifier))
        return response

    async def _describe(self, tenant: Tenant, name: str) -> dict[str, ProvisionedStatus]:
        return {status.qualifier: status for status in await self._statuses.describe(tenant, name)}


def _whole_function(name: str, call: Call) -> FunctionRef:
    ref = parse(name, None, call.tenant)
    if ref.qualifier is not None:
        raise invalid_parameter(_FUNCTIONS_ONLY)
    return ref


def _qualified(request: _Request, call: Call, unpublished: str) -> tuple[FunctionRef, str]:
    """The function and its qualifier. `unpublished`: what is said of $LATEST."""
    ref = parse(request.function_name, request.qualifier, call.tenant)
    assert ref.qualifier is not None
    if ref.qualifier == LATEST:
        raise invalid_parameter(unpublished)
    return ref, ref.qualifier


def _fill(message: Shown, configuration: Provisioned, status: ProvisionedStatus | None) -> Shown:
    """A configuration with what the scheduler says of it; one that it has not heard of yet has just begun."""
    message.requested_provisioned_concurrent_executions = configuration.executions
    message.last_modified = datetime.fromtimestamp(configuration.last_modified, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
    if status is None or status.requested != configuration.executions:
        message.available_provisioned_concurrent_executions = 0
        message.allocated_provisioned_concurrent_executions = 0
        message.status = "IN_PROGRESS"
        return message
    message.available_provisioned_concurrent_executions = status.available
    message.allocated_provisioned_concurrent_executions = status.allocated
    message.status = status.status
    if status.status_reason:
        message.status_reason = status.status_reason
    return message
