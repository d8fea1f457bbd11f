"""`lambent verify`, which `helm test` runs: it sees a cluster that works, and leaves nothing in it."""

from __future__ import annotations

import pytest

from lambent.cli.verify import Unproven, keeps
from tests.conftest import free_port
from tests.e2e.harness import Cluster


def test_verify_proves_a_cluster_and_removes_what_it_made(cluster: Cluster) -> None:
    done = cluster.lambent("verify")
    assert done.returncode == 0, done.stderr
    for words in (
        "created",
        "invoked",
        "queued an event",
        "ReservedFunctionConcurrentInvocationLimitExceeded",
        "removed",
    ):
        assert words in done.stdout
    assert "lambent-verify-" not in cluster.lambent("functions", "list").stdout


def test_verify_says_what_did_not_work_and_removes_what_it_made(cluster: Cluster) -> None:
    done = cluster.lambent("verify", "--runtime", "python0.1")
    assert done.returncode == 1
    assert "python0.1" in done.stderr
    assert "lambent-verify-" not in cluster.lambent("functions", "list").stdout


async def test_a_store_that_nobody_reaches_is_told_in_a_line() -> None:
    said: list[str] = []
    with pytest.raises(Unproven, match="cannot be reached") as caught:
        await keeps(f"redis://127.0.0.1:{free_port()}/0", said.append, patience=0.0)
    assert "\n" not in str(caught.value)
    assert said == []
