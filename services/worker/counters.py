"""What the worker counts, plain integers that are read by whoever exports them, and what is told of each invocation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from services.worker.core.reasons import Reason


@dataclass(slots=True)
class WorkerCounters:
    """Totals since the process started."""

    invocations: int = 0
    errors: int = 0  # function errors of every kind, the next three included
    timeouts: int = 0
    crashes: int = 0
    out_of_memory: int = 0
    cold: int = 0  # invocations that were the first of their process
    inits: int = 0  # init phases that have ended
    init_failures: int = 0
    rejected: int = 0
    starts: int = 0
    start_failures: int = 0
    stops: int = 0
    # Of versions with SnapStart: environments, by what they came of and why (core/zygote_tree.py)
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)  # function zygotes that were ended, by reason

    def count_error(self, reason: Reason | None) -> None:
        """One invocation ended in a function error."""
        self.errors += 1
        if reason is Reason.TIMED_OUT:
            self.timeouts += 1
        elif reason is Reason.OUT_OF_MEMORY:
            self.out_of_memory += 1
        elif reason is Reason.EXITED:
            self.crashes += 1


@dataclass(frozen=True, slots=True)
class InvocationRecord:
    """What came of one invocation, for spans and metrics."""

    request_id: str
    arn: str
    trace: str
    started: float  # epoch seconds
    duration_ms: float
    init_ms: float | None
    error_type: str | None
    reason: Reason | None  # set where the function did not answer itself
    cold: bool
