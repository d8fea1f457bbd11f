"""Packages from, and logs to, the frontends' door for workers (`internal.store`), for workers that reach no store.

Packages are asked for in threads, as of any `CodeStore`. Logs are sent by one task, in order; what did not arrive is
sent again, and of what could not be sent for long the oldest is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from functools import partial

import grpc
import msgspec

from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant
from lambent.infra import rpc
from lambent.infra.certificates import Certificates
from lambent.infra.log_store import LogChunk
from lambent.infra.tasks import TaskOwner
from lambent.internal.v1 import worker_store_service_pb2 as pb
from lambent.internal.v1.worker_store_service_pb2_grpc import WorkerStoreServiceStub

_log = logging.getLogger(__name__)

_PACKAGE_SECONDS = 60.0
_APPEND_SECONDS = 10.0
_BATCH_BYTES = 1024 * 1024
# What waits to be sent; beyond it the oldest goes.
WAITING_BYTES = 32 * 1024 * 1024


class StoreClient:
    """The reading half of a `CodeStore`, and a `LogWriter`, over the network."""

    def __init__(self, addresses: str, token: str, certificates: Certificates | None, rng: random.Random) -> None:
        """`addresses`: of the frontends, separated by commas. `token`: the cluster's shared secret. `certificates`:
        None for no TLS."""
        self._frontends = rpc.Candidates(addresses, certificates)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._rng = rng
        self._loop: asyncio.AbstractEventLoop | None = None  # once it has started
        self._tasks = TaskOwner("store-client")
        self._encoder = msgspec.json.Encoder()
        self._appended: list[pb.LoggedChunk] = []  # since the last flush
        self._waiting: deque[pb.LoggedChunk] = deque()
        self._waiting_bytes = 0
        self._sending = 0  # how many of the first that wait are on their way
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

    def start(self) -> None:
        """Begin to send logs, and to give packages."""
        self._loop = asyncio.get_running_loop()
        self._tasks.start("send logs", self._send())

    # Packages

    def get(self, digest: str) -> bytes:
        """The bytes of a package; not to be called in the loop. Raises KeyError, ServiceUnavailableException."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self._get(digest), self._loop).result()

    async def _get(self, digest: str) -> bytes:
        async def ask(channel: grpc.aio.Channel) -> bytes:
            call = WorkerStoreServiceStub(channel).GetPackage(
                pb.GetPackageRequest(digest=digest), metadata=self._metadata, timeout=_PACKAGE_SECONDS
            )
            return b"".join([piece.data async for piece in call])

        try:
            return await self._frontends.ask(ask, final=frozenset({grpc.StatusCode.NOT_FOUND}))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise KeyError(digest) from None
            raise AwsError("ServiceUnavailableException", f"no frontend gives packages: {error.details()}") from error

    # Logs

    def append(self, tenant: Tenant, group: str, chunk: LogChunk) -> None:
        """As `LogWriter`."""
        encoded = self._encoder.encode(chunk)
        self._appended.append(pb.LoggedChunk(account=tenant.account, region=tenant.region, group=group, chunk=encoded))

    def flush(self) -> None:
        """Have what was appended sent."""
        if not self._appended:
            return
        self._waiting.extend(self._appended)
        self._waiting_bytes += sum(len(each.chunk) for each in self._appended)
        self._appended.clear()
        dropped = 0
        while self._waiting_bytes > WAITING_BYTES and len(self._waiting) > 1:
            self._waiting_bytes -= len(self._waiting.popleft().chunk)
            self._sending = max(0, self._sending - 1)
            dropped += 1
        if dropped:
            _log.warning("logs cannot be sent, and the oldest are dropped", extra={"chunks": dropped})
        self._sent.clear()
        self._news.set()

    async def _send(self) -> None:
        delays = rpc.delays(self._rng, most=2.0)
        while True:
            await self._news.wait()
            batch = self._batch()
            self._sending = len(batch)
            try:
                await self._frontends.ask(partial(self._append, batch))
            except grpc.RpcError as error:
                _log.warning("logs not sent; they are sent again", extra={"reason": str(error)})
                await asyncio.sleep(next(delays))
                continue
            delays = rpc.delays(self._rng, most=2.0)
            for _ in range(self._sending):
                self._waiting_bytes -= len(self._waiting.popleft().chunk)
            self._sending = 0
            if not self._waiting:
                self._news.clear()
                self._sent.set()

    def _batch(self) -> list[pb.LoggedChunk]:
        batch: list[pb.LoggedChunk] = []
        size = 0
        for each in self._waiting:
            if batch and size + len(each.chunk) > _BATCH_BYTES:
                break
            batch.append(each)
            size += len(each.chunk)
        return batch

    async def _append(self, batch: Sequence[pb.LoggedChunk], channel: grpc.aio.Channel) -> None:
        await WorkerStoreServiceStub(channel).AppendLogs(
            pb.AppendLogsRequest(chunks=batch), metadata=self._metadata, timeout=_APPEND_SECONDS
        )

    async def close(self, seconds: float) -> None:
        """Send what waits, for at most so long, and hang up."""
        self.flush()
        try:
            await asyncio.wait_for(self._sent.wait(), seconds)
        except TimeoutError:
            _log.warning("logs were not sent before the end", extra={"chunks": len(self._waiting)})
        await self._tasks.close()
        await self._frontends.close()
