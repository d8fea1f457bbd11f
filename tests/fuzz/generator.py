"""A seed and a number → one request, nearly right more often than not. Pure: no clock, no socket."""

from __future__ import annotations

import random

from tests.fuzz.grpc_requests import grpc, raw
from tests.fuzz.requests import Case, World
from tests.fuzz.rest_requests import rest


def case(seed: int, number: int, world: World) -> Case:
    """The request of this seed and number."""
    rng = random.Random(f"{seed}/{number}")
    share = rng.random()
    if share < 0.72:
        return rest(rng, number, world)
    return grpc(rng, number, world) if share < 0.99 else raw(rng, number)
