"""What `lambent doctor` makes of what it has seen: plain functions from facts to findings, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lambent.v1 import insight_service_pb2 as insight
from lambent.v1 import queue_service_pb2 as queue

Level = Literal["ok", "warning", "problem"]

CLOCK_SECONDS = 1.0  # that two clocks may be apart; signatures bear five minutes, delays and ages do not
QUEUE_SECONDS = 60.0  # that an event may wait for its first attempt
MEMORY_SHARE = 0.8  # of what the store may hold
CERTIFICATE_DAYS = 30
LEAST_VERSION = (7, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    level: Level
    what: str
    remedy: str = ""  # empty where all is well


def of_store(info: Mapping[str, object], wrong: Sequence[str] | None, behind: float, node: str = "") -> list[Finding]:
    """`info`: of the server (INFO). `wrong`: what is wrong with its durability; None: it does not say. `behind`: how
    many seconds its clock is behind this machine's. `node`: which one it is, of several."""
    store, found = f"store {node}".strip(), []
    version = str(info.get("redis_version") or info.get("valkey_version") or "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < LEAST_VERSION:
        found.append(Finding(store, "problem", f"its version is {version}", "use version 7.0 or later"))
    else:
        found.append(Finding(store, "ok", f"version {version} answers"))
    if wrong is None:
        remedy = "have whoever runs it check appendonly and maxmemory-policy noeviction"
        found.append(Finding(store, "warning", "it does not say how durable it is", remedy))
    for each in wrong or ():
        what, _, remedy = each.partition(";")
        found.append(Finding(store, "problem", what, remedy.strip()))
    used, most = _number(info, "used_memory"), _number(info, "maxmemory")
    if most and used > most * MEMORY_SHARE:
        remedy = "give it more memory, or purge queues and delete functions; a full store takes no events"
        found.append(Finding(store, "problem", f"{used / most:.0%} of its memory is in use", remedy))
    if abs(behind) > CLOCK_SECONDS:
        side = "behind" if behind > 0 else "ahead of"
        remedy = "synchronise the clocks of all machines (NTP)"
        found.append(
            Finding("clocks", "problem", f"the {store}'s is {abs(behind):.1f} s {side} this machine's", remedy)
        )
    else:
        found.append(Finding("clocks", "ok", f"the {store}'s and this machine's are {abs(behind) * 1000:.0f} ms apart"))
    return found


def of_certificate(days_left: float) -> Finding:
    """`days_left`: for which the certificate of this process is valid."""
    if days_left < 0:
        return Finding("certificates", "problem", "the certificate has expired", "renew it; see `lambent keys ensure`")
    if days_left < CERTIFICATE_DAYS:
        what = f"the certificate expires in {days_left:.0f} days"
        return Finding("certificates", "warning", what, "renew it; see `lambent keys ensure`")
    return Finding("certificates", "ok", f"valid for {days_left:.0f} days")


def of_use(use: insight.GetConcurrencyUseResponse) -> list[Finding]:
    """What the scheduler that leads tells."""
    found = [Finding("scheduler", "ok", "one leads and answers")]
    if not use.workers:
        remedy = "see the logs of workers, and on Kubernetes their pods' events"
        found.append(Finding("workers", "problem", "none is connected: nothing can run", remedy))
    else:
        found.append(Finding("workers", "ok", f"{use.workers} connected, {use.free_memory_mb:,} MB free"))
    found += map(_of_isolation, use.worker_pools)
    if use.limit and use.on_demand >= use.limit - use.provisioned:
        remedy = "raise limits.concurrent_executions, or reserve for what matters; `lambent top` shows who runs"
        found.append(Finding("concurrency", "warning", f"all {use.limit} executions are taken", remedy))
    for each in use.provisioned_configs:
        if each.status != "READY":
            level: Level = "problem" if each.status == "FAILED" else "warning"
            what = f"{each.function_name}:{each.qualifier} has {each.available} of {each.requested} ({each.status})"
            remedy = each.status_reason or "wait, or see `lambent explain`"
            found.append(Finding("provisioned concurrency", level, what, remedy))
    return found


def _of_isolation(crew: insight.WorkerPoolUse) -> Finding:
    of_pool = f" of the pool {crew.pool}" if crew.pool else ""
    what = f"{crew.workers} worker{'s' * (crew.workers != 1)}{of_pool} at the level {crew.isolation}"
    if crew.isolation in ("namespaces", "user-namespace"):
        return Finding("isolation", "ok", what)
    remedy = "see docs/explanation/isolation.md: what of it functions may rely on, and what a stronger level needs"
    return Finding("isolation", "warning", what, remedy)


def of_queues(queues: Iterable[queue.EventQueue]) -> list[Finding]:
    """Of every function that has events."""
    found = []
    for each in queues:
        name = each.function_name
        if each.paused:
            found.append(Finding("queue", "warning", f"{name}: paused", f"`lambent queue resume {name}`"))
        elif each.oldest_age_seconds > QUEUE_SECONDS:
            what = f"{name}: an event has waited {each.oldest_age_seconds:.0f} s for its first attempt"
            remedy = f"look for throttles (`lambent explain {name}`) and at the pollers' logs"
            found.append(Finding("queue", "problem", what, remedy))
        if each.given_up:
            what = f"{name}: {each.given_up} events were given up"
            found.append(
                Finding("queue", "warning", what, f"`lambent queue events {name}`, then redrive or purge them")
            )
    return found or [Finding("queue", "ok", "no event waits long, none was given up")]


def _number(info: Mapping[str, object], name: str) -> float:
    value = info.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
