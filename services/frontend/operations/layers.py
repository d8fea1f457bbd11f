"""LayerService: publishing, reading and deleting layers; and giving them to functions."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence

from lambent.domain import layers
from lambent.domain.clock import Clock
from lambent.domain.errors import invalid_parameter
from lambent.domain.functions import AttachedLayer
from lambent.domain.layers import LayerContent, LayerVersion, missing_version
from lambent.domain.limits import Limits
from lambent.domain.names import LayerRef, parse_layer, parse_layer_version
from lambent.v1 import layer_service_pb2 as pb
from services.frontend.code_urls import CodeUrls
from services.frontend.layers.port import LayerStore
from services.frontend.operations import paging
from services.frontend.operations.lookups import storage_exceeded
from services.frontend.operations.timestamps import written
from services.frontend.operations.unserved import refuse_unserved
from services.frontend.operations.uploads import Uploads
from services.frontend.transport.call import Call


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
        named = [(arn, *parse_layer_version(arn)) for arn in arns[: self._limits.layers]]
        own = [item for item in named if item[1].tenant == call.tenant]
        found = await asyncio.gather(*(self._store.get(layer, number) for _, layer, number in own))
        versions = {arn: each for (arn, _, _), each in zip(own, found, strict=True) if each is not None}
        return layers.attach(arns, versions, call.tenant, call.principal.arn, self._limits.layers)


class LayerOperations:
    """The operations of lambent.v1.LayerService."""

    def __init__(self, *, store: LayerStore, uploads: Uploads, urls: CodeUrls, limits: Limits, clock: Clock) -> None:
        self._store = store
        self._uploads = uploads
        self._urls = urls
        self._limits = limits
        self._clock = clock

    async def publish_layer_version(self, request: pb.PublishLayerVersionRequest, call: Call) -> pb.LayerVersion:
        """Keep a package as the layer's next version."""
        layer = _layer(request.layer_name, call)
        refuse_unserved(request.content)
        code = await self._uploads.keep(request.content.zip_file if request.content.HasField("zip_file") else None)
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
        return await self._get(_layer(request.layer_name, call), request.version_number)

    async def get_layer_version_by_arn(self, request: pb.GetLayerVersionByArnRequest, call: Call) -> pb.LayerVersion:
        """A version, by ARN."""
        layer, number = parse_layer_version(request.arn)
        return await self._get(_own(layer, call), number)

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
        layer = _layer(request.layer_name, call)
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
        layer = _layer(request.layer_name, call)
        _check_number(request.version_number)
        version = await self._store.get(layer, request.version_number)
        if version is not None:
            await self._store.delete(version)
        return pb.DeleteLayerVersionResponse()

    async def _get(self, layer: LayerRef, number: int) -> pb.LayerVersion:
        _check_number(number)
        version = await self._store.get(layer, number)
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


def _layer(name: str, call: Call) -> LayerRef:
    """The caller's layer of a name or ARN."""
    return _own(parse_layer(name, call.tenant), call)


def _own(layer: LayerRef, call: Call) -> LayerRef:
    layers.check_account(layer, call.tenant, call.principal.arn)
    if layer.tenant != call.tenant:  # of another region
        raise missing_version()
    return layer


def _fits(version: LayerVersion, request: pb.ListLayersRequest | pb.ListLayerVersionsRequest) -> bool:
    return version.fits(
        request.compatible_runtime if request.HasField("compatible_runtime") else None,
        request.compatible_architecture if request.HasField("compatible_architecture") else None,
    )


def _check_number(number: int) -> None:
    if number < 1:
        raise invalid_parameter("Layer Version Cannot be less than 1")
