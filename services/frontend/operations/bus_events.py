"""PutEvents and TestEventPattern: events that come to the bus, and the rules that they are for."""

from __future__ import annotations

import json
from typing import Any

from lambent.domain import rules
from lambent.domain.clock import Ids
from lambent.domain.errors import AwsError
from lambent.domain.event_patterns import event as read_event
from lambent.domain.json_text import is_json
from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.domain.rule_inputs import Event
from lambent.domain.rules import Rule
from lambent.infra.due.port import DueStore
from lambent.infra.rule_targets import RuleTargets
from lambent.v1 import rule_service_pb2 as pb
from services.frontend.transport.call import Call

# The members that the event of TestEventPattern must have.
_MEMBERS = ("id", "account", "source", "time", "region", "resources", "detail-type")
# What an entry must say, by its member.
_REQUIRED = {"source": "Source", "detail_type": "DetailType", "detail": "Detail"}
# What an entry's time counts as, beside its texts. Source: the guide's page on the size of entries.
_TIME_BYTES = 14
# So many levels less than what can be read may a detail have.
_ROOM = 50


class BusEvents:
    """Hands events to the targets of rules."""

    def __init__(self, *, store: DueStore[Rule], targets: RuleTargets, limits: Limits, ids: Ids) -> None:
        self._store = store
        self._targets = targets
        self._limits = limits
        self._ids = ids

    async def put_events(self, request: pb.PutEventsRequest, call: Call) -> pb.PutEventsResponse:
        """Every entry by itself: those that are wrong are told, the others are taken."""
        if request.endpoint_id:
            raise AwsError(
                "ValidationException", "Parameter EndpointId is not valid. Reason: there are no endpoints here."
            )
        if sum(_size(entry) for entry in request.entries) > self._limits.put_events_bytes:
            raise AwsError("ValidationException", "Total size of the entries in the request is over the limit.")
        found = await self._store.list(call.tenant)
        results, told = [], []
        for entry in request.entries:
            problem = _problem(entry, call.tenant)
            if problem is not None:
                results.append(pb.PutEventsResultEntry(error_code=problem[0], error_message=problem[1]))
                continue
            event = self._event(entry, call.tenant)
            told += rules.matching(found, event)
            results.append(pb.PutEventsResultEntry(event_id=event.id))
        await self._targets.tell(told)
        failed = sum(1 for result in results if result.error_code)
        return pb.PutEventsResponse(failed_entry_count=failed, entries=results)

    def _event(self, entry: pb.PutEventsRequestEntry, tenant: Tenant) -> Event:
        now = self._targets.now()
        return Event(
            id=self._ids.uuid(),
            source=entry.source,
            detail_type=entry.detail_type,
            account=tenant.account,
            region=tenant.region,
            time=entry.time.ToSeconds() if entry.HasField("time") else now,
            resources=tuple(entry.resources),
            detail=entry.detail,
            ingested=now,
            trace=entry.trace_header,
        )

    async def test_event_pattern(self, request: pb.TestEventPatternRequest, call: Call) -> pb.TestEventPatternResponse:
        """Whether it has it."""
        matches = rules.filter_of(request.event_pattern)
        document: Any = json.loads(request.event) if is_json(request.event.encode()) else None
        if not isinstance(document, dict):
            raise AwsError("ValidationException", "Parameter Event is not valid. Reason: it is no JSON object.")
        missing = [name for name in _MEMBERS if name not in document]
        if missing:
            text = f"Parameter Event is not valid. Reason: it has no {', '.join(missing)}."
            raise AwsError("ValidationException", text)
        return pb.TestEventPatternResponse(result=matches(read_event(request.event)))


def _problem(entry: pb.PutEventsRequestEntry, tenant: Tenant) -> tuple[str, str] | None:
    """Why an entry is not taken: EventBridge's code and a text."""
    for member, name in _REQUIRED.items():
        if not getattr(entry, member):
            return "InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument."
    if entry.source.startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    try:
        rules.check_bus(entry.event_bus_name, tenant)
    except AwsError as error:
        return "InvalidArgument", error.message
    # With room around it: the event that it stands in is one level deeper, and is read and written elsewhere.
    detail = "[" * _ROOM + entry.detail + "]" * _ROOM
    if not entry.detail.lstrip().startswith("{") or not is_json(detail.encode()):
        return "MalformedDetail", "Detail is malformed."
    return None


def _size(entry: pb.PutEventsRequestEntry) -> int:
    """Bytes that an entry counts as."""
    texts = (entry.source, entry.detail_type, entry.detail, *entry.resources)
    return sum(len(text.encode()) for text in texts) + (_TIME_BYTES if entry.HasField("time") else 0)
