"""QueueService: the queue of asynchronous events, to be looked into and steered."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.names import LATEST, parse
from lambent.infra.queue.port import Depth, Entry, EventQueue, Place, QueueInspector, QueueKey
from lambent.infra.queue.records import (
    DELIVERIES,
    NEW,
    EventState,
    decode_delivery,
    decode_event,
    decode_state,
    encode,
)
from lambent.v1 import queue_service_pb2 as pb
from services.frontend.operations.timestamps import timestamp
from services.frontend.transport.call import Call

_PLACES = {
    "waiting": Place.FRESH, "delayed": Place.DELAYED, "running": Place.LEASED, "given_up": Place.DEAD,
}  # fmt: skip
_STATES = {place: state for state, place in _PLACES.items()}
_EVENTS = 100
# How many dead events one look takes when some of them are chosen.
_SCAN = 1000

_Request = (
    pb.ListEventsRequest
    | pb.GetEventRequest
    | pb.PauseQueueRequest
    | pb.ResumeQueueRequest
    | pb.SetQueuePriorityRequest
    | pb.PurgeQueueRequest
    | pb.RedriveQueueRequest
)


class QueueOperations:
    """The operations of lambent.v1.QueueService."""

    def __init__(self, queue: EventQueue, inspector: QueueInspector) -> None:
        """`queue`: for its time."""
        self._queue = queue
        self._inspector = inspector

    async def list_queues(self, request: pb.ListQueuesRequest, call: Call) -> pb.ListQueuesResponse:
        """Every queue that is paused, has a priority, or has anything."""
        now = self._queue.now()
        depths = await self._inspector.depths(call.tenant)
        return pb.ListQueuesResponse(queues=[_queue(depth, now) for depth in depths])

    async def list_events(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        """Events in one place."""
        key, place = _key(request, call), _PLACES[request.state or "given_up"]
        entries = await self._inspector.entries(key, place, request.max_items or _EVENTS)
        return pb.ListEventsResponse(events=[_event(key, entry) for entry in entries])

    async def get_event(self, request: pb.GetEventRequest, call: Call) -> pb.GetEventResponse:
        """One event with everything."""
        key = _key(request, call)
        entry = await self._inspector.entry(key, request.request_id)
        if entry is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"There is no event {request.request_id} of {key.name}: it has ended well, or was forgotten.",
            )
        state, response = decode_state(entry.state)
        return pb.GetEventResponse(
            event=_event(key, entry),
            payload=_body(key, entry),
            response=response if state.version is not None else None,
        )

    async def pause_queue(self, request: pb.PauseQueueRequest, call: Call) -> pb.PauseQueueResponse:
        """Lease nothing more of it."""
        await self._inspector.pause(_key(request, call), self._queue.now())
        return pb.PauseQueueResponse()

    async def resume_queue(self, request: pb.ResumeQueueRequest, call: Call) -> pb.ResumeQueueResponse:
        """Lease again."""
        return pb.ResumeQueueResponse(resumed=await self._inspector.resume(_key(request, call), self._queue.now()))

    async def set_queue_priority(self, request: pb.SetQueuePriorityRequest, call: Call) -> pb.SetQueuePriorityResponse:
        """Have it read sooner or later than others."""
        await self._inspector.prioritize(_key(request, call), request.priority)
        return pb.SetQueuePriorityResponse()

    async def purge_queue(self, request: pb.PurgeQueueRequest, call: Call) -> pb.PurgeQueueResponse:
        """Forget for good."""
        key = _key(request, call)
        events = await self._inspector.purge(key, "dead" if request.state == "given_up" else "waiting")
        return pb.PurgeQueueResponse(events=events)

    async def redrive_queue(self, request: pb.RedriveQueueRequest, call: Call) -> pb.RedriveQueueResponse:
        """Queue again what is chosen, as new."""
        key, now = _key(request, call), self._queue.now()
        others = request.reason or request.detail or request.HasField("since") or request.HasField("until")
        if request.HasField("request_id") and not others:
            ids = [request.request_id]
        else:
            ids = await self._chosen(key, request)
        anew = encode(EventState(NEW.attempts, NEW.deferrals, "Redriven", since=now), b"")
        return pb.RedriveQueueResponse(events=await self._inspector.redrive(key, ids, anew, now))

    async def _chosen(self, key: QueueKey, request: pb.RedriveQueueRequest) -> list[str]:
        """Ids of the dead events that a request describes."""
        after = _seconds(request.since) if request.HasField("since") else None
        until = _seconds(request.until) if request.HasField("until") else None
        chosen: dict[str, None] = {}
        looked: set[str] = set()
        while True:
            entries = await self._inspector.entries(key, Place.DEAD, _SCAN + len(looked), after)
            fresh = [entry for entry in entries if entry.id not in looked]
            for entry in fresh:
                state, _ = decode_state(entry.state)
                if (
                    (not request.HasField("request_id") or entry.id == request.request_id)
                    and (until is None or (entry.at or 0.0) < until)
                    and request.reason in ("", state.reason)
                    and request.detail in state.detail
                ):
                    chosen[entry.id] = None
            if not fresh:
                return list(chosen)
            # Those of the last instant may go on beyond what was looked at.
            after = entries[-1].at
            looked = {entry.id for entry in entries if entry.at == after}


def _key(request: _Request, call: Call) -> QueueKey:
    """The queue that a request names. The function need not be there any more."""
    name = request.function_name
    if name.startswith(DELIVERIES):
        return QueueKey(call.tenant, name)
    ref = parse(name, None, call.tenant)
    if ref.qualifier not in (None, LATEST):
        raise invalid_parameter("A function has one queue for all its versions and aliases; leave the qualifier out.")
    return QueueKey(call.tenant, ref.name)


def _queue(depth: Depth, now: float) -> pb.EventQueue:
    message = pb.EventQueue(
        function_name=depth.name,
        waiting=depth.counts[Place.FRESH],
        delayed=depth.counts[Place.DELAYED],
        running=depth.counts[Place.LEASED],
        given_up=depth.counts[Place.DEAD],
        paused=depth.paused,
        priority=depth.priority,
    )
    if depth.first is not None:
        message.oldest_age_seconds = max(now - _accepted(depth.name, depth.first), 0.0)
    if depth.next_due is not None:
        message.next_attempt.CopyFrom(timestamp(depth.next_due))
    return message


def _event(key: QueueKey, entry: Entry) -> pb.QueuedEvent:
    state, _ = decode_state(entry.state)
    message = pb.QueuedEvent(
        request_id=entry.id,
        state=_STATES[entry.place],
        accepted=timestamp(_accepted(key.name, entry.value)),
        attempts=state.attempts,
        payload_bytes=len(_body(key, entry)),
    )
    if entry.at is not None:
        message.time.CopyFrom(timestamp(entry.at))
    if state.reason:
        message.reason = state.reason
    if state.detail:
        message.detail = state.detail
    if entry.token:
        message.holder = entry.token.partition(" ")[2]
    if not key.name.startswith(DELIVERIES):
        event, _ = decode_event(entry.value)
        if event.qualifier is not None:
            message.qualifier = event.qualifier
        if entry.place is Place.DELAYED and not state.reason and event.not_before is not None:
            message.reason = "NotBefore"
    return message


def _accepted(name: str, value: bytes) -> float:
    if name.startswith(DELIVERIES):
        return decode_delivery(value)[0].since
    return decode_event(value)[0].accepted


def _body(key: QueueKey, entry: Entry) -> bytes:
    if key.name.startswith(DELIVERIES):
        return decode_delivery(entry.value)[1]
    return decode_event(entry.value)[1]


def _seconds(stamp: Timestamp) -> float:
    return stamp.ToMilliseconds() / 1000
