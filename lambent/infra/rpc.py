"""How our processes dial each other over gRPC: one set of options, and delays between attempts."""

from __future__ import annotations

import hmac
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

import grpc

from lambent.infra.certificates import NAME, Certificates
from lambent.infra.resolving import Resolver

Answer = TypeVar("Answer")

# A peer that is gone without a word (power cut, partition) is noticed within some five seconds; one that merely
# exits is noticed at once. Our own messages are small; payloads travel as frames.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 3_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    # Two processes of this cluster never share one channel's back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


def channel(address: str, certificates: Certificates | None = None) -> grpc.aio.Channel:
    """A channel to one of our own processes, `unix:/path` or `host:port`. `certificates`: None for no TLS."""
    if certificates is None or address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    named = (*OPTIONS, ("grpc.ssl_target_name_override", NAME))
    return grpc.aio.secure_channel(address, certificates.of_channel(), options=named)


def listen(server: grpc.aio.Server, address: str, certificates: Certificates | None = None) -> int:
    """Have a server listen; answers the port. Raises RuntimeError where the address is taken."""
    if certificates is None or address.startswith("unix:"):
        return server.add_insecure_port(address)
    return server.add_secure_port(address, certificates.of_server())


class Candidates:
    """Several addresses of which one answers: the schedulers, one of which leads. Dialled in turn.

    A host name may stand for several hosts; it is resolved again before each round, as hosts come and go. While nobody
    answers for names, the hosts of before are tried.
    """

    def __init__(self, addresses: str, certificates: Certificates | None = None) -> None:
        """`addresses`: separated by commas. `certificates`: None for no TLS."""
        self._given = [address.strip() for address in addresses.split(",") if address.strip()]
        self.addresses = self._given  # as they were resolved last
        self._certificates = certificates
        self._resolver = Resolver()
        self._channels: dict[tuple[str, int], grpc.aio.Channel] = {}
        self._turn = 0
        self._term = 0

    async def channel(self) -> grpc.aio.Channel:
        """The channel to try now."""
        if self._turn == 0:
            await self._resolve()
        address = self.addresses[self._turn % len(self.addresses)]
        version = 0
        if self._certificates is not None:
            self._certificates.refresh()
            version = self._certificates.version
        made = self._channels.get((address, version))
        if made is None:
            made = self._channels[address, version] = channel(address, self._certificates)
        return made

    async def _resolve(self) -> None:
        found = [found for address in self._given for found in await self._resolver.hosts(address)]
        self.addresses = list(dict.fromkeys(found))
        version = 0 if self._certificates is None else self._certificates.version
        for key in [key for key in self._channels if key[0] not in self.addresses or key[1] < version]:
            await self._channels.pop(key).close()

    async def ask(
        self,
        question: Callable[[grpc.aio.Channel], Awaitable[Answer]],
        final: AbstractSet[grpc.StatusCode] = frozenset(),
    ) -> Answer:
        """The first answer. Raises the last error where nobody answers, and at once one that is `final`."""
        for attempt in itertools.count(1):
            channel = await self.channel()
            try:
                return await question(channel)
            except grpc.aio.AioRpcError as error:
                if error.code() in final:
                    raise
                self.next()
                if attempt >= len(self.addresses):
                    raise
        raise AssertionError  # the loop has no end

    def next(self) -> bool:
        """That one did not do. True: the round is over, all of them have been tried in it."""
        self._turn = (self._turn + 1) % len(self.addresses)
        return self._turn == 0

    def outdated(self, term: int) -> bool:
        """Whether a leader of this term has been followed by another that was met here."""
        if term < self._term:
            return True
        self._term = term
        return False

    async def close(self) -> None:
        """Hang up."""
        await self._resolver.close()
        for made in self._channels.values():
            await made.close()


async def require_token(context: grpc.aio.ServicerContext[Any, Any], token: str) -> None:
    """Cut off whoever does not know the cluster's secret."""
    shown = dict(context.invocation_metadata() or ()).get("authorization", "")
    if not hmac.compare_digest(str(shown).encode(), f"Bearer {token}".encode()):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the cluster's token is missing or wrong")


def server() -> grpc.aio.Server:
    """A server for our own processes."""
    return grpc.aio.server(options=OPTIONS)


def delays(rng: random.Random, *, first: float = 0.05, most: float = 0.25) -> Iterator[float]:
    """Seconds to wait between attempts to dial: doubling, each drawn from its upper half so that peers spread out."""
    bound = first
    while True:
        yield rng.uniform(bound / 2, bound)
        bound = min(bound * 2, most)
