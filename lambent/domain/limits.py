"""Everything that AWS fixes as a number, with AWS's value as the default, in one table.

Each field is a setting `limits.<name>` (see `lambent config`); the reference page docs/reference/limits.md is made
from this table. Sources: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html unless said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


def limit(default: float, unit: str, doc: str, beyond: str) -> float:
    """A row of the table. `beyond`: what happens beyond the limit."""
    return field(default=default, metadata={"unit": unit, "doc": doc, "beyond": beyond})


def count(default: int, unit: str, doc: str, beyond: str) -> int:
    """A row of the table whose value is a whole number."""
    return field(default=default, metadata={"unit": unit, "doc": doc, "beyond": beyond})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force. One instance for each process, made from the settings."""

    sync_request_bytes: int = count(
        6 * 1024 * 1024, "bytes", "Payload of a synchronous invocation.", "`RequestEntityTooLargeException` (413)."
    )
    async_request_bytes: int = count(
        1024 * 1024,
        "bytes",
        "Payload of an asynchronous invocation.",
        "`RequestEntityTooLargeException` (413).",
    )
    sync_response_bytes: int = count(
        6 * 1024 * 1024 + 100,
        "bytes",
        "Response of a synchronous invocation.",
        "Function error `Function.ResponseSizeTooLarge`; the environment goes on.",
    )
    streamed_response_bytes: int = count(
        200 * 1024 * 1024,
        "bytes",
        "Response that a function streams.",
        "The response ends with `Function.ResponseSizeTooLarge`; the environment goes on.",
    )
    streamed_free_bytes: int = count(
        6 * 1024 * 1024, "bytes", "How much of a streamed response goes out as fast as it can.", "The rest is paced."
    )
    streamed_bytes_per_second: float = limit(
        2.0 * 1024 * 1024, "bytes/s", "How fast the rest of it goes out.", "The function waits."
    )
    control_request_bytes: int = count(
        70_167_211, "bytes", "Body of any other request.", "`RequestEntityTooLargeException` (413)."
    )
    stream_calls: int = count(
        1000, "calls", "Invocations of one InvokeMany stream under way at once.", "The rest is not read yet."
    )
    request_head_bytes: int = count(
        1024 * 1024, "bytes", "Request line and headers together.", "431, and the connection is closed."
    )
    zip_bytes: int = count(
        50 * 1024 * 1024, "bytes", "Package sent directly, zipped.", "`RequestEntityTooLargeException` (413)."
    )
    unzipped_bytes: int = count(
        262_144_000,
        "bytes",
        "Package unzipped, the function's layers included.",
        "`InvalidParameterValueException` (400).",
    )
    layers: int = count(
        5,
        "layers",
        "Layers of one function; their content unzipped counts with the package's.",
        "`InvalidParameterValueException` (400).",
    )
    image_bytes: int = count(
        10 * 1024 * 1024 * 1024,
        "bytes",
        "Container image, its layers unpacked together.",
        "`InvalidParameterValueException` (400) where the packed layers are larger already, else environments do not "
        "start.",
    )
    image_entries: int = count(
        500_000,
        "entries",
        "Files and folders in a container image; Lambent's own guard.",
        "Environments do not start.",
    )
    image_settings_bytes: int = count(
        16 * 1024,
        "bytes",
        "What a function says of its image (ImageConfig).",
        "`InvalidParameterValueException` (400).",
    )
    zip_entries: int = count(
        65_535,
        "entries",
        "Files and folders in a package; Lambent's own guard.",
        "`InvalidParameterValueException` (400).",
    )
    code_storage_bytes: int = count(
        80_530_636_800,
        "bytes",
        "Packages of one account and region together, layers included.",
        "`CodeStorageExceededException` (400).",
    )
    environment_bytes: int = count(
        4096, "bytes", "Environment variables as compact JSON.", "`InvalidParameterValueException` (400)."
    )
    client_context_bytes: int = count(
        3583, "bytes", "Client context, as base64 text.", "`InvalidParameterValueException` (400)."
    )
    log_tail_bytes: int = count(4096, "bytes", "Log tail returned with an invocation.", "The tail begins later.")
    log_page_events: int = count(
        10_000, "events", "Events in one page of CloudWatch Logs.", "The page ends, with a token for the next."
    )
    log_page_bytes: int = count(
        1024 * 1024,
        "bytes",
        "Text of the events in one page of CloudWatch Logs.",
        "The page ends, with a token for the next.",
    )
    log_search_bytes: int = count(
        16 * 1024 * 1024,
        "bytes",
        "Text that is searched for one page of FilterLogEvents; Lambent's own guard.",
        "The page ends, with a token for the next.",
    )
    list_page_items: int = count(
        50, "items", "Most items in one page of a list.", "The page ends, with a `NextMarker`."
    )
    concurrent_executions: int = count(
        1000,
        "executions",
        "Concurrency of one account and region.",
        "`TooManyRequestsException` (429), reason `ConcurrentInvocationLimitExceeded`; an asynchronous event waits.",
    )
    unreserved_minimum: int = count(
        100,
        "executions",
        "What reserved and provisioned concurrency must leave of an account's concurrency.",
        "`InvalidParameterValueException` (400).",
    )
    init_seconds: float = limit(
        10.0,
        "seconds",
        "Init phase; beyond it init is done again within the first invocation.",
        "The process is killed; init is done again within the first invocation, under the function's timeout.",
    )
    provisioned_init_seconds: float = limit(
        130.0,
        "seconds",
        "Init phase of provisioned concurrency; the function's timeout, if that is longer.",
        "The process is killed; the environment counts as not allocated.",
    )
    snapshot_init_seconds: float = limit(
        130.0,
        "seconds",
        "Init phase of a version with SnapStart; the function's timeout, if that is longer.",
        "The version's state becomes Failed.",
    )
    restore_seconds: float = limit(
        10.0,
        "seconds",
        "Start of an environment from a snapshot, its hooks after the restore included.",
        "`SnapStartTimeoutException` (408).",
    )
    requests_per_execution: float = limit(
        10.0,
        "requests/s",
        "Requests a second for each execution of a concurrency limit.",
        "`TooManyRequestsException` (429), with the `Reason` of the limit that was met.",
    )
    scaling_environments: int = count(
        1000,
        "environments",
        "New environments of one function at once, on demand.",
        "`TooManyRequestsException` (429) until the budget refills.",
    )
    scaling_per_second: float = limit(
        100.0, "environments/s", "How fast that budget refills: 1,000 every 10 seconds (policy aws-today).", "As above."
    )
    provisioned_per_minute: float = limit(
        6000.0,
        "environments/min",
        "Provisioned concurrency started for one function (policy aws-today).",
        "The rest is started later; the status stays `IN_PROGRESS`.",
    )
    regional_burst: int = count(
        3000,
        "environments",
        "New environments of one account and region at once (policy aws-2020).",
        "`TooManyRequestsException` (429) until the burst refills.",
    )
    regional_per_minute: float = limit(
        500.0,
        "environments/min",
        "How fast that burst refills, for all functions together (policy aws-2020).",
        "As above.",
    )
    scalable_targets: int = count(
        500, "targets", "Scalable targets of one account and region.", "`LimitExceededException` (400)."
    )
    scaling_policies: int = count(
        50, "policies", "Scaling policies of one scalable target.", "`LimitExceededException` (400)."
    )
    scheduled_actions: int = count(
        200, "actions", "Scheduled actions of one scalable target.", "`LimitExceededException` (400)."
    )
    scaling_activities: int = count(
        10_000,
        "activities",
        "Scaling activities kept for one account and region; Lambent's own guard.",
        "The oldest are forgotten.",
    )
    scaling_history_seconds: int = count(
        3_628_800, "seconds", "How long scaling activities are shown: six weeks.", "Older ones are not shown."
    )
    async_retry_attempts: int = count(
        2,
        "attempts",
        "Attempts after the first at an event whose function fails.",
        "The event goes to the dead-letter queue or destination of failures, else it is dropped.",
    )
    async_event_age_seconds: float = limit(
        21_600.0, "seconds", "Age at which an asynchronous event is given up.", "As above."
    )
    async_retry_seconds: float = limit(
        60.0,
        "seconds",
        "Wait before the second attempt at an event; before the third, twice as long.",
        "Nothing: it is a wait.",
    )
    async_backoff_seconds: float = limit(
        1.0, "seconds", "First wait of an event after a throttle or a fault of the platform.", "Nothing: it is a wait."
    )
    async_backoff_max_seconds: float = limit(
        300.0, "seconds", "Longest of those waits; each is twice the one before.", "Waits grow no further."
    )
    recursive_invocations: int = count(
        16,
        "invocations",
        "Times that a function runs in one chain of requests.",
        "`RecursiveInvocationException` (400); an asynchronous event goes the way of one whose attempts are used up, a "
        "message stays in its queue. Not of functions whose loops are allowed.",
    )
    default_timeout_seconds: int = count(
        3,
        "seconds",
        "Timeout of a function that names none.",
        "The process is killed; function error `Sandbox.Timedout`; `/tmp` stays as it was left.",
    )
    max_timeout_seconds: int = count(
        900,
        "seconds",
        "Largest timeout a function may ask for.",
        "`ValidationException` (400), or `InvalidParameterValueException`.",
    )
    default_memory_mb: int = count(
        128,
        "MB",
        "Memory of a function that names none.",
        "The kernel, or the worker that samples, kills the process: `Runtime.ExitError`, `signal: killed`.",
    )
    max_memory_mb: int = count(
        10_240,
        "MB",
        "Largest memory a function may ask for.",
        "`ValidationException` (400), or `InvalidParameterValueException`.",
    )
    vcpu_memory_mb: int = count(
        1769,
        "MB",
        "Memory that comes with one whole virtual CPU.",
        "The function waits for its share: what it has not used of one period it may use in the next.",
    )
    default_ephemeral_storage_mb: int = count(
        512,
        "MB",
        "Size of /tmp of a function that names none.",
        "Writing fails with ENOSPC (levels with namespaces; at others it does not).",
    )
    processes: int = count(
        1024,
        "processes",
        "Processes and threads in one environment.",
        "`fork` and the making of threads fail with EAGAIN; where processes are sampled, the environment is killed.",
    )
    file_descriptors: int = count(
        1024, "descriptors", "Open files of one process in an environment.", "Opening fails with EMFILE."
    )
    package_url_seconds: int = count(600, "seconds", "How long the download URL of a package is valid.", "403.")
    signature_skew_seconds: float = limit(
        300.0, "seconds", "How far a request's signing time may be off (SigV4).", "`InvalidSignatureException` (403)."
    )
    presigned_max_seconds: int = count(
        604_800, "seconds", "Longest validity of a presigned request (SigV4).", "`IncompleteSignatureException` (400)."
    )
    throttle_retry_after_seconds: float = limit(
        1.0, "seconds", "Retry-After of a throttled request.", "Nothing: it is a hint for clients."
    )
    idle_network_seconds: float = limit(
        14 * 86_400.0,
        "seconds",
        "How long a function with VpcConfig may be without an invocation.",
        "The function becomes Inactive; the next invocation is refused (`ResourceConflictException`, 409) and brings "
        "it back.",
    )
    policy_bytes: int = count(
        20_480, "bytes", "Size of the policy of a function, a version, an alias or a layer version.",
        "`PolicyLengthExceededException` (400).",
    )  # fmt: skip
    event_source_page_items: int = count(
        100, "items", "Most items in one page of event source mappings.", "The page ends, with a `NextMarker`."
    )
    event_source_filters: int = count(
        5, "filters", "Filters of one event source mapping.", "`InvalidParameterValueException` (400)."
    )
    event_source_start_concurrency: int = count(
        5, "batches", "Batches of a queue that run at once when its backlog begins.", "The rest waits in the queue."
    )
    event_source_growth_per_minute: int = count(
        300, "batches/min", "How fast that grows while there is a backlog.", "The rest waits in the queue."
    )
    event_source_concurrency: int = count(
        1250, "batches", "Batches of one event source mapping that run at once.", "The rest waits in the queue."
    )
    rules: int = count(300, "rules", "EventBridge rules of an account.", "`LimitExceededException` (400).")
    rule_targets: int = count(5, "targets", "Targets of one rule.", "`LimitExceededException` (400).")
    schedules: int = count(
        1_000_000,
        "schedules",
        "EventBridge Scheduler's schedules of an account.",
        "`ServiceQuotaExceededException` (402).",
    )
    schedule_groups: int = count(
        500,
        "groups",
        "Groups of schedules of an account, `default` included.",
        "`ServiceQuotaExceededException` (402).",
    )
    put_events_bytes: int = count(
        256 * 1024, "bytes", "Events of one PutEvents together.", "`ValidationException` (400)."
    )
    tags: int = count(50, "tags", "Tags of one resource.", "`InvalidParameterValueException` (400).")
    tag_key_length: int = count(128, "characters", "Length of a tag's key.", "`InvalidParameterValueException` (400).")
    tag_value_length: int = count(
        256, "characters", "Length of a tag's value.", "`InvalidParameterValueException` (400)."
    )


# What AWS's limits were at other times, by name: only what differs from today's. `limit_profile` chooses one; a limit
# that is set by itself holds whatever the profile says.
PROFILES: Mapping[str, Mapping[str, float]] = {
    "aws-today": {},
    "aws-2024": {"async_request_bytes": 256 * 1024, "streamed_response_bytes": 20 * 1024 * 1024},
}
