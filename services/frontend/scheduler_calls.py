"""Questions to the scheduler that leads, by unary calls; the others are passed over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from lambent.infra import rpc
from lambent.infra.certificates import Certificates
from lambent.internal.v1 import scheduler_service_pb2_grpc as pb_grpc

_log = logging.getLogger(__name__)

# How long a scheduler may take to answer before it counts as away.
ANSWER_SECONDS = 1.0

Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]
# The stub's type exists for type checkers only.
Question = Callable[["pb_grpc.SchedulerServiceAsyncStub", Metadata, float], Awaitable[Answer]]


class SchedulerCalls:
    """Asks whichever scheduler leads."""

    def __init__(self, address: str, token: str, certificates: Certificates | None = None) -> None:
        """`address`: of the schedulers, separated by commas. `token`: the cluster's shared secret. `certificates`: None
        for no TLS."""
        self._schedulers = rpc.Candidates(address, certificates)
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def ask(self, question: Question[Answer]) -> Answer | None:
        """The answer; None while no scheduler leads. `question` is given a stub, metadata and a time-out."""

        def put(channel: grpc.aio.Channel) -> Awaitable[Answer]:
            stub: pb_grpc.SchedulerServiceAsyncStub = pb_grpc.SchedulerServiceStub(channel)
            return question(stub, self._metadata, ANSWER_SECONDS)

        try:
            return await self._schedulers.ask(put)
        except grpc.RpcError as error:
            _log.debug("no scheduler answers", extra={"reason": str(error)})
            return None

    async def close(self) -> None:
        """Hang up."""
        await self._schedulers.close()
