"""RuntimeManagementService: when the runtime of a function's version is to change.

It is kept and shown, as tools set it; what runs is what the workers have.
"""

from __future__ import annotations

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import invalid_parameter
from lambent.domain.functions import Function, RuntimeManagement
from lambent.domain.names import LATEST, FunctionRef, function_arn, not_found, parse
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import runtime_management_service_pb2 as pb
from services.frontend.operations.editing import Editor
from services.frontend.transport.call import Call

_MANUAL = "Manual"


class RuntimeManagementOperations:
    """The operations of lambent.v1.RuntimeManagementService."""

    def __init__(self, *, store: FunctionStore, editor: Editor) -> None:
        self._store = store
        self._editor = editor

    async def put_runtime_management_config(
        self, request: pb.PutRuntimeManagementConfigRequest, call: Call
    ) -> pb.PutRuntimeManagementConfigResponse:
        """Of one version; a new one has none of it."""
        ref, version = _version(request, call)
        arn = request.runtime_version_arn if request.HasField("runtime_version_arn") else None
        if (arn is not None) != (request.update_runtime_on == _MANUAL):
            raise invalid_parameter("A RuntimeVersionArn is needed with UpdateRuntimeOn Manual, and only then.")
        wanted = RuntimeManagement(request.update_runtime_on, arn)

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            if not function.has(version):
                raise not_found(ref)
            return Edit(ref.tenant, ref.name, NOBODY, runtime_management={version: wanted})

        await self._editor.edit(ref, decide)
        return pb.PutRuntimeManagementConfigResponse(
            update_runtime_on=wanted.update_on,
            runtime_version_arn=arn,
            function_arn=function_arn(ref.tenant, ref.name, version),
        )

    async def get_runtime_management_config(
        self, request: pb.GetRuntimeManagementConfigRequest, call: Call
    ) -> pb.GetRuntimeManagementConfigResponse:
        """What was set; Auto where nothing was."""
        ref, version = _version(request, call)
        function = await self._store.find(ref.tenant, ref.name, version)
        if function is None or not function.has(version):
            raise not_found(ref)
        found = function.runtime_management.get(version, RuntimeManagement())
        return pb.GetRuntimeManagementConfigResponse(
            update_runtime_on=found.update_on,
            runtime_version_arn=found.version_arn,
            function_arn=function_arn(ref.tenant, ref.name, version),
        )


def _version(
    request: pb.PutRuntimeManagementConfigRequest | pb.GetRuntimeManagementConfigRequest, call: Call
) -> tuple[FunctionRef, str]:
    """The function as it was named, and which of its versions that is; an alias is none."""
    ref = parse(request.function_name, request.qualifier if request.HasField("qualifier") else None, call.tenant)
    return ref, ref.qualifier or LATEST
