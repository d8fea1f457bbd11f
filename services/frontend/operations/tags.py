"""TagService: labels of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import LATEST, FunctionRef, not_found, parse
from lambent.domain.tags import check_tags
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import tag_service_pb2 as pb
from services.frontend.operations.editing import Editor
from services.frontend.transport.call import Call

_FUNCTION = "function"


class TagOperations:
    """The operations of lambent.v1.TagService."""

    def __init__(self, *, store: FunctionStore, editor: Editor, limits: Limits) -> None:
        self._store = store
        self._editor = editor
        self._limits = limits

    async def list_tags(self, request: pb.ListTagsRequest, call: Call) -> pb.ListTagsResponse:
        """A function's tags."""
        ref = _tagged(request.resource, call)
        function = await self._store.find(ref.tenant, ref.name, LATEST)
        if function is None:
            raise not_found(ref)
        return pb.ListTagsResponse(tags=function.tags)

    async def tag_resource(self, request: pb.TagResourceRequest, call: Call) -> pb.TagResourceResponse:
        """Add tags to a function, or change them."""
        ref, added = _tagged(request.resource, call), dict(request.tags)
        await self._change(ref, lambda tags: {**tags, **added})
        return pb.TagResourceResponse()

    async def untag_resource(self, request: pb.UntagResourceRequest, call: Call) -> pb.UntagResourceResponse:
        """Remove tags from a function."""
        ref, gone = _tagged(request.resource, call), frozenset(request.tag_keys)
        await self._change(ref, lambda tags: {key: value for key, value in tags.items() if key not in gone})
        return pb.UntagResourceResponse()

    async def _change(self, ref: FunctionRef, change: Callable[[Mapping[str, str]], dict[str, str]]) -> None:
        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            after = change(function.tags)
            if after == function.tags:
                return None
            check_tags(after, self._limits)
            return Edit(ref.tenant, ref.name, NOBODY, tags=after)

        await self._editor.edit(ref, decide)


def _tagged(arn: str, call: Call) -> FunctionRef:
    """The function that an ARN, already known to be of AWS's form, means. Raises AwsError."""
    kind = arn.split(":")[5]
    if kind != _FUNCTION:
        what = kind.replace("-", " ").capitalize()
        raise AwsError("ResourceNotFoundException", f"{what} not found: {arn}")
    ref = parse(arn, None, call.tenant)
    if ref.qualifier is not None:
        raise invalid_parameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
    return ref
