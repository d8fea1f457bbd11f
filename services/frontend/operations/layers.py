"""LayerService: publishing, reading, sharing and deleting layers; and giving them to functions."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from lambent.domain import layers, policies
from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import AttachedLayer
from lambent.domain.layers import LayerContent, LayerVersion, may_get, missing_version, nothing_to_share
from lambent.domain.limits import Limits
from lambent.domain.names import LayerRef, Tenant, parse_layer, parse_layer_version
from lambent.domain.policies import GET_LAYER_VERSION, Policy, denied
from lambent.v1 import layer_service_pb2 as pb
from services.frontend.code_urls import CodeUrls
from services.frontend.layers.port import LayerStore
from services.frontend.operations import paging
from services.frontend.operations.editing import ATTEMPTS
from services.frontend.operations.lookups import check_revision, storage_exceeded
from services.frontend.operations.timestamps import written
from services.frontend.operations.unserved import refuse_unserved
from services.frontend.operations.uploads import Uploads, package_of
from services.frontend.transport.call import Call

_Sharing = (
    pb.AddLayerVersionPermissionRequest | pb.RemoveLayerVersionPermissionRequest | pb.GetLayerVersionPolicyRequest
)
_Changing = pb.AddLayerVersionPermissionRequest | pb.RemoveLayerVersionPermissionRequest


class LayerAttacher:
    """Finds the layers that requests on functions name."""

    def __init__(self, store: LayerStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    async def attach(self, arns: Sequence[str], call: Call) -> tuple[AttachedLayer, ...]:
        """The layers of these version ARNs, in order; one empty ARN stands for none (`clearable` in options.proto).

        Raises InvalidParameterValueException and AccessDeniedException.
        """
        if list(arns) == [""]:
            return ()
        named = arns[: self._limits.layers]
        found = await asyncio.gather(*(_find(self._store, *parse_layer_version(arn), call) for arn in named))
        versions = {arn: each for arn, each in zip(named, found, strict=True) if each is not None}
        return layers.attach(arns, versions, call.tenant, call.principal, self._limits.layers)


class LayerOperations:
    """The operations of lambent.v1.LayerService."""

    def __init__(
        self, *, store: LayerStore, uploads: Uploads, urls: CodeUrls, limits: Limits, clock: Clock, ids: Ids
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._urls = urls
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._locks: WeakValueDictionary[Tenant, asyncio.Lock] = WeakValueDictionary()

    async def publish_layer_version(self, request: pb.PublishLayerVersionRequest, call: Call) -> pb.LayerVersion:
        """Keep a package as the layer's next version."""
        layer = _layer(request.layer_name, call, "lambda:PublishLayerVersion")
        refuse_unserved(request.content)
        code = await self._uploads.keep(package_of(request.content), layer.tenant)
        content = LayerContent(
            description=request.description,
            created=self._clock.epoch(),
            code=code,
            runtimes=tuple(request.compatible_runtimes),
            architectures=tuple(request.compatible_architectures),
            license=request.license_info if request.HasField("license_info") else None,
        )
        number = await self._store.publish(layer, content, self._limits.code_storage_bytes)
        if number is None:
            raise storage_exceeded()
        return self._message(LayerVersion(layer, number, content))

    async def get_layer_version(self, request: pb.GetLayerVersionRequest, call: Call) -> pb.LayerVersion:
        """A version, by name and number."""
        return await self._get(parse_layer(request.layer_name, call.tenant), request.version_number, call)

    async def get_layer_version_by_arn(self, request: pb.GetLayerVersionByArnRequest, call: Call) -> pb.LayerVersion:
        """A version, by ARN."""
        return await self._get(*parse_layer_version(request.arn), call)

    async def list_layers(self, request: pb.ListLayersRequest, call: Call) -> pb.ListLayersResponse:
        """One page, by name. Markers carry the last name of the page before."""
        after = paging.marker_after(request) if request.HasField("marker") else ""
        size = paging.page_size(request, self._limits)
        found: list[pb.LayersListItem] = []
        while len(found) <= size:
            names = await self._store.names(call.tenant, after, size + 1)
            if not names:
                break
            after = names[-1]
            refs = [LayerRef(call.tenant, name) for name in names]
            every = await asyncio.gather(*(self._store.versions(layer) for layer in refs))
            for layer, versions in zip(refs, every, strict=True):
                latest = next((each for each in versions if _fits(each, request)), None)
                if latest is not None:
                    item = pb.LayersListItem(layer_name=layer.name, layer_arn=layer.arn)
                    item.latest_matching_version.CopyFrom(_list_item(latest))
                    found.append(item)
        shown, marker = paging.page(found, lambda item: item.layer_name, size)
        return pb.ListLayersResponse(next_marker=marker, layers=shown)

    async def list_layer_versions(
        self, request: pb.ListLayerVersionsRequest, call: Call
    ) -> pb.ListLayerVersionsResponse:
        """One page, the newest first; a layer that is not there has no versions. Markers carry the last number."""
        layer = _layer(request.layer_name, call, "lambda:ListLayerVersions")
        before = paging.marker_after(request) if request.HasField("marker") else ""
        versions = [each for each in await self._store.versions(layer) if _fits(each, request)]
        if before.isdecimal():
            versions = [each for each in versions if each.number < int(before)]
        found, marker = paging.page(versions, lambda each: str(each.number), paging.page_size(request, self._limits))
        return pb.ListLayerVersionsResponse(next_marker=marker, layer_versions=[_list_item(each) for each in found])

    async def delete_layer_version(
        self, request: pb.DeleteLayerVersionRequest, call: Call
    ) -> pb.DeleteLayerVersionResponse:
        """Forget a version. Functions that have it keep it, as its package stays in the code store."""
        layer = _layer(request.layer_name, call, "lambda:DeleteLayerVersion")
        _check_number(request.version_number)
        version = await self._store.get(layer, request.version_number)
        if version is not None:
            await self._store.delete(version)
        return pb.DeleteLayerVersionResponse()

    async def add_layer_version_permission(
        self, request: pb.AddLayerVersionPermissionRequest, call: Call
    ) -> pb.AddLayerVersionPermissionResponse:
        """Let other accounts get a version."""
        organization = request.organization_id if request.HasField("organization_id") else None
        statement = layers.permission(request.statement_id, request.principal, organization)
        layer = _shared(request, call, "lambda:AddLayerVersionPermission")
        arn, revision_id = layer.version_arn(request.version_number), self._ids.uuid()

        def decide(before: Policy | None) -> Policy:
            return policies.add(before, statement, arn, revision_id, self._limits.policy_bytes)

        await self._change_policy(layer, request, decide)
        return pb.AddLayerVersionPermissionResponse(statement=statement.text(arn), revision_id=revision_id)

    async def remove_layer_version_permission(
        self, request: pb.RemoveLayerVersionPermissionRequest, call: Call
    ) -> pb.RemoveLayerVersionPermissionResponse:
        """Let them no more. Functions that have the version keep it."""
        layer = _shared(request, call, "lambda:RemoveLayerVersionPermission")
        revision_id = self._ids.uuid()
        await self._change_policy(
            layer, request, lambda before: policies.remove(before, request.statement_id, revision_id)
        )
        return pb.RemoveLayerVersionPermissionResponse()

    async def get_layer_version_policy(
        self, request: pb.GetLayerVersionPolicyRequest, call: Call
    ) -> pb.GetLayerVersionPolicyResponse:
        """Who may get a version."""
        layer = _shared(request, call, "lambda:GetLayerVersionPolicy")
        policy = await self._policy(layer, request.version_number)
        if policy is None:
            raise policies.no_policy()
        arn = layer.version_arn(request.version_number)
        return pb.GetLayerVersionPolicyResponse(policy=policy.text(arn), revision_id=policy.revision_id)

    async def _policy(self, layer: LayerRef, number: int) -> Policy | None:
        """A version's policy. Raises ResourceNotFoundException where there is no such version."""
        version, policy = await asyncio.gather(self._store.get(layer, number), self._store.policy(layer, number))
        if version is None:
            raise nothing_to_share(layer.version_arn(number))
        return policy

    async def _change_policy(
        self, layer: LayerRef, request: _Changing, decide: Callable[[Policy | None], Policy | None]
    ) -> None:
        """Replace a version's policy by what `decide` makes of it, and again if somebody was quicker."""
        number, expected = request.version_number, request.revision_id if request.HasField("revision_id") else None
        # One at a time in this process: among frontends, too few are ever quicker for a change to come to nothing.
        lock = self._locks.setdefault(layer.tenant, asyncio.Lock())
        async with lock:
            for _ in range(ATTEMPTS):
                before = await self._policy(layer, number)
                revision = None if before is None else before.revision_id
                check_revision(revision, expected, "GetLayerPolicy")
                if await self._store.set_policy(layer, number, decide(before), revision):
                    return
        raise AwsError("ServiceUnavailableException", "Too many changes of this policy at once; try again shortly.")

    async def _get(self, layer: LayerRef, number: int, call: Call) -> pb.LayerVersion:
        _check_number(number)
        version = await _find(self._store, layer, number, call)
        if version is None and layer.tenant.account != call.tenant.account:
            raise denied(call.principal, GET_LAYER_VERSION, layer.version_arn(number))
        if version is None:
            raise missing_version()
        return self._message(version)

    def _message(self, version: LayerVersion) -> pb.LayerVersion:
        content = version.content
        return pb.LayerVersion(
            content=pb.LayerVersionContentOutput(
                location=self._urls.make(content.code.sha256),
                code_sha256=base64.b64encode(bytes.fromhex(content.code.sha256)).decode(),
                code_size=content.code.size,
            ),
            layer_arn=version.layer.arn,
            layer_version_arn=version.arn,
            description=content.description,
            created_date=written(content.created),
            version=version.number,
            compatible_runtimes=content.runtimes,
            license_info=content.license,
            compatible_architectures=content.architectures,
        )


def _list_item(version: LayerVersion) -> pb.LayerVersionsListItem:
    content = version.content
    return pb.LayerVersionsListItem(
        layer_version_arn=version.arn,
        version=version.number,
        description=content.description,
        created_date=written(content.created),
        compatible_runtimes=content.runtimes,
        license_info=content.license,
        compatible_architectures=content.architectures,
    )


async def _find(store: LayerStore, layer: LayerRef, number: int, call: Call) -> LayerVersion | None:
    """A version in the caller's region. None: there is none such, or the caller may not have it."""
    if layer.tenant.region != call.tenant.region:
        return None
    policy = None if layer.tenant == call.tenant else await store.policy(layer, number)
    return await store.get(layer, number) if may_get(call.principal, layer, policy) else None


def _layer(name: str, call: Call, action: str) -> LayerRef:
    """The caller's own layer of a name or ARN; other accounts are allowed nothing but to get versions."""
    layer = parse_layer(name, call.tenant)
    if layer.tenant.account != call.tenant.account:
        raise denied(call.principal, action, layer.arn)
    if layer.tenant != call.tenant:  # of another region
        raise missing_version()
    return layer


def _shared(request: _Sharing, call: Call, action: str) -> LayerRef:
    """The caller's own layer whose version's policy is meant."""
    layer = _layer(request.layer_name, call, action)
    _check_number(request.version_number)
    return layer


def _fits(version: LayerVersion, request: pb.ListLayersRequest | pb.ListLayerVersionsRequest) -> bool:
    return version.fits(
        request.compatible_runtime if request.HasField("compatible_runtime") else None,
        request.compatible_architecture if request.HasField("compatible_architecture") else None,
    )


def _check_number(number: int) -> None:
    if number < 1:
        raise invalid_parameter("Layer Version Cannot be less than 1")
