"""AliasService: names for versions.

Source of the order of checks and of the texts: https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html
and AWS's recorded answers.
"""

from __future__ import annotations

import dataclasses

from lambent.domain.clock import Ids
from lambent.domain.concurrency import ConcurrencyState, delete_provisioned, repoint
from lambent.domain.errors import AwsError, conflict, invalid_parameter
from lambent.domain.functions import AliasRecord, Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, alias_not_found, function_arn, not_found
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import alias_service_pb2 as pb
from services.frontend.operations import paging
from services.frontend.operations.editing import Editor
from services.frontend.operations.lookups import check_revision, function_ref
from services.frontend.transport.call import Call


class AliasOperations:
    """The operations of lambent.v1.AliasService."""

    def __init__(self, *, store: FunctionStore, editor: Editor, limits: Limits, ids: Ids) -> None:
        self._store = store
        self._editor = editor
        self._limits = limits
        self._ids = ids

    async def create_alias(self, request: pb.CreateAliasRequest, call: Call) -> pb.AliasConfiguration:
        """A new name for a version, or for two with weights."""
        ref = function_ref(request.function_name, call)
        alias = AliasRecord(
            name=request.name,
            version=request.function_version,
            description=request.description,
            weights=dict(request.routing_config.additional_version_weights),
            revision_id=self._ids.uuid(),
        )

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            if not function.has(alias.version):
                raise not_found(_named(ref, alias.version))
            if alias.name in function.aliases:
                raise conflict(f"Alias already exists: {_named(ref, alias.name).arn}")
            check_weights(function, alias)
            return Edit(ref.tenant, ref.name, NOBODY, aliases={alias.name: alias})

        await self._editor.edit(ref, decide)
        return _message(ref, alias)

    async def get_alias(self, request: pb.GetAliasRequest, call: Call) -> pb.AliasConfiguration:
        """One alias."""
        ref = function_ref(request.function_name, call)
        function = await self._store.find(ref.tenant, ref.name, request.name)
        if function is None:
            raise not_found(ref)
        alias = function.aliases.get(request.name)
        if alias is None:
            raise alias_not_found(_named(ref, request.name))
        return _message(ref, alias)

    async def list_aliases(self, request: pb.ListAliasesRequest, call: Call) -> pb.ListAliasesResponse:
        """One page, by name. Markers carry the last name of the page before."""
        ref = function_ref(request.function_name, call)
        function = await self._store.read(ref.tenant, ref.name)
        if function is None:
            raise not_found(ref)
        after = paging.marker_after(request) if request.HasField("marker") else ""
        wanted = request.function_version if request.HasField("function_version") else None
        aliases = (function.aliases[name] for name in sorted(function.aliases) if name > after)
        found, marker = paging.page(
            (alias for alias in aliases if wanted in (None, alias.version)),
            lambda alias: alias.name,
            paging.page_size(request, self._limits),
        )
        return pb.ListAliasesResponse(next_marker=marker, aliases=[_message(ref, alias) for alias in found])

    async def update_alias(self, request: pb.UpdateAliasRequest, call: Call) -> pb.AliasConfiguration:
        """Changes the members that are sent."""
        ref = function_ref(request.function_name, call)
        revision_id = self._ids.uuid()
        answer: list[AliasRecord] = []

        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            before = function.aliases.get(request.name)
            if before is None:
                raise AwsError("ResourceNotFoundException", f"Alias not found: {_named(ref, request.name).arn}")
            check_revision(before.revision_id, request.revision_id if request.HasField("revision_id") else None)
            after = dataclasses.replace(before, revision_id=revision_id)
            if request.HasField("description"):
                after = dataclasses.replace(after, description=request.description)
            if request.HasField("routing_config"):
                weights = dict(request.routing_config.additional_version_weights)
                after = dataclasses.replace(after, weights=weights)
            if request.HasField("function_version"):
                after = dataclasses.replace(after, version=request.function_version)
            if not function.has(after.version):
                raise not_found(_named(ref, after.version))
            check_weights(function, after)
            answer[:] = [after]
            return Edit(
                ref.tenant, ref.name, NOBODY, aliases={after.name: after},
                settings=repoint(settings, function, before, after),
            )  # fmt: skip

        await self._editor.edit(ref, decide)
        return _message(ref, answer[0])

    async def delete_alias(self, request: pb.DeleteAliasRequest, call: Call) -> pb.DeleteAliasResponse:
        """Forget an alias and its provisioned concurrency. No error if there is none."""
        ref = function_ref(request.function_name, call)

        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            if request.name not in function.aliases:
                return None
            after = delete_provisioned(settings, ref.name, request.name)
            gone = {request.name: None}
            return Edit(
                ref.tenant, ref.name, NOBODY, aliases=gone, event_configs=gone, policies=gone, urls=gone,
                settings=after,
            )  # fmt: skip

        await self._editor.edit(ref, decide)
        return pb.DeleteAliasResponse()


def check_weights(function: Function, alias: AliasRecord) -> None:
    """Refuse weights that AWS refuses; both versions must be published, with one role and one dead-letter target."""
    if len(alias.weights) > 1:
        raise invalid_parameter("Number of items in AdditionalVersionWeights cannot be greater than 1")
    for additional in alias.weights:
        if additional == alias.version:
            raise invalid_parameter(
                f"Invalid function version {additional}. "
                f"Function version {additional} is already included in routing configuration."
            )
        if alias.version == LATEST:
            raise invalid_parameter("$LATEST is not supported for an alias pointing to more than 1 version")
        if not function.has(additional):
            record = function.record
            raise not_found(FunctionRef(record.tenant, record.name, additional))
        one, other = (function.versions[each].deployed.configuration for each in alias.versions)
        if one.role != other.role:
            raise invalid_parameter("The versions that an alias points to must have the same execution role.")
        if one.dead_letter_target != other.dead_letter_target:
            raise invalid_parameter("The versions that an alias points to must have the same dead-letter queue.")


def _named(ref: FunctionRef, qualifier: str) -> FunctionRef:
    return FunctionRef(ref.tenant, ref.name, qualifier)


def _message(ref: FunctionRef, alias: AliasRecord) -> pb.AliasConfiguration:
    message = pb.AliasConfiguration(
        alias_arn=function_arn(ref.tenant, ref.name, alias.name),
        name=alias.name,
        function_version=alias.version,
        description=alias.description,
        revision_id=alias.revision_id,
    )
    if alias.weights:
        message.routing_config.additional_version_weights.update(alias.weights)
    return message
