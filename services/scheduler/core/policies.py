"""How the scheduler decides: every number and every named choice of it, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.scheduler.core.break_even import BreakEven
from services.scheduler.core.buckets import Rate
from services.scheduler.core.hybrid_histogram import HybridHistogram
from services.scheduler.core.keep_alive import KeepAlivePolicy
from services.scheduler.core.placement import Policy, spread

UNLIMITED = Rate(per_second=1e9, at_once=1e9)


@dataclass(frozen=True, slots=True)
class Ramp:
    """How fast environments may be started."""

    name: str
    on_demand: Rate
    provisioned: Rate
    shared: bool  # one budget of the tenant's for both; else one of each for every function


NO_RAMP = Ramp("none", UNLIMITED, UNLIMITED, shared=False)


def ramps(
    *, burst: int, per_second: float, provisioned_per_minute: float, regional_burst: int, regional_per_minute: float
) -> Mapping[str, Ramp]:
    """The named ramp limits, from the numbers of the settings.

    aws-today: each function by itself, 1,000 environments every 10 s on demand, 6,000 a minute provisioned.
    aws-2020: one burst for all of a tenant's functions, 3,000 at once in the largest regions, then 500 a minute.
    Source: https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html and its text of 2020.
    """
    regional = Rate(regional_per_minute / 60, regional_burst)
    provisioned = provisioned_per_minute / 60
    return {
        "aws-today": Ramp(
            "aws-today", Rate(per_second, burst), Rate(provisioned, max(1.0, provisioned / 10)), shared=False
        ),
        "aws-2020": Ramp("aws-2020", regional, regional, shared=True),
        "none": NO_RAMP,
    }


def keep_alive_policies(histogram: HybridHistogram, break_even: BreakEven) -> Mapping[str, KeepAlivePolicy | None]:
    """The named ways to keep idle environments, from the numbers of the settings. None: for a fixed time."""
    return {"fixed": None, "hybrid-histogram": histogram, "break-even": break_even}


@dataclass(frozen=True, slots=True)
class Policies:
    """How the scheduler decides. Durations are seconds."""

    concurrent_executions: int  # limit of each account and region
    keep_alive: float  # how long an idle environment is kept
    lease: float  # how long a lost caller's leases hold
    worker_grace: float  # how long a lost worker's environments are kept
    rebuild: float  # after start: how long callers and workers may come back before anything is granted
    capacity_wait: float  # how long a request waits for room on a worker
    retry_after: float  # what a refused caller is told
    placement: Policy = spread
    ramp: Ramp = NO_RAMP
    keep_alive_policy: KeepAlivePolicy | None = None  # None: `keep_alive` for all
    # Requests a second for each execution of a limit. Source: lambda-concurrency.html, "requests per second quotas".
    requests_per_execution: float = 10.0
    # Provisioned concurrency serves nothing until all that was requested is there, as on AWS; else as it comes.
    serve_when_complete: bool = True
    async_share: float = 1.0  # of each account's unreserved concurrency that pollers may use together
    recycle: float = 14_400.0  # age at which a provisioned environment is replaced
