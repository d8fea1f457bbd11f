"""The rules of event sources: what makes a batch, how many lanes read, who reads, and what an answer says has failed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from lambent.domain import batch_events, queue_messages
from lambent.domain.event_sources import source_of
from services.poller.core.batches import BatchRules, Receive, Send, next_step
from services.poller.core.pace import Pace, PaceRules
from services.poller.core.sharing import reader_of

RULES = BatchRules(size=10, window_seconds=0, event_bytes=1000)
WINDOW = BatchRules(size=25, window_seconds=60, event_bytes=1000)
SOURCE = source_of("arn:aws:sqs:us-east-2:123456789012:my-queue")


@pytest.mark.parametrize(
    ("rules", "sizes", "age", "step"),
    [
        (RULES, [], 0, Receive(10, 10)),
        (BatchRules(3, 0, 1000), [], 0, Receive(3, 10)),
        (RULES, [10], 0, Send(1)),  # without a window, what one call brings is the batch
        (WINDOW, [10] * 9, 0, Receive(10, 10)),
        (WINDOW, [10] * 20, 0, Receive(5, 10)),
        (WINDOW, [10] * 25, 0, Send(25)),
        (WINDOW, [10] * 30, 0, Send(25)),
        (WINDOW, [10] * 9, 55.5, Receive(10, 4)),
        (WINDOW, [10] * 9, 59.5, Send(9)),  # a message waits no longer than the window
        (WINDOW, [400, 400, 400], 0, Send(2)),  # together they would be too large
        (WINDOW, [1200, 10], 0, Send(1)),  # alone too large, which whoever runs it says
        (WINDOW, [492, 493], 0, Receive(10, 10)),  # 1,000 bytes with what is around them
        (WINDOW, [493, 494], 0, Send(1)),
    ],
)
def test_a_batch_is_sent_when_it_is_full_old_or_large(
    rules: BatchRules, sizes: list[int], age: float, step: Receive | Send
) -> None:
    assert next_step(sizes, 100.0, 100.0 + age, rules, ending=False) == step


def test_a_reader_that_ends_waits_for_nothing_more() -> None:
    assert next_step([10] * 3, 100.0, 101.0, WINDOW, ending=True) == Send(3)


def test_the_sizes_of_records_are_the_size_of_their_event() -> None:
    records = [b'{"a":1}', b'{"b":2}']
    event = batch_events.event(records)
    assert json.loads(event) == {"Records": [{"a": 1}, {"b": 2}]}
    exact = BatchRules(10, 60, len(event))
    assert isinstance(next_step([7, 7], 0.0, 0.0, exact, ending=False), Receive)
    assert next_step([7, 7], 0.0, 0.0, BatchRules(10, 60, len(event) - 1), ending=False) == Send(1)


def grown(pace: Pace, seconds: int, at: float) -> list[int]:
    """How many lanes there are each second while none of them has to wait."""
    counts = []
    for second in range(seconds):
        pace.looked(pace.wanted, at + second, idle=False)
        counts.append(pace.wanted)
    return counts


def test_a_backlog_is_read_by_five_and_then_by_five_more_each_second() -> None:
    pace = Pace(PaceRules(5, 300, 20), 100.0)
    assert pace.wanted == 2
    pace.looked(2, 100.0, idle=True)
    assert pace.wanted == 2
    assert grown(pace, 6, 100.0) == [5, 10, 15, 20, 20, 20]


def test_lanes_that_find_nothing_end_but_for_two() -> None:
    pace = Pace(PaceRules(5, 300, 20), 100.0)
    grown(pace, 3, 100.0)
    assert pace.goes_on(15, 0, found=True)
    assert pace.goes_on(15, 1, found=False)
    assert not pace.goes_on(15, 2, found=False)
    # What is left counts from then on: another backlog begins anew.
    pace.looked(2, 110.0, idle=True)
    assert pace.wanted == 2
    assert grown(pace, 2, 111.0) == [7, 12]


def test_batches_that_are_held_back_halve_the_lanes_once_a_second() -> None:
    pace = Pace(PaceRules(5, 300, 40), 100.0)
    grown(pace, 8, 100.0)
    for _ in range(10):
        pace.held_back(108.0)
    assert pace.wanted == 20
    assert not pace.goes_on(21, 0, found=True)
    for second in range(10):
        pace.held_back(109.0 + second)
    assert pace.wanted == 1


def test_after_that_they_grow_from_where_they_are_until_the_queue_is_empty() -> None:
    pace = Pace(PaceRules(5, 60, 40), 100.0)
    pace.looked(2, 100.0, idle=False)
    for second in range(4):
        pace.held_back(101.0 + second)
        pace.looked(1, 101.0 + second, idle=False)
    assert pace.wanted == 2
    assert grown(pace, 3, 105.0) == [3, 4, 5]
    pace.held_back(108.0)
    pace.looked(2, 108.0, idle=True)
    assert grown(pace, 1, 109.0) == [5]


def test_no_more_lanes_than_a_mapping_may_have() -> None:
    pace = Pace(PaceRules(2, 300, 2), 100.0)
    assert max(grown(pace, 30, 100.0)) == 2
    pace.ruled(PaceRules(5, 300, 7))
    assert max(grown(pace, 30, 130.0)) == 7
    pace.ruled(PaceRules(3, 300, 3))
    assert pace.wanted == 3


def test_sources_spread_over_readers_and_stay_where_they_are() -> None:
    sources = [f"source-{number}" for number in range(600)]
    before = {each: reader_of(each, ["a", "b", "c"]) for each in sources}
    shares = Counter(before.values())
    assert all(150 < shares[reader] < 250 for reader in "abc")
    after = {each: reader_of(each, ["c", "a"]) for each in sources}
    assert all(after[each] == reader for each, reader in before.items() if reader != "b")
    assert reader_of("source", []) is None


def test_a_message_becomes_a_record_of_awss_form() -> None:
    message = {
        "MessageId": "059f36b4", "ReceiptHandle": "AQEB", "Body": "Test message.",
        "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183", "SenderId": "AIDA"},
        "MessageAttributes": {
            "k": {"StringValue": "v", "DataType": "String"}, "b": {"BinaryValue": "AAE=", "DataType": "Binary"},
        },
        "MD5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3", "MD5OfMessageAttributes": "00484c68",
    }  # fmt: skip
    assert queue_messages.record(message, SOURCE, "eu-west-1") == {
        "messageId": "059f36b4", "receiptHandle": "AQEB", "body": "Test message.",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183", "SenderId": "AIDA"},
        "messageAttributes": {
            "k": {"stringValue": "v", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "b": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfMessageAttributes": "00484c68", "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
        "awsRegion": "us-east-2",
    }  # fmt: skip
    bare = queue_messages.record({"MessageId": "m", "ReceiptHandle": "h", "Body": "x"}, SOURCE, "eu-west-1")
    assert (bare["md5OfMessageAttributes"], bare["messageAttributes"], bare["attributes"]) == (None, {}, {})


def test_any_text_can_be_said_in_an_event() -> None:
    for text in ("grüß", "\U0001f600", "\ud800", "\u2028"):
        event = batch_events.event([batch_events.encoded({"body": text})])
        assert json.loads(event)["Records"][0]["body"] == text


@pytest.mark.parametrize(
    ("response", "failed"),
    [
        (b'{"batchItemFailures":[]}', ""),
        (b'{"batchItemFailures":null}', ""),
        (b"{}", ""),
        (b"null", ""),
        (b"", ""),
        (b'""', ""),
        (b'{"batchItemFailures":[{"itemIdentifier":"b"}]}', "b"),
        (b'{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"a"},{"itemIdentifier":"b"}]}', "ab"),
        (b'{"batchItemFailures":[{"itemIdentifier":""}]}', "abc"),
        (b'{"batchItemFailures":[{"itemIdentifier":null}]}', "abc"),
        (b'{"batchItemFailures":[{"ItemIdentifier":"a"}]}', "abc"),
        (b'{"batchItemFailures":[{"itemIdentifier":"z"}]}', "abc"),
        (b'{"batchItemFailures":[{"itemIdentifier":["a"]}]}', "abc"),
        (b'{"batchItemFailures":["a"]}', "abc"),
        (b'{"batchItemFailures":"a"}', "abc"),
        (b"[]", "abc"),
        (b"7", "abc"),
        (b"{", "abc"),
        (b"[" * 100_000, "abc"),
    ],
)
def test_an_answer_says_which_messages_have_failed(response: bytes, failed: str) -> None:
    assert batch_events.failed(response, ["a", "b", "c"]) == frozenset(failed)


@pytest.mark.parametrize(
    "identifier", ["8", 8, {"offset": 8}, {"partition": "orders-0", "offset": 8}, {"topic-partition": "orders-0", "offset": 8}]
)  # fmt: skip
def test_a_topics_record_has_failed_by_its_offset(identifier: Any) -> None:
    response = json.dumps({"batchItemFailures": [{"itemIdentifier": identifier}]}).encode()
    assert batch_events.failed(response, ["7", "8", "9"], offsets=True) == {"8"}
    assert batch_events.failed(response, ["7"], offsets=True) == {"7"}, "it names none of the batch"


@pytest.mark.parametrize("identifier", [8, {"offset": 8}])
def test_elsewhere_only_a_text_names_a_record(identifier: Any) -> None:
    response = json.dumps({"batchItemFailures": [{"itemIdentifier": identifier}]}).encode()
    assert batch_events.failed(response, ["7", "8"]) == {"7", "8"}
