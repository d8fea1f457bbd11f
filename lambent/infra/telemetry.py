"""Traces and metrics. Nothing leaves the process unless an endpoint is configured, and the hot path pays for nothing
that does not: counters are plain integers read by callbacks, spans are made only for invocations that are sampled.

Metric names are the table below: CloudWatch's for what AWS publishes (folded to lower case, as OpenTelemetry folds
every name), OpenTelemetry's FaaS conventions beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer

from lambent import __version__
from lambent.domain.names import Tenant
from lambent.domain.tracing import TraceContext


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: str  # counter, gauge or histogram
    unit: str
    doc: str


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("aws.lambda.invocations", "counter", "{invocation}", "Times that function code ran, failures included."),
        Metric("aws.lambda.errors", "counter", "{invocation}", "Invocations that ended in a function error."),
        Metric("aws.lambda.throttles", "counter", "{request}", "Requests refused because of a limit."),
        Metric("aws.lambda.duration", "histogram", "ms", "Time that handlers took, without init."),
        Metric("aws.lambda.concurrentexecutions", "gauge", "{execution}", "Slots of concurrency in use."),
        Metric(
            "aws.lambda.provisionedconcurrencyinvocations",
            "counter",
            "{invocation}",
            "Invocations on provisioned concurrency.",
        ),
        Metric(
            "aws.lambda.provisionedconcurrencyspilloverinvocations",
            "counter",
            "{invocation}",
            "Invocations on demand, since the version's provisioned concurrency was all in use.",
        ),
        Metric(
            "aws.lambda.recursiveinvocationsdropped",
            "counter",
            "{invocation}",
            "Invocations that a recursive loop had led to, and that were not run.",
        ),
        Metric("aws.lambda.asynceventsreceived", "counter", "{event}", "Asynchronous events that were accepted."),
        Metric("aws.lambda.asynceventage", "histogram", "ms", "Age of events when an attempt at them began."),
        Metric("aws.lambda.asynceventsdropped", "counter", "{event}", "Events that were given up."),
        Metric("aws.lambda.deadlettererrors", "counter", "{error}", "Dead letters that could not be delivered."),
        Metric(
            "aws.lambda.destinationdeliveryfailures",
            "counter",
            "{failure}",
            "Records that could not be delivered to a destination.",
        ),
        Metric("aws.lambda.polledeventcount", "counter", "{event}", "Records that an event source's reader received."),
        Metric("aws.lambda.filteredouteventcount", "counter", "{event}", "Of these, those that no filter let pass."),
        Metric("aws.lambda.invokedeventcount", "counter", "{event}", "Of these, those that a function ran with."),
        Metric("aws.lambda.failedinvokeeventcount", "counter", "{event}", "Of these, those that it did not handle."),
        Metric("aws.lambda.droppedeventcount", "counter", "{event}", "Records of streams that were given up."),
        Metric(
            "aws.lambda.iteratorage", "histogram", "ms", "Age of a batch's last record when its function was invoked."
        ),
        Metric("aws.lambda.deletedeventcount", "counter", "{event}", "Messages that were deleted in their queue."),
        Metric("aws.lambda.urlrequestcount", "counter", "{request}", "Requests at a function's URL."),
        Metric("aws.lambda.urlrequestlatency", "histogram", "ms", "Time until such a request's answer began."),
        Metric("aws.lambda.url4xxcount", "counter", "{request}", "Such requests that were answered with 4xx."),
        Metric("aws.lambda.url5xxcount", "counter", "{request}", "Such requests that were answered with 5xx."),
        Metric("aws.events.triggeredrules", "counter", "{rule}", "Rules that were due, or had an event's pattern."),
        Metric("aws.events.invocations", "counter", "{target}", "Targets of rules that were told."),
        Metric("aws.events.failedinvocations", "counter", "{target}", "Targets of rules that could not be told."),
        Metric("aws.scheduler.invocationattemptcount", "counter", "{attempt}", "Schedules that were due."),
        Metric("aws.scheduler.targeterrorcount", "counter", "{error}", "Of these, those whose function was not told."),
        Metric("faas.invocations", "counter", "{invocation}", "Invocations that succeeded."),
        Metric("faas.errors", "counter", "{error}", "Invocations that ended in an error."),
        Metric("faas.timeouts", "counter", "{timeout}", "Invocations that ran out of time."),
        Metric("faas.coldstarts", "counter", "{coldstart}", "Invocations that waited for an init."),
        Metric("faas.invoke_duration", "histogram", "s", "Time that handlers took."),
        Metric("faas.init_duration", "histogram", "s", "Time that init phases took."),
        Metric("lambent.requests", "counter", "{request}", "Requests of both doors, by operation and outcome."),
        Metric("lambent.leases", "counter", "{lease}", "How invocations came by their environment."),
        Metric("lambent.decisions", "counter", "{decision}", "The scheduler's decisions, by reason."),
        Metric("lambent.environments", "gauge", "{environment}", "Execution environments, by state."),
        Metric("lambent.workers", "gauge", "{worker}", "Workers, by pool, isolation level and state."),
        Metric("lambent.worker.invocations", "counter", "{invocation}", "Invocations a worker ran, by outcome."),
        Metric(
            "lambent.worker.snap_starts",
            "counter",
            "{environment}",
            "Environments of versions with SnapStart, by what they came of (function: a snapshot) and why.",
        ),
        Metric(
            "lambent.worker.snapshot_evictions",
            "counter",
            "{snapshot}",
            "Snapshots that a worker has ended, by reason.",
        ),
    )
}

Reading = tuple[Mapping[str, str], int | float]  # attributes, value
# How often metrics leave, and how long a collector is waited for, tries again included: so long a process that ends may
# wait for one that is away.
METRICS_MILLISECONDS, EXPORT_SECONDS = 10_000, 2


class _TraceIds(RandomIdGenerator):
    """Ids that are drawn, but for the trace that a span begins: X-Amzn-Trace-Id has its id already."""

    def __init__(self) -> None:
        self.next: int | None = None  # of the trace that the next span begins; None: it is drawn

    def generate_trace_id(self) -> int:
        given, self.next = self.next, None
        return super().generate_trace_id() if given is None else given


class Telemetry:
    """One process's tracer and meter."""

    def __init__(self, service: str, *, otlp_endpoint: str, prometheus: bool, instance: str) -> None:
        """`otlp_endpoint`: http(s)://host:port or grpc://host:port, empty for none. `prometheus`: keep metrics ready
        for `lambent.infra.operations_port` to serve."""
        resource = Resource.create(
            {
                "service.name": f"lambent-{service}",
                "service.namespace": "lambent",
                "service.instance.id": instance,
                "service.version": __version__,
            }
        )
        self.tracer: Tracer | None = None
        self._trace_ids = _TraceIds()
        readers: list[MetricReader] = []
        self._provider: TracerProvider | None = None
        if otlp_endpoint:
            spans, metrics = _exporters(otlp_endpoint)
            self._provider = TracerProvider(
                resource=resource, sampler=ALWAYS_ON, id_generator=self._trace_ids, shutdown_on_exit=False
            )
            self._provider.add_span_processor(BatchSpanProcessor(spans))
            self.tracer = self._provider.get_tracer("lambent", __version__)
            readers.append(metrics)
        if prometheus:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader

            readers.append(PrometheusMetricReader())
        self._meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False) if readers else None
        self._meter = self._meters.get_meter("lambent", __version__) if self._meters else None

    @property
    def measuring(self) -> bool:
        """Whether anything reads metrics."""
        return self._meter is not None

    def observe(self, name: str, read: Callable[[], Iterable[Reading]]) -> None:
        """Export a counter or gauge of METRICS; `read` is called when somebody looks."""
        metric = METRICS[name]
        if self._meter is None:
            return

        def callback(options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(attributes)) for attributes, value in read()]

        create = (
            self._meter.create_observable_counter if metric.kind == "counter" else self._meter.create_observable_gauge
        )
        create(name, callbacks=[callback], unit=metric.unit, description=metric.doc)

    def histogram(self, name: str) -> Histogram | None:
        """A histogram of METRICS. None: nobody looks."""
        metric = METRICS[name]
        if self._meter is None:
            return None
        return self._meter.create_histogram(name, unit=metric.unit, description=metric.doc)

    def parent_of(self, context: TraceContext) -> Context:
        """The context that makes the span which is begun next a child of what came from elsewhere, or the first one of
        its trace."""
        trace_id = int(context.trace_id, 16)
        self._trace_ids.next = None if context.parent_id else trace_id
        if context.parent_id is None:
            return Context()
        parent = SpanContext(
            trace_id=trace_id,
            span_id=int(context.parent_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
        return trace.set_span_in_context(NonRecordingSpan(parent))

    def close(self) -> None:
        """Send what is pending."""
        if self._provider is not None:
            self._provider.shutdown()
        if self._meters is not None:
            self._meters.shutdown()


def _exporters(endpoint: str) -> tuple[SpanExporter, MetricReader]:
    if endpoint.startswith("grpc://"):
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans

        address = endpoint.removeprefix("grpc://")
        return (
            GrpcSpans(endpoint=address, insecure=True, timeout=EXPORT_SECONDS),
            PeriodicExportingMetricReader(
                GrpcMetrics(endpoint=address, insecure=True, timeout=EXPORT_SECONDS), METRICS_MILLISECONDS
            ),
        )
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=EXPORT_SECONDS),
        PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=EXPORT_SECONDS), METRICS_MILLISECONDS
        ),
    )


def by_function(counts: Mapping[tuple[Tenant, str], int], label: str = "FunctionName") -> list[Reading]:
    """Counts of tenants' functions as readings; `label`: what the function's name is called."""
    return [(of_function(tenant, name, label), count) for (tenant, name), count in counts.items()]


def of_function(tenant: Tenant, name: str, label: str = "FunctionName") -> dict[str, str]:
    """The attributes of a reading that is about a function; `label`: what its name is called."""
    return {label: name, "account": tenant.account, "region": tenant.region}


def by_reason(counts: Mapping[str, int], label: str) -> Sequence[Reading]:
    """A mapping of counts as readings."""
    return [({label: str(reason)}, count) for reason, count in counts.items()]
