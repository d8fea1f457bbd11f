"""TagService: labels of functions and of event source mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.event_sources import EventSourceMapping, mapping_arn
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, not_found, parse
from lambent.domain.tags import check_tags
from lambent.infra.event_sources.port import EventSourceStore
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import tag_service_pb2 as pb
from services.frontend.operations.editing import Editor, edit_mapping
from services.frontend.transport.call import Call

_FUNCTION, _MAPPING = "function", "event-source-mapping"

# From the tags that there are to those that there are to be.
_Change = Callable[[Mapping[str, str]], dict[str, str]]


class TagOperations:
    """The operations of lambent.v1.TagService."""

    def __init__(self, *, store: FunctionStore, editor: Editor, mappings: EventSourceStore, limits: Limits) -> None:
        self._store = store
        self._editor = editor
        self._mappings = mappings
        self._limits = limits

    async def list_tags(self, request: pb.ListTagsRequest, call: Call) -> pb.ListTagsResponse:
        """A resource's tags."""
        tagged = _tagged(request.resource, call)
        if isinstance(tagged, str):
            mapping = await self._mappings.get(call.tenant, tagged)
            if mapping is None:
                raise _no_mapping(tagged, call)
            return pb.ListTagsResponse(tags=mapping.tags or {})
        function = await self._store.find(tagged.tenant, tagged.name, LATEST)
        if function is None:
            raise not_found(tagged)
        return pb.ListTagsResponse(tags=function.tags)

    async def tag_resource(self, request: pb.TagResourceRequest, call: Call) -> pb.TagResourceResponse:
        """Add tags to a resource, or change them."""
        added = dict(request.tags)
        await self._change(request.resource, call, lambda tags: {**tags, **added})
        return pb.TagResourceResponse()

    async def untag_resource(self, request: pb.UntagResourceRequest, call: Call) -> pb.UntagResourceResponse:
        """Remove tags from a resource."""
        gone = frozenset(request.tag_keys)
        await self._change(
            request.resource, call, lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return pb.UntagResourceResponse()

    async def _change(self, arn: str, call: Call, change: _Change) -> None:
        tagged = _tagged(arn, call)
        if isinstance(tagged, str):
            await self._change_mapping(tagged, call, change)
            return
        ref = tagged

        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            after = change(function.tags)
            if after == function.tags:
                return None
            check_tags(after, self._limits)
            return Edit(ref.tenant, ref.name, NOBODY, tags=after)

        await self._editor.edit(ref, decide)

    async def _change_mapping(self, uuid: str, call: Call, change: _Change) -> None:

        async def decide(before: EventSourceMapping) -> EventSourceMapping:
            tags = before.tags or {}
            after = change(tags)
            if after == tags:
                return before
            check_tags(after, self._limits)
            return before.next(tags=after or None)

        await edit_mapping(self._mappings, call.tenant, uuid, decide, _no_mapping(uuid, call))


def _tagged(arn: str, call: Call) -> FunctionRef | str:
    """The function that an ARN, already known to be of AWS's form, means, or a mapping's UUID. Raises AwsError."""
    kind, _, rest = arn.split(":", 5)[5].partition(":")
    if kind == _MAPPING and arn == mapping_arn(call.tenant, rest):
        return rest
    if kind != _FUNCTION:
        raise _nothing_tagged(kind, arn)
    ref = parse(arn, None, call.tenant)
    if ref.qualifier is not None:
        raise invalid_parameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
    return ref


def _no_mapping(uuid: str, call: Call) -> AwsError:
    return _nothing_tagged(_MAPPING, mapping_arn(call.tenant, uuid))


def _nothing_tagged(kind: str, arn: str) -> AwsError:
    what = kind.replace("-", " ").capitalize()
    return AwsError("ResourceNotFoundException", f"{what} not found: {arn}")
