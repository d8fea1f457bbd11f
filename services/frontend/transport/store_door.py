"""The door that workers use: packages out, logs in. On an address of its own, for the cluster's processes alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgspec

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.infra.certificates import Certificates
from lambent.infra.code_store import CodeStore
from lambent.infra.lifecycle import StartError
from lambent.infra.log_store import LogChunk, LogStore
from lambent.internal.v1 import worker_store_service_pb2 as pb
from lambent.internal.v1 import worker_store_service_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024

Context = grpc.aio.ServicerContext[Any, Any]
Written = tuple[Tenant, str, LogChunk]


class StoreDoor(pb_grpc.WorkerStoreServiceServicer):
    """Serves lambent.internal.v1.WorkerStoreService."""

    def __init__(
        self, address: str, token: str, code: CodeStore, logs: LogStore, certificates: Certificates | None
    ) -> None:
        """`address`: host:port. `token`: the cluster's shared secret. `logs`: written to by this door alone."""
        self._address = address
        self._token = token
        self._code = code
        self._logs = logs
        self._certificates = certificates
        self._server: grpc.aio.Server | None = None
        self._chunks = msgspec.json.Decoder(LogChunk)
        # One: what writes logs is used by one thread at a time.
        self._writer = ThreadPoolExecutor(1, "append logs")

    async def start(self) -> None:
        """Listen. Raises StartError."""
        self._server = rpc.server()
        pb_grpc.add_WorkerStoreServiceServicer_to_server(self, self._server)
        try:
            rpc.listen(self._server, self._address, self._certificates)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {self._address}; choose another internal.store_listen") from error
        await self._server.start()

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            await self._server.stop(grace=1.0)
        self._writer.shutdown()

    async def GetPackage(self, request: pb.GetPackageRequest, context: Context) -> AsyncIterator[pb.PackagePiece]:
        """The bytes of one package, piece by piece."""
        await rpc.require_token(context, self._token)
        try:
            data = await asyncio.to_thread(self._code.get, request.digest)
        except KeyError:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no package {request.digest}")
        except AwsError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
        for at in range(0, len(data), PIECE_BYTES):
            yield pb.PackagePiece(data=data[at : at + PIECE_BYTES])

    async def AppendLogs(self, request: pb.AppendLogsRequest, context: Context) -> pb.AppendLogsResponse:
        """Keep what functions wrote."""
        await rpc.require_token(context, self._token)
        try:
            written = [
                (Tenant(each.account, each.region), each.group, self._chunks.decode(each.chunk))
                for each in request.chunks
            ]
        except msgspec.DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no chunk: {error}")
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._append, written)
        except (AwsError, OSError) as error:
            _log.warning("logs cannot be kept", extra={"reason": str(error)})
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the store cannot keep logs now")
        return pb.AppendLogsResponse()

    def _append(self, written: Sequence[Written]) -> None:
        for tenant, group, chunk in written:
            self._logs.append(tenant, group, chunk)
        self._logs.flush()
