"""RecursionService: whether a function's recursive loops end.

What a loop is, lambent/domain/lineage.py says.
"""

from __future__ import annotations

from typing import cast

from lambent.domain.concurrency import ConcurrencyState
from lambent.domain.functions import Function
from lambent.domain.lineage import RecursiveLoop
from lambent.domain.names import LATEST, not_found, parse
from lambent.infra.functions.port import NOBODY, Edit, FunctionStore
from lambent.v1 import recursion_service_pb2 as pb
from services.frontend.operations.editing import Editor
from services.frontend.transport.call import Call


class RecursionOperations:
    """The operations of lambent.v1.RecursionService."""

    def __init__(self, *, store: FunctionStore, editor: Editor) -> None:
        self._store = store
        self._editor = editor

    async def put_function_recursion_config(
        self, request: pb.PutFunctionRecursionConfigRequest, call: Call
    ) -> pb.PutFunctionRecursionConfigResponse:
        """For the function with all its versions and aliases."""
        ref = parse(request.function_name, None, call.tenant)
        wanted = cast(RecursiveLoop, request.recursive_loop)

        def decide(function: Function, settings: ConcurrencyState) -> Edit | None:
            if function.recursive_loop == wanted:
                return None
            return Edit(ref.tenant, ref.name, NOBODY, recursive_loop=wanted)

        await self._editor.edit(ref, decide)
        return pb.PutFunctionRecursionConfigResponse(recursive_loop=wanted)

    async def get_function_recursion_config(
        self, request: pb.GetFunctionRecursionConfigRequest, call: Call
    ) -> pb.GetFunctionRecursionConfigResponse:
        """What was set; Terminate where nothing was."""
        ref = parse(request.function_name, None, call.tenant)
        function = await self._store.find(ref.tenant, ref.name, LATEST)
        if function is None:
            raise not_found(ref)
        return pb.GetFunctionRecursionConfigResponse(recursive_loop=function.recursive_loop)
