"""Why the scheduler decided what it decided. The value reaches the response, the metric, the span and the test."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason there is."""

    # Grants
    WARM = "Warm"  # an idle environment was there
    COLD = "Cold"  # an environment was started for a waiting request
    FREED = "Freed"  # another invocation's environment came free first
    PROVISIONED = "Provisioned"  # an idle environment of the version's provisioned concurrency
    # Refusals; AWS's own spelling where AWS has one (the Reason enum of TooManyRequestsException)
    ACCOUNT_LIMIT = "ConcurrentInvocationLimitExceeded"
    RESERVED_LIMIT = "ReservedFunctionConcurrentInvocationLimitExceeded"
    ASYNC_SHARE = "AsynchronousShareExceeded"  # pollers use all of the concurrency that they may
    RATE_LIMIT = "FunctionInvocationRateLimitExceeded"  # requests a second of the unreserved pool
    SCALING_LIMIT = "FunctionScalingRateLimitExceeded"  # too many new environments; AWS calls it as the one above
    RESERVED_RATE_LIMIT = "ReservedFunctionInvocationRateLimitExceeded"
    NO_CAPACITY = "NoCapacity"  # no worker had room within the wait
    NO_WORKERS = "NoWorkers"  # no worker is connected
    NO_POOL = "NoWorkerPool"  # no pool of workers takes the function, by their rules
    START_FAILED = "EnvironmentStartFailed"  # workers could not make a sandbox, several times in a row
    # Stops
    IDLE = "KeepAliveEnded"
    OUTDATED = "Outdated"  # the function was changed or deleted
    BREAK_EVEN = "BreakEven"  # to keep it longer would cost more memory than the cold start that it may save
    NOT_DUE = "NotDueYet"  # its function's idle times say that it is not used soon; one is started again in time
    EVICTED = "Evicted"  # its memory was needed for another function
    LEASE_EXPIRED = "LeaseExpired"  # its caller is lost
    UNCLAIMED = "Unclaimed"  # busy after a scheduler restart, and no caller came back for it
    NOT_REUSABLE = "NotReusable"  # its caller said so
    NOT_PROVISIONED = "NotProvisioned"  # its version's provisioned concurrency was lowered, moved or deleted
    RECYCLED = "Recycled"  # a provisioned environment whose replacement is ready
    INIT_FAILED = "FUNCTION_ERROR_INIT_FAILURE"  # of a provisioned environment; AWS's StatusReason
    # Why provisioned concurrency is not ready
    RAMPING = "Ramping"  # the ramp limit lets no more start at this instant
    WAITS_FOR_SLOT = "WaitsForConcurrency"  # executions that run on demand fill the limit
    WAITS_FOR_ROOM = "InsufficientCapacity"  # no worker has room
    # Changes of provisioned concurrency, and why there was none
    SCALED_OUT = "ScaledOut"  # a target tracking policy's alarm of high use rang
    SCALED_IN = "ScaledIn"  # its alarm of low use rang
    SCHEDULED = "ScheduledAction"
    AT_MAXIMUM = "AlreadyAtMaximum"
    AT_MINIMUM = "AlreadyAtMinimum"
    AT_DESIRED = "AlreadyAtDesired"
    # Revocations
    ENVIRONMENT_GONE = "EnvironmentGone"
    WORKER_LOST = "WorkerLost"
    CLAIM_REFUSED = "ClaimRefused"  # a caller came back for a lease that is void or another's
