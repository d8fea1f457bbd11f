"""One cluster for all end-to-end tests of a run; tests that hurt their cluster start one of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Cluster

OTHER_KEY, OTHER_SECRET = "LAMBENTOTHER", "the-secret-of-another-account"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them run in one worker, so that one cluster serves them."""
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="le-", dir="/tmp") as folder:
        keys = Path(folder) / "keys.toml"
        keys.write_text(f'[[access_keys]]\nid = "{OTHER_KEY}"\nsecret = "{OTHER_SECRET}"\naccount = "111111111111"\n')
        started = Cluster(Path(folder) / "data", "--access-keys", str(keys)).start()
        yield started
        started.stop()


@pytest.fixture
def own_cluster() -> Iterator[Any]:
    """Makes clusters that the test may hurt; whatever still runs at its end is stopped."""
    started: list[Cluster] = []
    with tempfile.TemporaryDirectory(prefix="lo-", dir="/tmp") as folder:

        def start(*arguments: str, data: str = "data", **settings: str) -> Cluster:
            made = Cluster(Path(folder) / data, *arguments, **settings)
            started.append(made)
            return made.start()

        yield start
        for made in started:
            made.stop()
