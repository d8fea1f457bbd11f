"""Everything that can be set: one table, as dataclasses, one for each group.

`lambent config` and docs/reference/configuration.md are made from it; lambent/infra/config.py says where values come
from.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from lambent.domain.limits import PROFILES, Limits
from lambent.domain.names import ACCOUNT_PATTERN, REGION_PATTERN


def setting(
    default: Any, doc: str, *, unit: str = "", pattern: str = "", minimum: float | None = None,
    maximum: float | None = None,
) -> Any:  # fmt: skip
    """A row of the table. `pattern` must match the whole of a text value."""
    bounds = {"minimum": minimum, "maximum": maximum}
    return field(default=default, metadata={"doc": doc, "unit": unit, "pattern": pattern} | bounds)


_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|\d{1,4})"
ADDRESS_PATTERN = rf"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.\-]+):{_PORT}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the cluster is and where it listens."""

    http: str = setting("127.0.0.1:9001", "Where the AWS REST API is served.", pattern=ADDRESS_PATTERN)
    grpc: str = setting("127.0.0.1:9002", "Where the gRPC API is served.", pattern=ADDRESS_PATTERN)
    public_url: str = setting(
        "",
        "How clients reach the REST API, for URLs in answers; empty: http and the address.",
        pattern=r"|https?://\S+",
    )
    function_urls: str = setting(
        "",
        "SCHEME://DOMAIN[:PORT] below which function URLs are; every ID.lambda-url.REGION.DOMAIN has to lead to the "
        "frontends. Empty: as public_url has it, with localhost in place of an address.",
        pattern=r"|https?://[^\s/]+",
    )
    data: str = setting(".lambent", "Folder for everything that is kept: store, packages, logs, keys, sockets.")
    account: str = setting("000000000000", "Account of the root credentials.", pattern=ACCOUNT_PATTERN)
    region: str = setting("us-east-1", "Region that is shown where none is named.", pattern=REGION_PATTERN)
    regions: str = setting("", "Regions that are served, separated by commas; empty: any.")
    root_credentials: str = setting(
        "",
        "KEY:SECRET of the first access key; empty: made at the first start and kept.",
        pattern=r"|[^:\s]{3,128}:\S{8,}",
    )
    access_keys: str = setting("", "TOML file with further access keys; see docs/reference/configuration.md.")
    schedulers: int = setting(
        1, "How many schedulers there are: one leads, the others are hot standbys.", unit="processes", minimum=1
    )
    redis_url: str = setting(
        "",
        "Redis-compatible server to use: redis://, rediss:// or unix://; redis+sentinel://HOST:PORT,.../MASTER; or "
        "redis+cluster://HOST:PORT,... for a Redis Cluster. "
        "Empty: an embedded one is started.",
    )
    file_systems: str = setting(
        "",
        "File systems that FileSystemConfigs may name: ARN=/FOLDER,... with ARNs of access points (elasticfilesystem) "
        "and folders of the workers, in which all of these see the same. Empty: there are none.",
    )
    runtimes: str = setting(
        "",
        "Runtimes that functions may be created with, separated by commas; empty: all that Lambent runs. A function "
        "whose runtime no worker has is told at its first use.",
    )
    limit_profile: str = setting(
        "aws-today",
        "Whose limits hold where none is set by itself: aws-today, or aws-2024 (asynchronous payloads of 256 KiB, "
        "streamed responses of 20 MiB); docs/reference/limits.md has them.",
        pattern="|".join(PROFILES),
    )
    examples: bool = setting(True, "Deploy and invoke the example `hello` when the data folder is empty.")

    @property
    def url(self) -> str:
        """How the REST API is reached, without a final slash."""
        return (self.public_url or f"http://{self.http.replace('0.0.0.0', '127.0.0.1')}").rstrip("/")

    @property
    def function_url_base(self) -> str:
        """SCHEME://DOMAIN[:PORT] below which function URLs are. An address has no names below it; every name below
        localhost is this machine's (RFC 6761)."""
        if self.function_urls:
            return self.function_urls
        parts = urlsplit(self.url)
        host = parts.hostname or "localhost"
        with suppress(ValueError):
            ip_address(host)
            host = "localhost"
        return f"{parts.scheme}://{host}" + ("" if parts.port is None else f":{parts.port}")


@dataclass(frozen=True, slots=True)
class Worker:
    """Where functions run."""

    isolation: str = setting(
        "auto", "Isolation level wanted; auto: the strongest that works.",
        pattern="auto|namespaces|user-namespace|landlock|process",
    )  # fmt: skip
    minimum_isolation: str = setting(
        "process", "Refuse to start below this level.", pattern="namespaces|user-namespace|landlock|process"
    )
    network: str = setting(
        "full",
        "What functions reach: full (whatever the worker reaches, as on AWS), loopback (only themselves, a network of "
        "their own; needs namespaces), none.",
        pattern="full|loopback|none",
    )
    unreachable: str = setting(
        "169.254.169.254,fd00:ec2::254",
        "What functions must not reach, separated by commas: HOST:PORT, an address, or a network (10.96.0.0/12); needs "
        "the level namespaces. Left as it is: a cloud's metadata about the machine.",
    )
    memory_mb: int = setting(
        0, "Memory that environments may be promised together; 0: nine tenths of the machine's.", unit="MB", minimum=0
    )
    environments: int = setting(1000, "Most environments on one worker.", unit="environments", minimum=1)
    pool: int = setting(4, "Sandboxes made in advance for each interpreter.", unit="sandboxes", minimum=0)
    images_mb: int = setting(
        20_480,
        "Disk that unpacked container images may take together; beyond it those go that no environment uses, the one "
        "used longest ago first.",
        unit="MB",
        minimum=0,
    )
    snapshots_mb: int = setting(
        1024,
        "Memory that snapshots of functions (SnapStart) may use together, of what no environment has been promised; 0: "
        "there are none, and every environment has an init phase of its own.",
        unit="MB",
        minimum=0,
    )
    snapshot_copies: int = setting(
        2,
        "Copies of each snapshot that are made in advance of the environments that use them.",
        unit="sandboxes",
        minimum=0,
    )
    snapshot_idle_seconds: float = setting(
        3600.0, "How long a snapshot is kept of which no environment lives.", unit="seconds", minimum=1
    )
    freeze_after_ms: int = setting(
        100, "How long an environment is idle before it is frozen: given no processor time.", unit="ms", minimum=1
    )
    rest_after_seconds: float = setting(
        5.0,
        "How long one is idle before it gives back memory that it would have again at once: what its processes have "
        "written to and left as it was. Its next invocation takes a fraction of a millisecond longer.",
        unit="seconds",
        minimum=0.1,
    )
    uid_base: int = setting(
        200_000,
        "First user id that functions run as, one each; where a container has no such ids, its last.",
        minimum=1000,
    )
    credentials: str = setting(
        "full",
        "What functions may do at this cluster's API with the credentials that they find: full (whatever their "
        "account's access keys may), none (every call is denied).",
        pattern="full|none",
    )
    credentials_seconds: float = setting(
        43_200.0,
        "Age at which a function's process is replaced, since its credentials expire.",
        unit="seconds",
        minimum=1,
    )
    api_url: str = setting(
        "",
        "How functions reach the REST API, for AWS_ENDPOINT_URL_LAMBDA; empty: as other clients do.",
        pattern=r"|https?://\S+",
    )
    interpreters: str = setting("", "name=/path,... for runtimes; empty: found on PATH, others share the worker's own.")
    runtime_dir: str = setting(
        "", "Folder with the SDKs that functions find; empty: the one that `lambent runtimes install` makes."
    )


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Named choices of the scheduler."""

    placement: str = setting(
        "spread",
        "Which worker starts an environment: spread (fill workers one after the other, a function over those in use), "
        "pack (the fullest), balance (the emptiest).",
        pattern="spread|pack|balance",
    )
    ramp: str = setting(
        "aws-today",
        "How fast environments may be started: aws-today (each function by itself), aws-2020 (one burst for all of an "
        "account's, then 500 a minute), none.",
        pattern="aws-today|aws-2020|none",
    )
    keep_alive_policy: str = setting(
        "fixed",
        "How long an idle environment is kept: fixed (timing.keep_alive_seconds), break-even (while its memory costs "
        "less than the cold start that it may save, by the function's own idle times), hybrid-histogram (until hardly "
        "any use comes, by these). With the latter two it is let go, and another is started in time, where the idle "
        "times say that.",
        pattern="fixed|hybrid-histogram|break-even",
    )
    cold_start_price: float = setting(
        140.0,
        "break-even: what one cold start may cost in memory that idles; with more of it there are fewer cold starts.",
        unit="GB·s", minimum=0,
    )  # fmt: skip
    histogram_head_percent: float = setting(
        5.0, "hybrid-histogram: idle times that may end before an environment is there again.", unit="%", minimum=0
    )
    histogram_tail_percent: float = setting(
        99.0, "hybrid-histogram: idle times during which an environment is kept to the end.", unit="%", minimum=1
    )
    histogram_margin_percent: float = setting(
        10.0, "hybrid-histogram: how much sooner and longer than that one is kept.", unit="%", minimum=0
    )
    histogram_samples: int = setting(
        10, "hybrid-histogram: idle times that must be known of a function; with fewer it is kept as with fixed.",
        unit="idle times", minimum=1,
    )  # fmt: skip
    histogram_variation: float = setting(
        2.0,
        "hybrid-histogram: least coefficient of variation of the histogram's counts; below it no idle times stand out, "
        "and it is kept as with fixed.",
        minimum=0,
    )
    provisioned_serves: str = setting(
        "complete",
        "When provisioned concurrency begins to serve: complete (once all that was requested is there, as on AWS), "
        "each (every environment as soon as it is there).",
        pattern="complete|each",
    )
    recycle_seconds: float = setting(
        14_400.0, "Age at which an environment of provisioned concurrency is replaced.", unit="seconds", minimum=1
    )


@dataclass(frozen=True, slots=True)
class Vpc:
    """Networks that functions may be attached to."""

    subnets: str = setting(
        "",
        "Subnets that VpcConfig may name, each with its VPC: subnet-0a1b=vpc-1,subnet-0c2d=vpc-1; *=vpc-1 stands for "
        "any. What a subnet reaches is what the workers reach that take its functions. Empty: there are none.",
    )
    security_groups: str = setting("", "Security groups that VpcConfig may name, written likewise.")

    @property
    def exist(self) -> bool:
        """Whether functions can be attached to anything."""
        return bool(self.subnets.strip())


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations that are ours to choose."""

    keep_alive_seconds: float = setting(300.0, "How long an idle environment is kept.", unit="seconds", minimum=0)
    lease_seconds: float = setting(15.0, "How long a lost caller's leases hold.", unit="seconds", minimum=0.1)
    lease_hold_seconds: float = setting(2.0, "How long a caller keeps an idle lease.", unit="seconds", minimum=0)
    recall_hold_off_seconds: float = setting(
        1.0, "How long callers keep nothing idle after a recall.", unit="seconds", minimum=0
    )
    worker_grace_seconds: float = setting(
        10.0, "How long a lost worker's environments are kept.", unit="seconds", minimum=0
    )
    leadership_seconds: float = setting(
        1.5, "How long a scheduler leads unless it renews; a standby begins after that.", unit="seconds", minimum=0.2
    )
    alarm_period_seconds: float = setting(
        60.0, "Period of auto scaling's alarms; they look at 3 and at 15 of them.", unit="seconds", minimum=0.2
    )
    rebuild_seconds: float = setting(
        0.75, "After a scheduler's start: how long others may come back first.", unit="seconds", minimum=0
    )
    capacity_wait_seconds: float = setting(
        10.0, "How long a request waits for room on a worker.", unit="seconds", minimum=0
    )
    leave_seconds: float = setting(
        0.0,
        "How long a frontend that is told to stop still takes requests, no longer ready, so that load balancers hear "
        "of it and clients connect elsewhere.",
        unit="seconds",
        minimum=0,
    )
    drain_seconds: float = setting(
        900.0, "How long running invocations may take to end at shutdown.", unit="seconds", minimum=0
    )
    log_days: int = setting(
        14, "How long function logs are kept, where their log group does not say.", unit="days", minimum=1
    )


@dataclass(frozen=True, slots=True)
class Queue:
    """Asynchronous invocation."""

    running: int = setting(1000, "Most events that one poller runs at once.", unit="events", minimum=1)
    share: float = setting(
        1.0,
        "Share of each account's unreserved concurrency that events may use together, so that synchronous callers "
        "always find the rest; 1: all of it, as on AWS.", unit="share", minimum=0, maximum=1,
    )  # fmt: skip
    lease_seconds: float = setting(
        5.0, "How long events of a lost poller are held before another takes them over.", unit="seconds", minimum=0.5
    )
    accept_seconds: float = setting(
        2.0,
        "How long an event may wait for the store to keep it; then its caller gets 503.",
        unit="seconds",
        minimum=0.1,
    )
    dedup_seconds: float = setting(
        300.0, "How long a token stands for the event that first came with it.", unit="seconds", minimum=0.001
    )
    delivery_seconds: float = setting(
        21_600.0, "How long it is tried to tell a destination or a dead-letter queue.", unit="seconds", minimum=0
    )
    connections: str = setting(
        "",
        "TOML file that says where destinations, dead-letter queues, event sources and packages in buckets are; see "
        "docs/howto/destinations.md.",
    )
    source_bytes: int = setting(
        256 * 1024 * 1024,
        "Most bytes of event sources' messages that one poller holds at once.",
        unit="bytes",
        minimum=1,
    )
    dead_days: float = setting(14.0, "How long events that were given up are kept.", unit="days", minimum=0)
    dead_events: int = setting(10_000, "Most events given up that are kept of one function.", unit="events", minimum=0)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What leaves the processes. Nothing by default."""

    otlp_endpoint: str = setting("", "OTLP endpoint for traces and metrics (http://... or grpc://...); empty: none.")
    prometheus: str = setting(
        "",
        "HOST:PORT of the frontend's /metrics; scheduler, worker and poller follow on the next ports. Empty: none.",
        pattern=rf"|{ADDRESS_PATTERN}",
    )
    sample: float = setting(
        0.01, "Share of invocations traced when the caller does not say.", unit="share", minimum=0, maximum=1
    )  # fmt: skip
    log_level: str = setting("info", "Least level of our own logs.", pattern="debug|info|warning|error")
    log_format: str = setting("json", "Format of our own logs.", pattern="json|text")


@dataclass(frozen=True, slots=True)
class Storage:
    """Where packages and logs are kept."""

    code: str = setting(
        "directory",
        "Packages and layers: directory (in the data folder, which every process then shares), redis.",
        pattern="directory|redis",
    )
    logs: str = setting(
        "directory", "What functions wrote: directory (in the data folder), redis.", pattern="directory|redis"
    )
    log_group_mb: int = setting(
        16, "logs = redis: how much is kept of one log group; the oldest goes first.", unit="MB", minimum=1
    )


@dataclass(frozen=True, slots=True)
class Internal:
    """How our processes find each other. On one machine all of it follows from the data folder."""

    scheduler: str = setting(
        "",
        "Addresses of the schedulers, unix:/path or host:port, separated by commas; with more than one, they elect a "
        "leader through Redis. A name may stand for several hosts. Empty: sockets in the run folder.",
    )
    scheduler_listen: str = setting("", "Where a scheduler listens; empty: the first of those addresses.")
    scheduler_advertise: str = setting(
        "",
        "Where others reach this scheduler and nobody else, HOST:PORT; kubernetes.election: by it they know at once "
        "when its process has ended. Empty: they wait for timing.leadership_seconds.",
    )
    worker: str = setting(
        "", "Where a worker takes invocations, unix:/path or host:port; empty: a socket in the run folder."
    )
    worker_advertise: str = setting("", "Where callers reach a worker, where that is not where it listens: host:port.")
    worker_id: str = setting("", "Name of a worker, unique in the cluster; empty: made from the host name.")
    worker_pool: str = setting(
        "", "Pool that a worker belongs to, of those in kubernetes.pools; empty: there are none."
    )
    store_listen: str = setting(
        "", "Where a frontend gives workers packages and takes their logs, host:port; empty: nowhere."
    )
    store: str = setting(
        "",
        "Where workers get packages and send logs, the frontends' store_listen, separated by commas; empty: they use "
        "the stores themselves.",
    )
    tls: str = setting(
        "",
        "Folder with tls.crt, tls.key and ca.crt, with which our processes know each other; they are read again when "
        "they change. Empty: the cluster's token alone, unencrypted.",
    )


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """What the scheduler does through the Kubernetes API. Nothing by default."""

    election: bool = setting(
        False, "Schedulers elect a leader by a Lease object, whatever internal.scheduler says, and not through Redis."
    )
    lease: str = setting("lambent-scheduler", "Name of that Lease.", pattern=r"[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?")
    namespace: str = setting("", "Namespace of everything that is made; empty: the pod's own, or the kubeconfig's.")
    pools: str = setting(
        "",
        "Folder with the pools of workers, one file POOL.json each: functions are dealt out to them by their rules, "
        "and the scheduler makes and removes pods of those with a template. Empty: all workers are one pool.",
    )
    release: str = setting(
        "lambent",
        "Release whose worker pods these are; in their names and labels.",
        pattern=r"[a-z0-9]([a-z0-9\-]{0,51}[a-z0-9])?",
    )
    owner: str = setting("", "ConfigMap that owns the worker pods: they go when it is deleted. Empty: none does.")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    cluster: Cluster = field(default_factory=Cluster)
    worker: Worker = field(default_factory=Worker)
    scheduling: Scheduling = field(default_factory=Scheduling)
    vpc: Vpc = field(default_factory=Vpc)
    timing: Timing = field(default_factory=Timing)
    queue: Queue = field(default_factory=Queue)
    telemetry: Telemetry = field(default_factory=Telemetry)
    limits: Limits = field(default_factory=Limits)
    storage: Storage = field(default_factory=Storage)
    internal: Internal = field(default_factory=Internal)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
