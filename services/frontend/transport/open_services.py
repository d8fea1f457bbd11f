"""Services that grpc's own packages bring (health, reflection), with a client's error for bytes that are no message.

As those packages register themselves, such bytes are UNKNOWN with an exception's text, and a traceback in our log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

_MALFORMED = "The message is not what the method takes"


class StrictServices:
    """Stands in for the server to which a generated `add_..._to_server` adds its methods."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """What is registered by name comes to `add_registered_method_handlers` as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add a service's methods, made strict."""
        strict = {name: _strict(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, strict),))


def _strict(handler: Any) -> Any:
    parse, serialize = handler.request_deserializer, handler.response_serializer
    if handler.stream_stream is not None:
        return grpc.stream_stream_rpc_method_handler(_from_stream(handler.stream_stream, parse), None, serialize)
    if handler.unary_stream is not None:
        # A coroutine that writes to the context, as grpc's health service has it.
        return grpc.unary_stream_rpc_method_handler(_from_one(handler.unary_stream, parse), None, serialize)
    return grpc.unary_unary_rpc_method_handler(_from_one(handler.unary_unary, parse), None, serialize)


def _from_one(behaviour: Callable[[Any, Any], Any], parse: Callable[[bytes], Any]) -> Callable[[bytes, Any], Any]:
    async def strict(raw: bytes, context: Any) -> Any:
        return await behaviour(await _parsed(raw, parse, context), context)

    return strict


def _from_stream(
    behaviour: Callable[[Any, Any], AsyncIterator[Any]], parse: Callable[[bytes], Any]
) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def strict(raws: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async def requests() -> AsyncIterator[Any]:
            async for raw in raws:
                yield await _parsed(raw, parse, context)

        async for response in behaviour(requests(), context):
            yield response

    return strict


async def _parsed(raw: bytes, parse: Callable[[bytes], Any], context: Any) -> Any:
    try:
        return parse(raw)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _MALFORMED)
