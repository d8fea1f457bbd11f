"""Trace context in its two spellings: X-Ray's header and W3C's `traceparent`.

Sources: https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader and
https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lambent.domain import lineage
from lambent.domain.lineage import Lineage

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which trace something belongs to."""

    trace_id: str  # 32 lower-case hex digits
    parent_id: str | None  # 16 lower-case hex digits; None: the trace begins here
    sampled: bool | None  # None: nobody has decided
    lineage: Lineage = field(default_factory=dict)  # how often functions have run in it

    @property
    def xray(self) -> str:
        """As X-Amzn-Trace-Id. An open decision is written as not sampled, as AWS's front end does."""
        parent = "" if self.parent_id is None else f"Parent={self.parent_id};"
        ran = f";{lineage.FIELD}={lineage.written(self.lineage)}" if self.lineage else ""
        return f"Root=1-{self.trace_id[:8]}-{self.trace_id[8:]};{parent}Sampled={1 if self.sampled else 0}{ran}"

    @property
    def traceparent(self) -> str:
        """As `traceparent`; needs a parent."""
        return f"00-{self.trace_id}-{self.parent_id}-0{1 if self.sampled else 0}"


def begin(epoch: float, random_hex: str) -> TraceContext:
    """A new trace. `random_hex`: 24 hex digits."""
    return TraceContext(f"{int(epoch):08x}{random_hex}", None, None)


def parse_xray(header: str) -> TraceContext | None:
    """X-Amzn-Trace-Id; its fields come in any order, unknown ones are passed over. None: it is not one."""
    fields = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    version, _, rest = fields.get("Root", "").partition("-")
    stamp, _, unique = rest.partition("-")
    trace_id = (stamp + unique).lower()
    if version != "1" or len(stamp) != 8 or len(trace_id) != 32 or not _HEX.issuperset(trace_id):
        return None
    parent = fields.get("Parent", "").lower()
    sampled = {"1": True, "0": False}.get(fields.get("Sampled", ""))
    ran = lineage.parse(fields[lineage.FIELD]) if lineage.FIELD in fields else lineage.NONE
    return TraceContext(trace_id, parent if _is_id(parent) else None, sampled, ran)


def lineage_of(header: str | None) -> Lineage:
    """How often functions have run in the trace that a header names; in none where it is none of X-Ray's."""
    context = None if header is None or lineage.FIELD not in header else parse_xray(header)
    return lineage.NONE if context is None else context.lineage


def parse_traceparent(header: str) -> TraceContext | None:
    """`traceparent`. None: it is not one."""
    parts = header.strip().split("-")
    if len(parts) < 4 or len(parts[0]) != 2 or parts[0] == "ff":
        return None
    trace_id, parent, flags = parts[1], parts[2], parts[3]
    if len(trace_id) != 32 or not _HEX.issuperset(trace_id) or trace_id == "0" * 32 or not _is_id(parent):
        return None
    if len(flags) != 2 or not _HEX.issuperset(flags):
        return None
    return TraceContext(trace_id, parent, bool(int(flags, 16) & 1))


def _is_id(text: str) -> bool:
    return len(text) == 16 and _HEX.issuperset(text) and text != "0" * 16
