"""Why the scheduler decided what it decided. The value reaches the response, the metric, the span and the test."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason there is."""

    # Grants
    WARM = "Warm"  # an idle environment was there
    COLD = "Cold"  # an environment was started for a waiting request
    FREED = "Freed"  # another invocation's environment came free first
    # Refusals; AWS's own spelling where AWS has one (the Reason enum of TooManyRequestsException)
    ACCOUNT_LIMIT = "ConcurrentInvocationLimitExceeded"
    NO_CAPACITY = "NoCapacity"  # no worker had room within the wait
    NO_WORKERS = "NoWorkers"  # no worker is connected
    START_FAILED = "EnvironmentStartFailed"  # workers could not make a sandbox, several times in a row
    # Stops
    IDLE = "KeepAliveEnded"
    OUTDATED = "Outdated"  # the function was changed or deleted
    EVICTED = "Evicted"  # its memory was needed for another function
    LEASE_EXPIRED = "LeaseExpired"  # its caller is lost
    UNCLAIMED = "Unclaimed"  # busy after a scheduler restart, and no caller came back for it
    NOT_REUSABLE = "NotReusable"  # its caller said so
    # Revocations
    ENVIRONMENT_GONE = "EnvironmentGone"
    WORKER_LOST = "WorkerLost"
    CLAIM_REFUSED = "ClaimRefused"  # a caller came back for a lease that is void or another's
