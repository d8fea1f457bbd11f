"""What is counted and traced of invocations: a record for each function, a span for each sampled invocation.

Shared by frontends and pollers.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Protocol

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from lambent.domain import lineage, tracing
from lambent.domain.clock import Clock, Ids
from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant, function_arn
from lambent.infra.invoker.invoker import Outcome, Target
from lambent.infra.telemetry import Reading, Telemetry, by_function, of_function

# Durations that wait to be put into histograms; beyond it the newest are left out rather than memory.
PENDING_DURATIONS = 100_000
FLUSH_SECONDS = 1.0


# What makes a function run, as OpenTelemetry calls it (faas.trigger).
Trigger = Literal["http", "pubsub"]


class Traced(Protocol):
    """A request, as far as its trace goes."""

    @property
    def request_id(self) -> str: ...

    @property
    def trace_header(self) -> str | None:
        """As it came: X-Amzn-Trace-Id, else traceparent; None: the caller is not traced."""
        ...

    trace_out: str | None  # set here: X-Amzn-Trace-Id of the request's own span


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a function run where that was no request of its own: records of an event source."""

    attributes: Mapping[str, str | int]  # of the invocation's span
    headers: tuple[str, ...] = ()  # traces that the records belong to, as X-Amzn-Trace-Id has them


@dataclass(slots=True)
class FunctionCounts:
    """Plain integers of one function."""

    invocations: int = 0
    errors: int = 0
    throttles: int = 0
    cold_starts: int = 0
    timeouts: int = 0
    running: int = 0
    provisioned: int = 0  # invocations on provisioned concurrency
    spillover: int = 0  # invocations on demand since it was all in use
    loops: int = 0  # invocations that a loop had led to, and that were not run


class InvocationTelemetry:
    """Counts every invocation, traces the sampled ones."""

    def __init__(
        self, telemetry: Telemetry, clock: Clock, ids: Ids, rng: random.Random, sample: float, trigger: Trigger
    ) -> None:
        """`sample`: share of invocations traced when the caller has not decided."""
        self._trigger = trigger
        self.kind = SpanKind.SERVER if trigger == "http" else SpanKind.CONSUMER  # of an invocation's span
        self._telemetry = telemetry
        self._tracer = telemetry.tracer
        self._clock = clock
        self._ids = ids
        self._rng = rng
        self._sample = sample if telemetry.tracer is not None else 0.0
        self.functions: dict[tuple[Tenant, str], FunctionCounts] = {}
        self._durations: deque[tuple[Target, float, float | None]] | None = (
            deque(maxlen=PENDING_DURATIONS) if telemetry.measuring else None
        )
        self._histograms = [
            telemetry.histogram(name) for name in ("aws.lambda.duration", "faas.invoke_duration", "faas.init_duration")
        ]
        self._export()

    def invocation(self, call: Traced, target: Target, cause: Cause | None = None) -> Invocation:
        """Accompanies one invocation, as a context manager. `cause`: None where a request is its cause."""
        return Invocation(self, self._counts(target), call, target, cause)

    def _counts(self, target: Target) -> FunctionCounts:
        key = (target.tenant, target.function_name)
        counts = self.functions.get(key)
        if counts is None:
            counts = self.functions[key] = FunctionCounts()
        return counts

    def accepted(self, call: Traced, target: Target) -> str:
        """A request was taken whose function runs later; answers the trace header that its attempts go by."""
        if call.trace_header is None and not self.sampling:
            call.trace_out = self.untraced_header()
            return call.trace_out
        context = self.context(call)
        span = self.begin_span(context, call, target, SpanKind.PRODUCER)
        if span is not None:
            context = _within(context, span)
            span.end()
        call.trace_out = context.xray
        return call.trace_out

    def context(self, call: Traced) -> tracing.TraceContext:
        """The trace that a call belongs to; a new one if it names none."""
        header = call.trace_header
        context = None if header is None else _parsed(header)
        if context is None:
            context = tracing.begin(self._clock.epoch(), self._ids.token(12))
        if context.sampled is None:
            sampled = self._sample > 0 and self._rng.random() < self._sample
            context = replace(context, sampled=sampled)
        return context

    @property
    def sampling(self) -> bool:
        """Whether invocations are traced whose caller has not decided."""
        return self._sample > 0

    def untraced_header(self) -> str:
        """X-Amzn-Trace-Id of a new trace that is not sampled; the same as `context` would give, on the hot path."""
        return f"Root=1-{int(self._clock.epoch()):08x}-{self._ids.token(12)};Sampled=0"

    def stopped(self, target: Target) -> None:
        """A function was not run, since it is in a loop."""
        self._counts(target).loops += 1

    def begin_span(
        self, context: tracing.TraceContext, call: Traced, target: Target, kind: SpanKind, cause: Cause | None = None
    ) -> Span | None:
        """A span, if this trace is sampled and somebody collects."""
        if self._tracer is None or not context.sampled:
            return None
        return self._tracer.start_span(
            target.function_name,
            context=self._telemetry.parent_of(context),
            kind=kind,
            links=() if cause is None else [link for header in cause.headers for link in _links(header)],
            attributes={
                **({} if cause is None else cause.attributes),
                "faas.trigger": self._trigger,
                "faas.invocation_id": call.request_id,
                "faas.name": target.function_name,
                "faas.version": target.version,
                "cloud.account.id": target.tenant.account,
                "cloud.region": target.tenant.region,
                "cloud.resource_id": function_arn(target.tenant, target.function_name, target.version),
            },
        )

    def note(self, target: Target, outcome: Outcome) -> None:
        """Keep an outcome's durations for the histograms."""
        if self._durations is not None:
            self._durations.append((target, outcome.result.duration_ms, outcome.result.init_ms))

    async def keep_flushing(self) -> None:
        """`flush`, now and then, for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Put what was kept into the histograms, off the hot path."""
        durations, lambda_duration = self._durations, self._histograms[0]
        invoke_seconds, init_seconds = self._histograms[1:]
        if durations is None or lambda_duration is None or invoke_seconds is None or init_seconds is None:
            return
        while durations:
            target, duration, init = durations.popleft()
            attributes = of_function(target.tenant, target.function_name, "faas.name")
            lambda_duration.record(duration, of_function(target.tenant, target.function_name))
            invoke_seconds.record(duration / 1000, attributes)
            if init is not None:
                init_seconds.record(init / 1000, attributes)

    def _export(self) -> None:
        for metric, field in (
            ("aws.lambda.invocations", "invocations"),
            ("aws.lambda.errors", "errors"),
            ("aws.lambda.throttles", "throttles"),
            ("aws.lambda.concurrentexecutions", "running"),
            ("aws.lambda.provisionedconcurrencyinvocations", "provisioned"),
            ("aws.lambda.provisionedconcurrencyspilloverinvocations", "spillover"),
            ("aws.lambda.recursiveinvocationsdropped", "loops"),
        ):
            self._telemetry.observe(metric, lambda field=field: self._readings(field, "FunctionName"))  # type: ignore[misc]
        for metric, field in (
            ("faas.errors", "errors"), ("faas.timeouts", "timeouts"), ("faas.coldstarts", "cold_starts"),
        ):  # fmt: skip
            self._telemetry.observe(metric, lambda field=field: self._readings(field, "faas.name"))  # type: ignore[misc]
        self._telemetry.observe("faas.invocations", self._successes)

    def _readings(self, field: str, label: str) -> list[Reading]:
        return by_function({key: getattr(counts, field) for key, counts in self.functions.items()}, label)

    def _successes(self) -> list[Reading]:
        return by_function({key: c.invocations - c.errors for key, c in self.functions.items()}, "faas.name")


def _parsed(header: str) -> tracing.TraceContext | None:
    """The trace that a header names, in either of its forms."""
    return tracing.parse_xray(header) if "Root=" in header else tracing.parse_traceparent(header)


def _links(header: str) -> list[Link]:
    """The link to a span of another trace; none where the header names no span."""
    context = _parsed(header)
    if context is None or context.parent_id is None:
        return []
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return [Link(SpanContext(int(context.trace_id, 16), int(context.parent_id, 16), is_remote=True, trace_flags=flags))]


def _within(context: tracing.TraceContext, span: Span) -> tracing.TraceContext:
    """The context that a span hands on."""
    return replace(context, parent_id=format(span.get_span_context().span_id, "016x"), sampled=True)


class Invocation:
    """One invocation, from before its lease to its answer."""

    __slots__ = ("_call", "_cause", "_counts", "_span", "_target", "_telemetry", "trace_header")

    def __init__(
        self,
        telemetry: InvocationTelemetry,
        counts: FunctionCounts,
        call: Traced,
        target: Target,
        cause: Cause | None,
    ) -> None:
        self._cause = cause
        self._telemetry = telemetry
        self._counts = counts
        self._call = call
        self._target = target
        self._span: Span | None = None
        self.trace_header = ""

    def __enter__(self) -> Invocation:
        self._counts.running += 1
        call, ran, mark = self._call, lineage.NONE, self._target.mark
        if self._cause is not None and self._cause.headers:
            ran = lineage.merged(map(tracing.lineage_of, self._cause.headers))
        if call.trace_header is None and not ran and not self._telemetry.sampling:
            # Nobody traces this one: a header for the function, and nothing else is made.
            self.trace_header = call.trace_out = f"{self._telemetry.untraced_header()};{lineage.FIELD}={mark}:1"
            return self
        context = self._telemetry.context(call)
        context = replace(context, lineage=lineage.after(ran or context.lineage, mark))
        self._span = self._telemetry.begin_span(
            context, call, self._target, self._telemetry.kind, self._cause
        )  # fmt: skip
        if self._span is not None:
            context = _within(context, self._span)
        self.trace_header = context.xray
        call.trace_out = self.trace_header
        return self

    def ended(self, outcome: Outcome) -> None:
        """The handler ran."""
        result, counts = outcome.result, self._counts
        counts.invocations += 1
        if outcome.provisioned:
            counts.provisioned += 1
        elif result.init_ms is not None:
            counts.cold_starts += 1
        if outcome.spillover:
            counts.spillover += 1
        if result.error is not None:
            counts.errors += 1
            if result.error_type == "Sandbox.Timedout":
                counts.timeouts += 1
        self._telemetry.note(self._target, outcome)
        if self._span is not None:
            self._span.set_attribute("faas.coldstart", result.init_ms is not None)
            self._span.set_attribute("lambent.lease", outcome.reason)
            self._span.set_attribute("lambent.lease_wait_ms", outcome.waited * 1000)
            if result.error is not None:
                self._span.set_status(StatusCode.ERROR)
                self._span.set_attribute("error.type", result.error_type or result.error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._counts.running -= 1
        if isinstance(error, AwsError) and error.name == "TooManyRequestsException":
            self._counts.throttles += 1
        if self._span is not None:
            if error is not None:
                self._span.set_status(StatusCode.ERROR, str(error))
            self._span.end()
