"""Upgrades and rollbacks under load, and what is left when a release goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.harness import eventually, zipped
from tests.kube.conftest import VALUES, VERSION
from tests.kube.release import Load, Release, run

WHERE = zipped(
    {"app.py": "import os\nSTARTED = os.urandom(4).hex()\ndef handler(event, context):\n    return STARTED\n"}
)


def test_an_upgrade_of_the_control_plane_fails_nothing_and_keeps_warm_environments(release: Release) -> None:
    release.create("kept", WHERE)
    # Those that other tests have left idle go by themselves.
    eventually(lambda: len(release.pods("worker")) == 1, 240)
    workers = set(release.ready("worker"))
    with Load(release, "kept", 3).running() as load:
        release.upgrade("frontend.podAnnotations.round=two", "scheduler.podAnnotations.round=two",
                        "poller.podAnnotations.round=two")  # fmt: skip
        release.helm("rollback", release.name, "--wait", "--timeout", "240s")
    assert load.failures == []
    assert set(release.ready("worker")) >= workers
    assert len(load.answers) <= 6, "environments were started anew although their workers stayed"


def test_workers_are_replaced_without_a_failed_invocation(release: Release) -> None:
    release.create("moved", WHERE)
    before = set(release.ready("worker"))
    with Load(release, "moved", 3).running() as load:
        release.upgrade("workers.podAnnotations.round=three")
        release.settled("worker", before)
    assert load.failures == []


@pytest.fixture
def passing() -> Iterator[Release]:
    """A second release, in a namespace of its own, with TLS between its processes, that keeps nothing."""
    made = Release("other", "lambent-test-other", VERSION, "uninstall.keepData=false", "tls.enabled=true",
                   "redis.persistence.whenDeleted=Delete", "frontend.replicaCount=1", "poller.replicaCount=1", *VALUES)  # fmt: skip
    run("kubectl", "delete", "namespace", made.namespace, "--ignore-not-found", "--wait", timeout=180)
    yield made
    made.close()
    run("kubectl", "delete", "namespace", made.namespace, "--wait=false")


def test_a_release_with_certificates_works_and_leaves_nothing(passing: Release) -> None:
    passing.install()
    passing.create("hello", WHERE)
    answer = passing.client(retries=3).invoke(FunctionName="hello", Payload=b"{}")
    assert json.load(answer["Payload"])
    passing.helm("uninstall", passing.name, "--wait", "--timeout", "120s")
    kinds = "pods,services,deployments,statefulsets,jobs,cronjobs,configmaps,secrets,serviceaccounts,roles,rolebindings"
    left = {
        f"{each['kind']}/{each['metadata']['name']}"
        for each in passing.get(f"{kinds},networkpolicies,leases,pvc,poddisruptionbudgets")
        if each["metadata"]["name"] not in ("default", "kube-root-ca.crt")
        and "deletionTimestamp" not in each["metadata"]
    }
    assert left == set()
