"""Frontends follow the load, by a HorizontalPodAutoscaler, and go again; nobody notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.harness import eventually
from tests.kube.metrics_api import metrics
from tests.kube.release import NOW, Load, Release, report
from tests.kube.test_faults import NAP

MOST = 3


@pytest.fixture
def scaled(release: Release) -> Iterator[Release]:
    """The release with frontends that follow the load, from one on."""
    with metrics(release):
        target = {"type": "Utilization", "averageUtilization": 60}
        release.upgrade(
            "frontend.autoscaling.enabled=true", "frontend.autoscaling.minReplicas=1",
            f"frontend.autoscaling.maxReplicas={MOST}", "frontend.resources.requests.cpu=100m",
            "frontend.autoscaling.behavior.scaleDown.stabilizationWindowSeconds=0",
            frontend__autoscaling__metrics=[{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        )  # fmt: skip
        yield release
    release.upgrade()
    eventually(lambda: len(release.ready("frontend")) == 2, 120)


def test_frontends_come_with_the_load_and_go_with_it(scaled: Release) -> None:
    scaled.create("busy", NAP)
    eventually(lambda: len(scaled.ready("frontend")) == 1, 240)
    with Load(scaled, "busy", 1, b'{"n": 1, "s": 0.5}').running() as calm:
        began = NOW()
        with Load(scaled, "busy", 8, b'{"n": 2}').running() as load:
            eventually(lambda: len(scaled.ready("frontend")) == MOST, 240)
            out = NOW() - began
        assert load.failures == []
        began = NOW()
        eventually(lambda: len(scaled.pods("frontend")) == 1, 300)
        back = NOW() - began
    assert calm.failures == []
    assert set(calm.answers) == {"1"}
    report(f"from 1 frontend to {MOST} within {out:.0f} s of load, and back within {back:.0f} s of its end")
