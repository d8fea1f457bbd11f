"""How our processes dial each other over gRPC: one set of options, and delays between attempts."""

from __future__ import annotations

import random
from collections.abc import Iterator

import grpc

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


def channel(address: str) -> grpc.aio.Channel:
    """A channel to one of our own processes, `unix:/path` or `host:port`."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


class Candidates:
    """Several addresses of which one answers: the schedulers, one of which leads. Dialled in turn."""

    def __init__(self, addresses: str) -> None:
        """`addresses`: separated by commas."""
        self.addresses = [address.strip() for address in addresses.split(",") if address.strip()]
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turn = 0
        self._term = 0

    def channel(self) -> grpc.aio.Channel:
        """The channel to try now."""
        address = self.addresses[self._turn]
        made = self._channels.get(address)
        if made is None:
            made = self._channels[address] = channel(address)
        return made

    def next(self) -> bool:
        """That one did not do. True: all of them have been tried since it was this one's turn last."""
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
        for made in self._channels.values():
            await made.close()


def server() -> grpc.aio.Server:
    """A server for our own processes."""
    return grpc.aio.server(options=OPTIONS)


def delays(rng: random.Random, *, first: float = 0.05, most: float = 0.25) -> Iterator[float]:
    """Seconds to wait between attempts to dial: doubling, each drawn from its upper half so that peers spread out."""
    bound = first
    while True:
        yield rng.uniform(bound / 2, bound)
        bound = min(bound * 2, most)
