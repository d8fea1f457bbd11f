"""What a decision of the scheduler's core costs, counted in steps of the interpreter: the same whatever there is.

Time would say less: the more there is, the less of it lies in the processor's caches.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from tests.bench.decisions import CALLERS, World


def steps(world: World, pairs: int) -> int:
    """Instructions that the interpreter runs for admissions and returns of functions in turns."""
    counted = 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal counted
        frame.f_trace_opcodes = True
        counted += event == "opcode"
        return count

    sys.settrace(count)
    try:
        world.serve(
            [(world.wanted(world.needs[number], number % CALLERS), number % CALLERS) for number in range(pairs)]
        )
    finally:
        sys.settrace(None)
    return counted


@pytest.mark.parametrize("policy", ["fixed", "break-even"])
def test_the_number_of_functions_makes_no_difference(policy: str) -> None:
    few, many = (steps(World(functions, policy=policy), pairs=100) for functions in (100, 10_000))
    assert few == many
