"""The folder of pools: what is wrong there is said in one line when the scheduler starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.scheduler.adapters.pool_files import PoolError, read_pools
from services.scheduler.core.worker_pools import Rule

POOL: dict[str, Any] = {
    "name": "default", "min": 1, "max": 10, "headroomMb": 512, "scaleToZero": False, "idleSeconds": 60,
    "memoryMb": 2048, "environments": 100,
    "rule": {"architectures": ["x86_64"], "runtimes": [], "subnets": [], "securityGroups": ["sg-1"]},
    "template": {"metadata": {}, "spec": {"containers": [{"name": "worker", "image": "i"}]}},
}  # fmt: skip


def test_a_pool_as_the_chart_writes_it(tmp_path: Path) -> None:
    (tmp_path / "default.json").write_text(json.dumps(POOL))
    pool = read_pools(tmp_path)["default"]
    assert (pool.min, pool.max, pool.headroom_mb, pool.memory_mb, pool.idle_seconds) == (1, 10, 512, 2048, 60.0)
    assert pool.matches() == Rule(("x86_64",), (), (), ("sg-1",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max": 0, "min": 0}, "max at least 1"),
        ({"min": 11}, "0 <= min <= max"),
        ({"memoryMb": 0}, "memoryMb"),
        ({"memoryMb": "2Gi"}, "Expected `int`, got `str` - at `$.memoryMb`"),
        ({"maximum": 3}, "unknown field `maximum`"),
        ({"name": ""}, "a name of its own"),
        ({"template": {"spec": {}}}, "a pod template with containers"),
    ],
)
def test_a_pool_that_cannot_be(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    (tmp_path / "default.json").write_text(json.dumps(POOL | changes))
    with pytest.raises(PoolError) as raised:
        read_pools(tmp_path)
    assert said in str(raised.value)
    assert str(tmp_path / "default.json") in str(raised.value)


def test_two_of_a_name_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="there is no pool"):
        read_pools(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(POOL))
    with pytest.raises(PoolError, match="a name of its own"):
        read_pools(tmp_path)
