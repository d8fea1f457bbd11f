"""Why the worker did what it did. The value reaches the caller, the scheduler, the metric and the test."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason there is."""

    # Rejections: the handler did not run
    UNKNOWN = "EnvironmentUnknown"  # the slot is empty or another environment's
    BUSY = "EnvironmentBusy"  # it runs another invocation
    STARTING = "EnvironmentStarting"  # its init phase has not ended
    CLOSING = "WorkerClosing"
    # An environment is gone
    STOPPED = "Stopped"  # the scheduler asked for it
    CANCELLED = "Cancelled"  # the caller gave up the invocation that ran on it
    NO_PACKAGE = "PackageUnavailable"  # the code store does not have the package, or it cannot be unpacked
    NO_SANDBOX = "SandboxUnavailable"  # the machine could not make one
    FULL = "WorkerFull"  # more environments were ordered than this worker said it can hold
    DRAINED = "WorkerDrained"
    WORN = "CredentialsExpire"  # its process is as old as its credentials let it get
    # Ends of an invocation that the function did not end itself
    TIMED_OUT = "TimedOut"
    EXITED = "Exited"
    OUT_OF_MEMORY = "OutOfMemory"
    PROTOCOL = "GuestProtocol"  # the guest sent what no guest of ours sends
