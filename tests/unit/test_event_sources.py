"""Event source mappings: what may be set for one, and which states follow."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lambent.domain import event_sources
from lambent.domain.errors import AwsError
from lambent.domain.event_sources import EventSourceMapping, MappingState, Wanted
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, Tenant

TENANT = Tenant("000000000000", "eu-west-1")
QUEUE = "arn:aws:sqs:eu-west-1:000000000000:q"
KINESIS = "arn:aws:kinesis:eu-west-1:000000000000:stream/s"
TABLE = "arn:aws:dynamodb:eu-west-1:000000000000:table/orders"
DYNAMODB = f"{TABLE}/stream/2015-06-27T00:48:05.899"
STREAMS = (KINESIS, DYNAMODB)
UUID = "12345678-1234-1234-1234-123456789abc"
REF = FunctionRef(TENANT, "f", "live")
STATES = tuple(MappingState)
CREATING, ENABLING, ENABLED, DISABLING, DISABLED, UPDATING, DELETING = STATES


def made(arn: str = QUEUE, tags: dict[str, str] | None = None, **wanted: Any) -> EventSourceMapping:
    source = event_sources.source_of(arn)
    if arn in STREAMS:
        wanted = {"position": "LATEST", **wanted}
    return event_sources.create(UUID, source, REF, Wanted(**wanted), tags or {}, 1.5, Limits())


def settled(mapping: EventSourceMapping) -> EventSourceMapping:
    after = mapping.settled()
    assert after is not None
    return after


def updated(before: EventSourceMapping, **wanted: Any) -> EventSourceMapping:
    return event_sources.update(before, Wanted(**wanted), 9.5, Limits())


def refused(call: Any, **wanted: Any) -> tuple[str, str]:
    with pytest.raises(AwsError) as caught:
        call(**wanted)
    return caught.value.name, caught.value.message


def test_what_is_not_said_has_awss_defaults() -> None:
    mapping = made()
    assert mapping == EventSourceMapping(TENANT, UUID, QUEUE, "f", "live", CREATING, True, 1.5)
    assert (mapping.batch_size, mapping.window_seconds, mapping.filters) == (10, 0, ())
    assert (mapping.reports_failures, mapping.maximum_concurrency, mapping.counted) == (False, None, False)
    assert (mapping.tags, mapping.revision, mapping.result) == (None, 0, "")
    assert mapping.arn == f"arn:aws:lambda:eu-west-1:000000000000:event-source-mapping:{UUID}"
    assert mapping.ref == REF
    assert made(tags={"a": "b"}).tags == {"a": "b"}


def test_pairs_tell_sources_and_qualifiers_apart() -> None:
    mapping = made()
    others = [made(f"{QUEUE}2"), *(dataclasses.replace(mapping, qualifier=each) for each in (None, "1", "$LATEST"))]
    others.append(dataclasses.replace(mapping, function="g"))
    assert len({each.pair for each in (mapping, *others)}) == 6
    assert dataclasses.replace(mapping, batch_size=1, uuid="other").pair == mapping.pair


@pytest.mark.parametrize(
    "arn",
    ["", "q", "arn:aws:sqs:eu-west-1:000000000000", "arn:aws:sqs:eu-west-1:000000000000:", "arn:aws:sqs:::q",
     "arn:aws:sqs:eu-west-1::q", "arn:aws:s3:::bucket", KINESIS.replace("stream/", ""), f"{KINESIS}/t", f"{KINESIS} t",
     f"{KINESIS}/consumer/", KINESIS.replace("eu-west-1", ""), KINESIS.removesuffix("s"), KINESIS.replace("/s", "/" + 129 * "s"),
     TABLE, f"{TABLE}/stream/", f"{TABLE}/index/i", f"{DYNAMODB}/shard", DYNAMODB.replace("orders", "o"),
     DYNAMODB.replace("000000000000", ""), DYNAMODB.replace("dynamodb", "kinesis"), KINESIS.replace("kinesis", "dynamodb"),
     f"{KINESIS.replace('kinesis', 'dynamodb')}/consumer/c:1"],
)  # fmt: skip
def test_what_is_neither_queue_nor_stream_is_no_source(arn: str) -> None:
    told = refused(lambda: event_sources.source_of(arn))
    assert told == ("InvalidParameterValueException", "Unrecognized event source.")


@pytest.mark.parametrize("arn", [QUEUE, f"{QUEUE}.fifo", *STREAMS])
def test_queues_and_streams_are_sources(arn: str) -> None:
    source = event_sources.source_of(arn)
    assert (source.arn, event_sources.is_stream(source)) == (arn, arn in STREAMS)


def test_instead_of_a_consumer_its_stream_is_to_be_given() -> None:
    name, told = refused(lambda: event_sources.source_of(f"{KINESIS}/consumer/c:1700000000"))
    assert name == "InvalidParameterValueException"
    assert told == (
        "Unrecognized event source. Enhanced fan-out is not served: give the stream's own ARN, "
        f"{KINESIS}, instead of its consumer's."
    )


@pytest.mark.parametrize(
    ("arn", "wanted", "told"),
    [
        (QUEUE, {"batch_size": 10}, None),
        (QUEUE, {"batch_size": 11}, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"),
        (QUEUE, {"batch_size": 11, "window_seconds": 1}, None),
        (QUEUE, {"batch_size": 10_000, "window_seconds": 300}, None),
        (f"{QUEUE}.fifo", {"batch_size": 10}, None),
        (f"{QUEUE}.fifo", {"batch_size": 11}, "A batch of a FIFO queue has at most 10 messages."),
        (f"{QUEUE}.fifo", {"window_seconds": 1}, "Maximum batch window in seconds is not supported for FIFO queues."),
        (QUEUE, {"filters": ('{"body": {"a": [1]}}',) * 5}, None),
        (QUEUE, {"filters": ('{"body": {"a": [1]}}',) * 6}, "A mapping has at most 5 filters."),
        (QUEUE, {"filters": ("{",)}, "Invalid filter pattern definition."),
        (QUEUE, {"filters": ("",)}, "Invalid filter pattern definition."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_whenever_it_is_said(
    arn: str, wanted: dict[str, Any], told: str | None
) -> None:
    before = settled(made(arn))
    if told is None:
        after = updated(before, **wanted)
        for name, value in wanted.items():
            assert getattr(made(arn, **wanted), name) == getattr(after, name) == value
        return
    assert refused(lambda: made(arn, **wanted)) == ("InvalidParameterValueException", told)
    assert refused(lambda: updated(before, **wanted)) == ("InvalidParameterValueException", told)


def test_an_update_is_looked_at_with_what_was_there() -> None:
    before = settled(made(batch_size=100, window_seconds=5))
    assert updated(before, batch_size=200).window_seconds == 5
    assert refused(lambda: updated(before, window_seconds=0))[0] == "InvalidParameterValueException"
    assert updated(before, window_seconds=0, batch_size=10).batch_size == 10


@pytest.mark.parametrize(
    ("enabled", "wanted", "passing", "then"),
    [
        (True, None, UPDATING, ENABLED),
        (True, True, UPDATING, ENABLED),
        (True, False, DISABLING, DISABLED),
        (False, None, UPDATING, DISABLED),
        (False, False, UPDATING, DISABLED),
        (False, True, ENABLING, ENABLED),
    ],
)
def test_states_pass_and_are_settled(
    enabled: bool, wanted: bool | None, passing: MappingState, then: MappingState
) -> None:
    new = made(enabled=enabled)
    assert new.state is CREATING
    before = settled(new)
    assert before.state is (ENABLED if enabled else DISABLED)
    after = updated(before, enabled=wanted)
    assert (after.state, after.modified, after.revision) == (passing, 9.5, before.revision + 1)
    end = settled(after)
    assert (end.state, end.modified, end.revision) == (then, 9.5, before.revision + 2)
    gone = event_sources.delete(end, 11.0)
    assert (gone.state, gone.enabled, gone.modified, gone.revision) == (DELETING, False, 11.0, end.revision + 1)
    assert gone.settled() is None


@pytest.mark.parametrize("state", STATES)
def test_only_what_is_settled_is_changed_or_deleted(state: MappingState) -> None:
    mapping = dataclasses.replace(made(), state=state)
    if state in (ENABLED, DISABLED):
        assert updated(mapping, batch_size=1).batch_size == 1
        assert event_sources.delete(mapping, 1.0).state is DELETING
        return
    told = "Cannot {} the event source mapping because it is in use."
    assert refused(lambda: updated(mapping, batch_size=1)) == ("ResourceInUseException", told.format("update"))
    assert refused(lambda: event_sources.delete(mapping, 1.0)) == ("ResourceInUseException", told.format("delete"))


def test_an_update_leaves_what_it_does_not_name_and_takes_away_what_it_empties() -> None:
    before = settled(
        made(
            filters=('{"body": [1]}',), reports_failures=True, maximum_concurrency=5, scaling=True, counted=True,
            tags={"a": "b"}, enabled=False,
        )
    )  # fmt: skip
    same = updated(before)
    assert dataclasses.replace(same, state=before.state, modified=before.modified, revision=before.revision) == before
    bare = updated(before, filters=(), reports_failures=False, scaling=True, counted=False)
    assert (bare.filters, bare.reports_failures, bare.maximum_concurrency, bare.counted) == ((), False, None, False)
    assert bare.tags == {"a": "b"}
    assert updated(before, maximum_concurrency=7, scaling=True).maximum_concurrency == 7
    moved = updated(before, ref=FunctionRef(TENANT, "g", None))
    assert moved.ref.arn == "arn:aws:lambda:eu-west-1:000000000000:function:g"
    assert moved.pair != before.pair


def test_messages_stay_hidden_for_as_long_as_the_function_may_take() -> None:
    event_sources.check_visibility(30, 30)
    assert refused(lambda: event_sources.check_visibility(30, 31)) == (
        "InvalidParameterValueException",
        "Queue visibility timeout: 30 seconds is less than Function timeout: 31 seconds",
    )
