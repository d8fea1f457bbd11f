"""When stems do things ahead."""

from __future__ import annotations

from services.worker.sandbox.stems import is_calm


def test_four_taken_within_fifty_milliseconds_are_a_rush_and_it_is_over_soon() -> None:
    assert is_calm([], 0.0)
    assert is_calm([1.0, 1.001, 1.002], 1.002)
    rush = [1.0, 1.01, 1.02, 1.03]
    assert not is_calm(rush, 1.031)
    assert is_calm(rush, 1.051)
    assert is_calm([1.0, 1.02, 1.04, 1.06], 1.061)
