"""Which user ids sandboxes get, on a machine and in containers."""

from __future__ import annotations

import pytest

from services.worker.sandbox.users import first_user

MACHINE = "         0          0 4294967295\n"
POD = "         0  1835008000      65536\n"


@pytest.mark.parametrize(
    ("wanted", "count", "maps", "first"),
    [
        (200_000, 1000, (MACHINE, MACHINE), 200_000),
        (200_000, 1000, (POD, POD), 64_534),
        (30_000, 1000, (POD, POD), 30_000),
        (200_000, 64_534, (POD, POD), 1000),
        (200_000, 64_535, (POD, POD), None),
        (200_000, 10, ("0 1000 1\n", "0 1000 1\n"), None),
        (200_000, 10, ("0 1000 1\n1 100000 65535\n", POD), 65_524),
        (200_000, 10, (POD, "0 0 5000\n"), 4990),
    ],
)
def test_the_ids_that_are_wanted_or_the_last_that_there_are(
    wanted: int, count: int, maps: tuple[str, ...], first: int | None
) -> None:
    assert first_user(wanted, count, *maps) == first
