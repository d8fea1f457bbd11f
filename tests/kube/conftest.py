"""Tests on a real Kubernetes cluster: `make test-kube`. Left out where TEST_KUBE does not name the images' tag."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.kube.release import Release, run

VERSION = os.environ.get("TEST_KUBE", "")
# Values for a cluster that the defaults do not suit, separated by blanks.
VALUES = os.environ.get("TEST_KUBE_VALUES", "").split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process: they share a release, and hurt it."""
    for item in items:
        if "tests/kube/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("kube"))
            item.add_marker(pytest.mark.timeout(900))
            # Clients leave their connections to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            if not VERSION:
                item.add_marker(pytest.mark.skip(reason="needs a Kubernetes cluster: make test-kube"))


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The chart, installed with what it says by default, on a cluster that has the images."""
    assert shutil.which("helm"), "helm is missing"
    made = Release("lambent", "lambent-test", VERSION, *VALUES)
    run("kubectl", "delete", "namespace", made.namespace, "--ignore-not-found", "--wait", timeout=180)
    made.install()
    yield made
    made.close()
    if not os.environ.get("TEST_KUBE_KEEP"):
        run("kubectl", "delete", "namespace", made.namespace, "--wait=false")
