"""`lambent doctor` on a cluster that works, on one that is sick, and on none."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import free_port
from tests.e2e.harness import Cluster, run, zipped


def found(cluster: Cluster, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    done = cluster.lambent("doctor", "--output", "json", *arguments)
    return done.returncode, json.loads(done.stdout)


def test_it_sees_a_cluster_that_works_and_one_whose_events_were_given_up(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    code, findings = found(cluster)
    assert code == 0
    assert {each["subject"] for each in findings} == {"store", "scheduler", "workers", "isolation", "queue"}
    assert [each["what"] for each in findings if each["level"] != "ok"] == ["it is not looked at"]
    redis = f"unix://{cluster.data}/run/redis.sock"
    done = run(
        *("env", f"LAMBENT_REDIS_URL={redis}", *(f"{k}={v}" for k, v in cluster.environment.items())),
        *("lambent", "doctor"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "answers" in done.stdout
    assert "clocks" in done.stdout
    fails = zipped({"app.py": "def handler(event, context):\n    raise ValueError\n"})
    cluster.create("fails", fails)
    client = cluster.client()
    client.put_function_event_invoke_config(FunctionName="fails", MaximumRetryAttempts=0)
    client.invoke(FunctionName="fails", InvocationType="Event", Payload=b"{}")
    assert cluster.lambent("invoke", "fails", "--async", "--wait").returncode == 3
    _, findings = found(cluster)
    (given_up,) = [each for each in findings if each["subject"] == "queue"]
    assert given_up["what"].startswith("fails: ")
    assert given_up["remedy"].startswith("`lambent queue events fails`")


def test_a_cluster_that_does_not_answer_is_a_finding(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    code, findings = found(cluster, "--endpoint", f"127.0.0.1:{free_port()}")
    assert code == 1
    assert {each["subject"] for each in findings if each["level"] == "problem"} == {"api"}
