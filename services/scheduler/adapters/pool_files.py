"""The pools of workers as they are configured: a folder with one POOL.json each, as a ConfigMap that is mounted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from services.scheduler.core.fleet import PoolPolicy
from services.scheduler.core.worker_pools import Rule


class PoolError(Exception):
    """A pool that cannot be; the text is one line with a hint."""


class RuleFile(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which functions the pool takes; empty lists ask for nothing."""

    architectures: list[str] = []
    runtimes: list[str] = []
    subnets: list[str] = []
    security_groups: list[str] = []
    accounts: list[str] = []
    functions: list[str] = []  # names or patterns


class PoolFile(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """One pool."""

    name: str
    memory_mb: int  # that a worker may promise environments together
    environments: int  # most on one worker
    template: dict[str, Any] = {}  # of its pods: metadata and spec; empty: somebody else makes them
    min: int = 0  # workers
    max: int = 1
    headroom_mb: int = 0  # that is kept free for whatever comes
    scale_to_zero: bool = False
    idle_seconds: float = 60.0  # without need, before a worker is let go
    rule: RuleFile = msgspec.field(default_factory=RuleFile)

    def policy(self) -> PoolPolicy:
        """The numbers."""
        return PoolPolicy(
            self.name, self.min, self.max, self.headroom_mb, self.scale_to_zero, self.idle_seconds, self.memory_mb,
            self.environments,
        )  # fmt: skip

    def matches(self) -> Rule:
        """The rule."""
        return Rule(**{name: tuple(values) for name, values in msgspec.structs.asdict(self.rule).items()})


def read_pools(folder: Path) -> dict[str, PoolFile]:
    """The pools by name. Raises PoolError."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise PoolError(f"kubernetes.pools: there is no pool in {folder}; each is a file POOL.json")
    pools: dict[str, PoolFile] = {}
    for file in files:
        try:
            pool = msgspec.json.decode(file.read_bytes(), type=PoolFile)
        except OSError as error:
            raise PoolError(f"cannot read {file}: {error.strerror}") from None
        except msgspec.MsgspecError as error:
            raise PoolError(f"{file}: {error}") from None
        if pool.name in pools or not pool.name:
            raise PoolError(f"{file}: a pool needs a name of its own, not {pool.name!r}")
        if not 0 <= pool.min <= pool.max or pool.max < 1:
            raise PoolError(f"{file}: min and max must be 0 <= min <= max and max at least 1")
        if pool.memory_mb <= 0 or pool.environments <= 0 or pool.headroom_mb < 0 or pool.idle_seconds < 0:
            raise PoolError(f"{file}: memoryMb and environments must be above 0, the others not below")
        if pool.template and not pool.template.get("spec", {}).get("containers"):
            raise PoolError(f"{file}: template must be a pod template with containers")
        pools[pool.name] = pool
    return pools
