"""Event source mappings of streams: what may be set for one beyond what queues have."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lambent.domain import event_sources
from lambent.domain.event_sources import EventSourceMapping, MappingState, Wanted
from lambent.domain.limits import Limits
from tests.unit.test_event_sources import (
    DYNAMODB,
    KINESIS,
    QUEUE,
    REF,
    STREAMS,
    TENANT,
    UUID,
    made,
    refused,
    settled,
    updated,
)

INVALID = "InvalidParameterValueException"
NOT_OF_SOURCE = "Unsupported {} parameter for given event source mapping type."
DEAD = "arn:aws:sqs:eu-west-1:000000000000:dead"
OF_STREAMS = (
    "BisectBatchOnFunctionError", "DestinationConfig", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts",
    "ParallelizationFactor", "StartingPosition", "StartingPositionTimestamp", "TumblingWindowInSeconds",
)  # fmt: skip
OF_BROKERS = ("Queues", "SourceAccessConfigurations", "Topics")


@pytest.mark.parametrize("arn", STREAMS)
def test_what_is_not_said_has_awss_defaults(arn: str) -> None:
    mapping = made(arn)
    assert mapping == EventSourceMapping(
        TENANT, UUID, arn, "f", "live", MappingState.CREATING, True, 1.5, batch_size=100, position="LATEST"
    )
    assert (mapping.parallel, mapping.age_seconds, mapping.retries, mapping.bisects) == (1, None, None, False)
    assert (mapping.position_time, mapping.on_failure) == (None, None)


@pytest.mark.parametrize(
    ("arn", "position", "time", "told"),
    [
        (KINESIS, "TRIM_HORIZON", None, None),
        (KINESIS, "LATEST", None, None),
        (KINESIS, "AT_TIMESTAMP", 1.5, None),
        (KINESIS, "AT_TIMESTAMP", 0.0, None),
        (KINESIS, "AT_TIMESTAMP", 1.501, "StartingPositionTimestamp must not be in the future."),
        (KINESIS, "AT_TIMESTAMP", -0.5, "StartingPositionTimestamp must not be before 1970."),
        (KINESIS, "AT_TIMESTAMP", None, "StartingPosition AT_TIMESTAMP needs a StartingPositionTimestamp."),
        (KINESIS, "LATEST", 1.0, "StartingPositionTimestamp can be given only with StartingPosition AT_TIMESTAMP."),
        (KINESIS, "TRIM_HORIZON", 0.0, "StartingPositionTimestamp can be given only with StartingPosition AT_TIMESTAMP."),
        (DYNAMODB, "TRIM_HORIZON", None, None),
        (DYNAMODB, "LATEST", None, None),
        (DYNAMODB, "LATEST", 1.0, "StartingPositionTimestamp can be given only with StartingPosition AT_TIMESTAMP."),
        (DYNAMODB, "AT_TIMESTAMP", 1.0, f"Unsupported starting position for arn type: {DYNAMODB}"),
        (DYNAMODB, "AT_TIMESTAMP", None, f"Unsupported starting position for arn type: {DYNAMODB}"),
        *(
            (arn, position, None, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.")
            for arn in STREAMS
            for position in (None, "")
        ),
    ],
)  # fmt: skip
def test_a_stream_is_begun_somewhere(arn: str, position: str | None, time: float | None, told: str | None) -> None:
    if told is None:
        mapping = made(arn, position=position, position_time=time)
        assert (mapping.position, mapping.position_time) == (position, time)
    else:
        assert refused(lambda: made(arn, position=position, position_time=time)) == (INVALID, told)


@pytest.mark.parametrize("arn", STREAMS)
@pytest.mark.parametrize(
    ("name", "said", "kept", "told"),
    [
        ("batch_size", 1, 1, None),
        ("batch_size", 11, 11, None),
        ("batch_size", 10_000, 10_000, None),
        ("window_seconds", 300, 300, None),
        ("parallel", 10, 10, None),
        ("age_seconds", -1, None, None),
        ("age_seconds", 60, 60, None),
        ("age_seconds", 604_800, 604_800, None),
        ("age_seconds", 0, None, "MaximumRecordAgeInSeconds must be -1, or 60 to 604800."),
        ("age_seconds", 59, None, "MaximumRecordAgeInSeconds must be -1, or 60 to 604800."),
        ("age_seconds", -2, None, "MaximumRecordAgeInSeconds must be -1, or 60 to 604800."),
        ("age_seconds", 604_801, None, "MaximumRecordAgeInSeconds must be -1, or 60 to 604800."),
        ("retries", -1, None, None),
        ("retries", 0, 0, None),
        ("retries", 10_000, 10_000, None),
        ("bisects", True, True, None),
        ("reports_failures", True, True, None),
        ("counted", True, True, None),
        ("on_failure", "", None, None),
        ("on_failure", DEAD, DEAD, None),
        ("on_failure", "arn:aws:sns:eu-west-1:000000000000:t", "arn:aws:sns:eu-west-1:000000000000:t", None),
        ("on_failure", "arn:aws:s3:::bucket", "arn:aws:s3:::bucket", None),
        *(
            ("on_failure", other, None, f"The destination ARN {other} is invalid: it must be of an SQS standard queue, an SNS standard topic or an S3 bucket.")
            for other in (
                f"{DEAD}.fifo", "arn:aws:sns:eu-west-1:000000000000:t.fifo", "arn:aws:lambda:eu-west-1:000000000000:function:g",
                "arn:aws:events:eu-west-1:000000000000:event-bus/b", "arn:aws:s3:::bucket/key", KINESIS, "kafka://topic", "x",
            )
        ),
        ("on_success", DEAD, None, "DestinationConfig: an event source mapping tells nobody of a success; only OnFailure can be set."),
        ("filters", ('{"data": {"a": [1]}}',) * 5, ('{"data": {"a": [1]}}',) * 5, None),
        ("filters", ('{"data": {"a": [1]}}',) * 6, None, "A mapping has at most 5 filters."),
        ("filters", ("{",), None, "Invalid filter pattern definition."),
        ("tumbling_seconds", 900, 900, None),
        ("tumbling_seconds", 0, 0, None),
    ],
)  # fmt: skip
def test_what_is_set_is_looked_at_whenever_it_is_said(
    arn: str, name: str, said: Any, kept: Any, told: str | None
) -> None:
    before = settled(made(arn))
    if told is None:
        assert getattr(made(arn, **{name: said}), name) == getattr(updated(before, **{name: said}), name) == kept
        return
    assert refused(lambda: made(arn, **{name: said})) == (INVALID, told)
    assert refused(lambda: updated(before, **{name: said})) == (INVALID, told)


@pytest.mark.parametrize(
    ("arn", "name", "told"),
    [
        *((QUEUE, name, NOT_OF_SOURCE) for name in (*OF_STREAMS, *OF_BROKERS)),
        *((arn, name, NOT_OF_SOURCE) for arn in STREAMS for name in ("ScalingConfig", *OF_BROKERS)),
        (QUEUE, "ScalingConfig", None),
        *((arn, name, None) for arn in STREAMS for name in OF_STREAMS),
        *((arn, name, None) for arn in (QUEUE, *STREAMS) for name in ("BatchSize", "FilterCriteria", "MetricsConfig")),
    ],
)
def test_members_are_of_some_sources(arn: str, name: str, told: str | None) -> None:
    new = made(arn)
    before = settled(new)
    if told is None:
        made(arn, members=(name,))
        updated(before, members=(name,))
        return
    for mapping in (new, before):
        # Of a mapping that is in use as well: waiting would not mend the request.
        assert refused(lambda of=mapping: updated(of, members=(name,))) == (INVALID, told.format(name))
    assert refused(lambda: made(arn, members=(name,))) == (INVALID, told.format(name))


def test_a_queues_mapping_keeps_nothing_that_is_of_streams() -> None:
    nothing: dict[str, Any] = {
        "position": None, "position_time": 0.0, "age_seconds": 0, "retries": 0, "bisects": False, "on_failure": "",
        "tumbling_seconds": 0,
    }  # fmt: skip
    assert made(QUEUE, **nothing) == made(QUEUE)
    assert updated(settled(made(QUEUE)), **nothing) == updated(settled(made(QUEUE)))


@pytest.mark.parametrize("arn", STREAMS)
def test_an_update_leaves_what_it_does_not_name_and_takes_away_what_it_empties(arn: str) -> None:
    before = settled(
        made(
            arn, batch_size=7, parallel=3, age_seconds=60, retries=4, bisects=True, on_failure=DEAD, enabled=False,
            position="TRIM_HORIZON",
        )
    )  # fmt: skip
    same = updated(before)
    assert dataclasses.replace(same, state=before.state, modified=before.modified, revision=before.revision) == before
    bare = updated(before, age_seconds=-1, retries=-1, bisects=False, on_failure="", parallel=1)
    assert (bare.age_seconds, bare.retries, bare.bisects, bare.on_failure, bare.parallel) == (
        None,
        None,
        False,
        None,
        1,
    )
    assert (bare.batch_size, bare.position) == (7, "TRIM_HORIZON")
    assert updated(before, position="LATEST").position == "TRIM_HORIZON"


@pytest.mark.parametrize("arn", STREAMS)
def test_a_shard_with_windows_has_one_batch_at_once(arn: str) -> None:
    told = "ParallelizationFactor must be 1 where TumblingWindowInSeconds is set: a shard has one state."
    assert refused(lambda: made(arn, tumbling_seconds=5, parallel=2)) == (INVALID, told)
    windows, lanes = settled(made(arn, tumbling_seconds=5)), settled(made(arn, parallel=2))
    assert refused(lambda: updated(windows, parallel=2)) == refused(lambda: updated(lanes, tumbling_seconds=5))
    assert updated(lanes, parallel=1, tumbling_seconds=5).tumbling_seconds == 5
    assert updated(windows, parallel=2, tumbling_seconds=0).parallel == 2


@pytest.mark.parametrize(
    ("arn", "reason", "results"),
    [
        (QUEUE, "USER_INITIATED", ("", "OK")),
        (KINESIS, "User action", ("No records processed", "OK")),
        (DYNAMODB, "User action", ("No records processed", "OK")),
    ],
)
def test_reasons_and_results_are_worded_by_the_kind_of_source(arn: str, reason: str, results: tuple[str, str]) -> None:
    mapping = made(arn)
    assert mapping.reason == reason
    assert tuple(dataclasses.replace(mapping, result=each).last_result for each in ("", "OK")) == results


@pytest.mark.parametrize("arn", STREAMS)
def test_a_stream_that_is_mapped_already_is_told_of(arn: str) -> None:
    error = event_sources.exists(made(arn), "other")
    assert (error.name, error.message) == (
        "ResourceConflictException",
        f'The event source arn (" {arn} ") and function (" f ") provided mapping already exists. Please update or delete '
        "the existing mapping with UUID other",
    )


def test_a_stream_whose_name_ends_as_fifo_queues_do_is_none() -> None:
    source = event_sources.source_of(f"{KINESIS}.fifo")
    wanted = Wanted(position="LATEST", window_seconds=5, batch_size=500)
    assert event_sources.create(UUID, source, REF, wanted, {}, 1.5, Limits()).window_seconds == 5
