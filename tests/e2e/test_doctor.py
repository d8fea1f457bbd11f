"""`lambent doctor` and `lambent bundle` on a cluster that works, on one that is sick, and on none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import free_port
from tests.e2e.harness import SECRET, Cluster, archived, run, zipped


def test_a_bundle_has_what_helps_and_no_secret(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    done = cluster.lambent("bundle", "-o", str(file), "--data", str(cluster.data))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(file)
    parts = archived(file)
    services = {f"processes/{name}.log" for name in ("frontend", "scheduler", "poller", "worker")}
    assert {"about.json", "settings.json", "doctor.json", "use.json", "queues.json", *services} <= set(parts)
    assert json.loads(parts["use.json"])["Workers"] == 1
    assert not [name for name, text in parts.items() if SECRET in text]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_bundle_of_a_cluster_that_is_away_says_so_and_has_the_rest(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    done = cluster.lambent("bundle", "-o", str(file), "--endpoint", "127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    assert "parts could not be had" in done.stderr
    parts = archived(file)
    assert "use.json.missing.txt" in parts
    assert [each["level"] for each in json.loads(parts["doctor.json"]) if each["subject"] == "api"] == ["problem"]
    done = cluster.lambent("bundle", "-o", str(tmp_path / "no" / "where.tar.gz"))
    assert done.returncode == 1
    assert "cannot write" in done.stderr


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
