"""Tests of what listens run on both loops: asyncio's, and uvloop, on which the processes run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

_BOTH = (
    "test_http_server.py",
    "test_http_bounds.py",
    "test_doors_rest.py",
    "test_doors_grpc.py",
    "test_doors_aws_clients.py",
)


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in _BOTH:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
