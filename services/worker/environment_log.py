"""What one environment writes: output cut into lines, the platform's own lines, the tail, the bound on a flood.

The lines of an invocation leave as one chunk when it ends; one that runs for long or prints much sends chunks
meanwhile, so that somebody who follows the log sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambent.domain.names import Tenant
from lambent.domain.tracing import parse_xray
from lambent.infra.log_store import LogChunk, LogWriter
from services.worker.core.log_levels import application_kept, system_kept
from services.worker.guest import wire

MAX_LINE = 256 * 1024  # AWS's largest log event; what is longer goes on in the next
_CHUNK_BYTES = 128 * 1024
_BREAK = wire.BREAK.encode()
_SAMPLED = "Sampled=1"
_CHUNK_SECONDS = 1.0


# Told of every event as extensions know it: its kind, what it says, epoch seconds.
Tap = Callable[[str, object, float], None]


def iso(epoch: float) -> str:
    """2024-01-02T03:04:05.678Z."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class EnvironmentLog:
    """The log stream of one environment."""

    def __init__(
        self,
        store: LogWriter,
        tenant: Tenant,
        group: str,
        function_name: str,
        version: str,
        stream: str,
        *,
        json_form: bool,
        application_level: str,
        system_level: str,
        initialization: str,
        memory_mb: int,
        tail_bytes: int,
        flood_bytes: int,
        tenant_id: str = "",
    ) -> None:
        """`application_level`, `system_level`: the least that is written of a log in JSON form (core/log_levels.py);
        `initialization`: how the environment starts, by AWS's name; `tenant_id`: the one that it is for, if any."""
        self._tenant_id = tenant_id
        self._initialization = initialization
        self._application_level = application_level
        self._system_level = system_level
        self._store = store
        self._tenant = tenant
        self._group = group
        self._function = function_name
        self._version = version
        self._stream = stream
        self._json = json_form
        self._memory_mb = memory_mb
        self._tail_bytes = tail_bytes
        self._flood_bytes = flood_bytes
        self._lines: list[str] = []
        self._partial = b""
        self._extension_partial = b""
        self.tap: Tap | None = None  # None: nobody listens
        self._request_id: str | None = None
        self._taken = 0  # bytes of output since the invocation, or the init phase, began
        self._pending = 0  # bytes in `_lines`
        self._dropped = 0
        self._since = 0.0  # epoch seconds at which the first of `_lines` came
        self._tail: list[str] = []  # lines that have left as chunks already, as many as the tail may need

    @property
    def _recorded(self) -> bool:
        """Whether anybody reads the platform's events as records."""
        return self._json or self.tap is not None

    # The platform's lines

    def init_start(self, runtime: str | None, arn: str | None, phase: str, now: float) -> None:
        """The init phase begins. `runtime`, `arn`: of its runtime's version; None: nobody knows."""
        if self._recorded:
            record = {
                "initializationType": self._initialization,
                "phase": phase,
                "runtimeVersion": runtime,
                "runtimeVersionArn": arn,
                "functionName": self._function,
                "functionVersion": self._version,
            }
            known = {name: value for name, value in record.items() if value is not None}
            self._platform("initStart", known, now)
        if not self._json and runtime is not None:
            self._line(f"INIT_START Runtime Version: {runtime}\tRuntime Version ARN: {arn}", now)

    def restore_start(self, runtime: str, arn: str, now: float) -> None:
        """The environment begins to be restored from a snapshot."""
        if self._recorded:
            record = {
                "runtimeVersion": runtime,
                "runtimeVersionArn": arn,
                "functionName": self._function,
                "functionVersion": self._version,
            }
            self._platform("restoreStart", record, now)
        if not self._json:
            self._line(f"RESTORE_START Runtime Version: {runtime}\tRuntime Version ARN: {arn}", now)

    def restore_report(self, duration_ms: float, status: str | None, error_type: str, now: float) -> None:
        """The restore has ended. `status`: timeout or error; None: well."""
        if self._recorded:
            record: dict[str, Any] = {"status": status or "success", "metrics": {"durationMs": round(duration_ms, 3)}}
            if status is not None:
                record["errorType"] = error_type
            self._platform("restoreReport", record, now)
        if not self._json:
            self._line(f"RESTORE_REPORT Restore Duration: {duration_ms:.2f} ms{_how(status, error_type)}", now)
        self.flush(now)

    def fallback(self, reason: str, details: str, now: float) -> None:
        """An environment of a version with SnapStart has an init phase of its own."""
        if self._recorded:
            self._platform("snapStartFallback", {"reason": reason, "details": details}, now)
        if not self._json:
            found = f" ({details})" if details else ""
            self._line(f"Lambent: SnapStart is not in force: {reason}{found}", now)

    def init_report(self, duration_ms: float, status: str | None, error_type: str, now: float) -> None:
        """The init phase did not end well, or was that of a snapshot. `status`: timeout or error; None: well."""
        if self._recorded:
            record: dict[str, Any] = {
                "initializationType": self._initialization,
                "phase": "init",
                "status": status or "success",
                "metrics": {"durationMs": round(duration_ms, 3)},
            }
            if status is not None:
                record["errorType"] = error_type
            self._platform("initReport", record, now)
        if not self._json:
            how = _how(status, error_type)
            self._line(f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: init{how}", now)
        self.flush(now)

    def start(self, request_id: str, now: float) -> None:
        """An invocation begins; what came before it was not its own."""
        if self._partial or self._lines:
            self.flush(now)
        self._request_id = request_id
        self._taken = self._dropped = 0
        self._tail.clear()
        self._since = now
        if self._recorded:
            self._platform("start", {"requestId": request_id, "version": self._version}, now)
        if not self._json:
            self._lines.append(f"START RequestId: {request_id} Version: {self._version}")

    def note(self, text: str, now: float) -> None:
        """A line of the platform's about what happened to the invocation."""
        self._cut(now)
        if not self._json:
            self._line(text, now)

    def report(
        self,
        duration_ms: float,
        billed_ms: int,
        used_mb: int,
        init_ms: float | None,
        restore_ms: float | None,
        status: str | None,
        error_type: str | None,
        now: float,
        *,
        crashed: bool,
        tail: bool,
        trace: str = "",
        produced: int = 0,
    ) -> bytes | None:
        """The invocation has ended: END and REPORT; answers the tail where it is wanted. `trace`: X-Amzn-Trace-Id that
        the function had; `produced`: bytes of its answer, unless that was a stream."""
        if self._partial:
            self._cut(now)
        if self._dropped:
            self._line(f"Lambent: {self._dropped} bytes of output were dropped, as one invocation wrote too much", now)
        request_id = self._request_id
        traced = parse_xray(trace) if _SAMPLED in trace else None
        if traced is not None and traced.parent_id is None:
            traced = None  # a trace that nobody here has a part in
        if self._recorded:
            metrics: dict[str, Any] = {
                "durationMs": round(duration_ms, 3),
                "billedDurationMs": billed_ms,
                "memorySizeMB": self._memory_mb,
                "maxMemoryUsedMB": used_mb,
            }
            if init_ms is not None:
                metrics["initDurationMs"] = round(init_ms, 3)
            if restore_ms is not None:
                metrics["restoreDurationMs"] = round(restore_ms, 3)
                metrics["billedRestoreDurationMs"] = billed(restore_ms)
            record: dict[str, Any] = {"requestId": request_id, "metrics": metrics, "status": status or "success"}
            if error_type is not None:
                record["errorType"] = error_type
            self._runtime_done(record, metrics["durationMs"], produced, now)
            if traced is not None:
                record["tracing"] = {"type": "X-Amzn-Trace-Id", "value": trace, "spanId": traced.parent_id}
            self._platform("report", record, now)
        if not self._json:
            extra = "" if init_ms is None else f"Init Duration: {init_ms:.2f} ms\t"
            if restore_ms is not None:
                restored = billed(restore_ms)
                extra += f"Restore Duration: {restore_ms:.2f} ms\tBilled Restore Duration: {restored} ms\t"
            if crashed:
                extra += "Status: timeout" if status == "timeout" else f"Status: {status}\tError Type: {error_type}"
            self._lines.append(f"END RequestId: {request_id}")
            self._lines.append(
                f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed_ms} ms\t"
                f"Memory Size: {self._memory_mb} MB\tMax Memory Used: {used_mb} MB\t{extra}"
            )
            if traced is not None:
                root = f"1-{traced.trace_id[:8]}-{traced.trace_id[8:]}"
                self._lines[-1] += f"\nXRAY TraceId: {root}\tSegmentId: {traced.parent_id}\tSampled: true\t"
        text = None
        if tail:
            text = ("\n".join([*self._tail, *self._lines]) + "\n").encode("utf-8", "replace")[-self._tail_bytes :]
        self._send(now)
        self._request_id = None
        self._taken = self._dropped = 0
        return text

    # Output of the function

    def write(self, data: bytes, now: float) -> None:
        """What the function printed."""
        room = self._flood_bytes - self._taken
        if len(data) > room:
            self._dropped += len(data) - max(0, room)
            data = data[: max(0, room)]
            if not data:
                return
        self._taken += len(data)
        if not self._lines:
            self._since = now
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            self._add(line.replace(_BREAK, b"\n") if _BREAK in line else line, now)
        if len(self._partial) > MAX_LINE:
            self._cut(now)
        if self._pending > _CHUNK_BYTES:
            self._keep_tail()
            self._send(now)
        else:
            self.show(now)

    def show(self, now: float) -> None:
        """Let who follows the log see what has been there for a while. To be called now and then."""
        if self._lines and now - self._since > _CHUNK_SECONDS:
            self._keep_tail()
            self._send(now)

    def record(self, text: bytes, now: float) -> None:
        """A record that the runtime framed itself: one event, whatever lines it has."""
        self._cut(now)
        room = self._flood_bytes - self._taken
        if len(text) > room:
            self._dropped += len(text)
            return
        self._taken += len(text)
        if not self._lines:
            self._since = now
        self._add(text, now)
        if self._pending > _CHUNK_BYTES:
            self._keep_tail()
            self._send(now)

    def extension_printed(self, data: bytes, now: float) -> None:
        """What an extension printed, in lines of its own."""
        room = max(0, self._flood_bytes - self._taken)
        self._dropped += max(0, len(data) - room)
        self._taken += min(len(data), room)
        lines = (self._extension_partial + data[:room]).split(b"\n")
        self._extension_partial = lines.pop()[-MAX_LINE:]
        if lines and not self._lines:
            self._since = now
        for line in lines:
            self._add(line, now, "extension")

    def flush(self, now: float) -> None:
        """Let go of what is there."""
        if self._partial:
            self._cut(now)
        if self._lines:
            self._send(now)
        if self._request_id is None:
            self._taken = self._dropped = 0

    def _add(self, line: bytes, now: float, kind: str = "function") -> None:
        if self.tap is not None:
            self.tap(kind, line.decode("utf-8", "replace"), now)
        if self._json and not application_kept(line, self._application_level):
            return
        self._pending += len(line)
        for start in range(0, max(1, len(line)), MAX_LINE):
            self._lines.append(line[start : start + MAX_LINE].decode("utf-8", "replace"))

    def _cut(self, now: float) -> None:
        if self._partial:
            partial, self._partial = self._partial, b""
            self._add(partial, now)

    def _line(self, text: str, now: float) -> None:
        if not self._lines:
            self._since = now
        self._lines.append(text)

    def _runtime_done(self, reported: dict[str, Any], duration_ms: float, produced: int, now: float) -> None:
        """Extensions are told of it by what the runtime talks to."""
        metrics = {"durationMs": duration_ms, "producedBytes": produced}
        self._written("runtimeDone", self._of_tenant({**reported, "metrics": metrics}), now)

    def _of_tenant(self, record: dict[str, Any]) -> dict[str, Any]:
        return {**record, "tenantId": self._tenant_id} if self._tenant_id else record

    def _platform(self, kind: str, record: dict[str, Any], now: float) -> None:
        record = self._of_tenant(record)
        if self.tap is not None:
            self.tap(f"platform.{kind}", record, now)
        self._written(kind, record, now)

    def _written(self, kind: str, record: dict[str, Any], now: float) -> None:
        if self._json and system_kept(kind, record.get("status"), self._system_level):
            line = {"time": iso(now), "type": f"platform.{kind}", "record": record}
            self._line(msgspec.json.encode(line).decode(), now)

    def _keep_tail(self) -> None:
        kept, size = [], 0
        for line in reversed([*self._tail, *self._lines]):
            kept.append(line)
            size += len(line)
            if size > self._tail_bytes:
                break
        self._tail = kept[::-1]

    def _send(self, now: float) -> None:
        lines, self._lines = self._lines, []
        self._pending = 0
        self._store.append(
            self._tenant,
            self._group,
            LogChunk(int(now * 1000), self._stream, self._request_id, lines, self._function),
        )


def _how(status: str | None, error_type: str) -> str:
    kind = "" if status == "timeout" else f"\tError Type: {error_type}"
    return "" if status is None else f"\tStatus: {status}{kind}"


def billed(duration_ms: float) -> int:
    """Rounded up to the next millisecond."""
    return max(1, math.ceil(duration_ms))
