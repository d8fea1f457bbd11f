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


def server() -> grpc.aio.Server:
    """A server for our own processes."""
    return grpc.aio.server(options=OPTIONS)


def delays(rng: random.Random, *, first: float = 0.05, most: float = 1.0) -> Iterator[float]:
    """Seconds to wait between attempts to dial: doubling, each drawn from its upper half so that peers spread out."""
    bound = first
    while True:
        yield rng.uniform(bound / 2, bound)
        bound = min(bound * 2, most)
