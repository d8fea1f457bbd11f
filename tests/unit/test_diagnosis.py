"""What `lambent doctor` finds, and what it advises."""

from __future__ import annotations

from typing import Any

import pytest

from lambent.cli.diagnosis import Finding, of_certificate, of_queues, of_store, of_use
from lambent.v1 import insight_service_pb2 as insight
from lambent.v1 import queue_service_pb2 as queue

GOOD = {"redis_version": "7.2.4", "used_memory": 100, "maxmemory": 0}


def worst(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.subject, each.level, each.what) for each in findings if each.level != "ok"]


def test_a_good_installation_has_nothing_to_remedy() -> None:
    use = insight.GetConcurrencyUseResponse(limit=1000, on_demand=3, workers=2, free_memory_mb=100)
    use.provisioned_configs.add(function_name="f", qualifier="1", requested=2, available=2, status="READY")
    waiting = queue.EventQueue(function_name="f", waiting=3, oldest_age_seconds=2.0)
    findings = [*of_store(GOOD, [], 0.01), of_certificate(200), *of_use(use), *of_queues([waiting])]
    assert worst(findings) == []
    assert not any(each.remedy for each in findings)
    assert {each.subject for each in findings} == {"store", "clocks", "certificates", "scheduler", "workers", "queue"}


@pytest.mark.parametrize(
    ("info", "wrong", "behind", "found"),
    [
        (GOOD | {"redis_version": "6.2.14"}, [], 0.0, [("store", "problem", "its version is 6.2.14")]),
        (GOOD, None, 0.0, [("store", "warning", "it does not say how durable it is")]),
        (GOOD, ["appendonly is off; set it"], 0.0, [("store", "problem", "appendonly is off")]),
        (GOOD | {"maxmemory": 110}, [], 0.0, [("store", "problem", "91% of its memory is in use")]),
        (GOOD, [], 2.0, [("clocks", "problem", "the store's is 2.0 s behind this machine's")]),
        (GOOD, [], -3.0, [("clocks", "problem", "the store's is 3.0 s ahead of this machine's")]),
    ],
)
def test_what_is_wrong_with_the_store(
    info: dict[str, Any], wrong: list[str] | None, behind: float, found: list[tuple[str, str, str]]
) -> None:
    findings = of_store(info, wrong, behind)
    assert worst(findings) == found
    assert all(each.remedy for each in findings if each.level != "ok")


def test_certificates_are_told_in_time() -> None:
    assert [of_certificate(days).level for days in (-1.0, 10.0, 31.0)] == ["problem", "warning", "ok"]


def test_what_is_wrong_with_workers_and_provisioned_concurrency() -> None:
    use = insight.GetConcurrencyUseResponse(limit=10, on_demand=8, provisioned=2)
    reason = "InsufficientCapacity: exceeded quota in pool default"
    use.provisioned_configs.add(
        function_name="f", qualifier="live", requested=4, available=2, status="IN_PROGRESS", status_reason=reason
    )
    findings = of_use(use)
    assert worst(findings) == [
        ("workers", "problem", "none is connected: nothing can run"),
        ("concurrency", "warning", "all 10 executions are taken"),
        ("provisioned concurrency", "warning", "f:live has 2 of 4 (IN_PROGRESS)"),
    ]
    assert findings[-1].remedy == reason


def test_workers_at_weak_levels_are_told() -> None:
    use = insight.GetConcurrencyUseResponse(workers=3)
    use.worker_pools.add(pool="a", isolation="namespaces", workers=1)
    use.worker_pools.add(pool="b", isolation="landlock", workers=2)
    found = [each for each in of_use(use) if each.subject == "isolation"]
    assert [(each.level, each.what) for each in found] == [
        ("ok", "1 worker of the pool a at the level namespaces"),
        ("warning", "2 workers of the pool b at the level landlock"),
    ]
    assert found[1].remedy


def test_what_is_wrong_with_queues() -> None:
    found = of_queues(
        [
            queue.EventQueue(function_name="slow", waiting=1, oldest_age_seconds=90.0),
            queue.EventQueue(function_name="held", paused=True, oldest_age_seconds=900.0),
            queue.EventQueue(function_name="lost", given_up=3),
        ]
    )
    assert worst(found) == [
        ("queue", "problem", "slow: an event has waited 90 s for its first attempt"),
        ("queue", "warning", "held: paused"),
        ("queue", "warning", "lost: 3 events were given up"),
    ]
