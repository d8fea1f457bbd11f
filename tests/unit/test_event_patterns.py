"""Which records a filter pattern means, by examples of every operator, and which texts are no pattern."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lambent.domain.errors import AwsError
from lambent.domain.event_patterns import (
    MOST_NESTED,
    any_of,
    event,
    for_bus,
    for_dynamodb,
    for_kinesis,
    for_queue,
    parse,
)

REFUSED = r"InvalidParameterValueException: Invalid filter pattern definition\.$"

RECORD: dict[str, Any] = {
    "name": "Ada", "nothing": None, "blank": "", "yes": True, "no": False, "count": 300, "share": 0.5, "text": "300",
    "tags": ["red", "blue", 7], "none": [], "deep": {"er": {"n": 1}, "list": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
    "mixed": ["x", {"a": 1}], "rows": [[1, 2], [[3]]], "empty": {}, "$id": "q",
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "met"),
    [
        ("{}", True),
        # Equals.
        ('{"name": ["Ada"]}', True), ('{"name": ["ada"]}', False), ('{"name": ["Ad"]}', False), ('{"name": ["x", "Ada"]}', True),
        ('{"nothing": [null]}', True), ('{"blank": [null]}', False), ('{"lacking": [null]}', False), ('{"none": [null]}', False),
        ('{"blank": [""]}', True), ('{"nothing": [""]}', False), ('{"lacking": [""]}', False),
        ('{"yes": [true]}', True), ('{"yes": [1]}', False), ('{"no": [false]}', True), ('{"no": [0]}', False), ('{"yes": ["true"]}', False),
        ('{"count": [300]}', True), ('{"count": [300.0]}', False), ('{"count": [3e2]}', False), ('{"count": ["300"]}', False),
        ('{"share": [0.5]}', True), ('{"share": [0.50]}', False), ('{"text": [300]}', False), ('{"text": ["300"]}', True),
        ('{"$id": ["q"]}', True),
        # Keys and alternatives.
        ('{"name": ["Ada"], "count": [300]}', True), ('{"name": ["Ada"], "count": [1]}', False),
        ('{"$or": [{"name": ["Bob"]}, {"count": [300]}]}', True), ('{"$or": [{"name": ["Bob"]}, {"count": [1]}]}', False),
        ('{"$or": [{"name": ["Ada"]}]}', True), ('{"$or": [{"name": ["Ada"]}], "count": [1]}', False),
        ('{"deep": {"$or": [{"er": {"n": [2]}}, {"er": {"n": [1]}}]}}', True),
        ('{"$or": [{"$or": [{"name": ["Bob"]}, {"name": ["Ada"]}]}, {"count": [1]}]}', True),
        # Texts.
        ('{"name": [{"equals-ignore-case": "aDA"}]}', True), ('{"name": [{"equals-ignore-case": "aDAx"}]}', False),
        ('{"count": [{"equals-ignore-case": "300"}]}', False),
        ('{"name": [{"prefix": "Ad"}]}', True), ('{"name": [{"prefix": "ad"}]}', False), ('{"name": [{"prefix": ""}]}', True),
        ('{"name": [{"suffix": "da"}]}', True), ('{"name": [{"suffix": "Ad"}]}', False), ('{"count": [{"prefix": "3"}]}', False),
        ('{"lacking": [{"prefix": ""}]}', False), ('{"nothing": [{"suffix": ""}]}', False),
        ('{"count": [{"prefix": "3"}, 1, {"numeric": ["=", 3e2]}]}', True),
        # Anything but.
        ('{"name": [{"anything-but": "Bob"}]}', True), ('{"name": [{"anything-but": "Ada"}]}', False),
        ('{"name": [{"anything-but": ["Bob", "Ada"]}]}', False), ('{"name": [{"anything-but": ["Bob", 1]}]}', True),
        ('{"count": [{"anything-but": 300}]}', False), ('{"count": [{"anything-but": 300.0}]}', True), ('{"count": [{"anything-but": "300"}]}', True),
        ('{"lacking": [{"anything-but": "x"}]}', False), ('{"none": [{"anything-but": "x"}]}', False), ('{"deep": [{"anything-but": "x"}]}', False),
        ('{"nothing": [{"anything-but": "x"}]}', True), ('{"yes": [{"anything-but": 1}]}', True),
        ('{"name": [{"anything-but": {"prefix": "A"}}]}', False), ('{"name": [{"anything-but": {"prefix": "B"}}]}', True),
        ('{"name": [{"anything-but": {"suffix": "a"}}]}', False), ('{"name": [{"anything-but": {"suffix": ["x", "a"]}}]}', False),
        ('{"name": [{"anything-but": {"equals-ignore-case": "ADA"}}]}', False),
        ('{"name": [{"anything-but": {"equals-ignore-case": ["BOB", "EVE"]}}]}', True),
        ('{"count": [{"anything-but": {"prefix": "3"}}]}', True),
        # Numeric.
        ('{"count": [{"numeric": ["=", 3.0e2]}]}', True), ('{"count": [{"numeric": ["=", 301]}]}', False),
        ('{"count": [{"numeric": ["<", 300]}]}', False), ('{"count": [{"numeric": ["<=", 300]}]}', True),
        ('{"count": [{"numeric": [">", 299.99]}]}', True), ('{"count": [{"numeric": [">=", 300.1]}]}', False),
        ('{"count": [{"numeric": [">", 10, "<=", 300]}]}', True), ('{"count": [{"numeric": [">=", 10, "<", 300]}]}', False),
        ('{"share": [{"numeric": [">", -1, "<", 0.500000000000000000001]}]}', True), ('{"text": [{"numeric": ["=", 300]}]}', False),
        ('{"yes": [{"numeric": ["=", 1]}]}', False), ('{"lacking": [{"numeric": ["<", 1]}]}', False),
        # Exists.
        ('{"name": [{"exists": true}]}', True), ('{"name": [{"exists": false}]}', False), ('{"nothing": [{"exists": true}]}', True),
        ('{"lacking": [{"exists": true}]}', False), ('{"lacking": [{"exists": false}]}', True),
        ('{"none": [{"exists": true}]}', False), ('{"none": [{"exists": false}]}', True),
        ('{"deep": [{"exists": true}]}', False), ('{"deep": [{"exists": false}]}', False), ('{"empty": [{"exists": true}]}', False),
        ('{"tags": [{"exists": true}]}', True), ('{"lacking": ["x", {"exists": false}]}', True), ('{"name": ["x", {"exists": false}]}', False),
        ('{"lacking": {"er": [{"exists": false}]}}', True), ('{"lacking": {"er": [{"exists": true}]}}', False),
        ('{"name": {"er": [{"exists": false}]}}', True), ('{"deep": {"er": {"m": [{"exists": false}]}}}', True),
        # Arrays and objects of the record.
        ('{"tags": ["blue"]}', True), ('{"tags": ["green"]}', False), ('{"tags": [7]}', True), ('{"tags": [{"numeric": [">", 6]}]}', True),
        ('{"tags": [{"anything-but": "red"}]}', True), ('{"tags": [{"anything-but": ["red", "blue", 7]}]}', False),
        ('{"rows": [3]}', True), ('{"rows": [4]}', False),
        ('{"deep": {"er": {"n": [1]}}}', True), ('{"deep": {"er": [1]}}', False), ('{"deep": ["er"]}', False),
        ('{"deep": {"list": {"a": [3], "b": [4]}}}', True), ('{"deep": {"list": {"a": [1], "b": [4]}}}', False),
        ('{"mixed": ["x"]}', True), ('{"mixed": {"a": [1]}}', True), ('{"tags": {"a": [1]}}', False),
    ],
)  # fmt: skip
def test_records_that_a_pattern_means(pattern: str, met: bool) -> None:
    assert parse(pattern)(RECORD) is met


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("Straße", "sTRASSE", False), ("ÄÖ", "äö", True), ("ΟΔΟΣ", "οδος", True), ("K", "k", True), ("", "", True), ("e", "é", False),
    ],
)  # fmt: skip
def test_case_is_a_matter_of_single_letters(text: str, value: str, same: bool) -> None:
    assert parse(json.dumps({"a": [{"equals-ignore-case": text}]}))({"a": value}) is same


@pytest.mark.parametrize(
    "pattern",
    [
        "", " ", "text", "[]", '[{"a": [1]}]', '"a"', "1", "null", '{"a": [1]', '{"a": [1]} x', "{'a': [1]}", '{"a": [1],}',
        '{"a": "x"}', '{"a": 1}', '{"a": null}', '{"a": []}', '{"a": {}}', '{"a": [[]]}', '{"a": [["x"]]}', '{"a": ["x", {}]}', '{"a": {"b": {}}}',
        '{"a": [1], "a": [2]}', '{"a": {"b": [1], "b": [1]}}', '{"a": [{"prefix": "x", "prefix": "x"}]}',
        '{"a": [NaN]}', '{"a": [Infinity]}', '{"a": [01]}', '{"a": ["\n"]}',
        '{"$or": []}', '{"$or": {"a": [1]}}', '{"$or": ["x"]}', '{"$or": [{}]}', '{"$or": [{"a": [1]}, {}]}', '{"$or": [{"a": 1}]}', '{"$or": [[{"a": [1]}]]}',
        '{"a": [{"wildcard": "x*"}]}', '{"a": [{"cidr": "10.0.0.0/8"}]}', '{"a": [{"Prefix": "x"}]}', '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"a": [{"prefix": 1}]}', '{"a": [{"prefix": ["x"]}]}', '{"a": [{"prefix": {"equals-ignore-case": "x"}}]}', '{"a": [{"suffix": null}]}',
        '{"a": [{"equals-ignore-case": ["x"]}]}', '{"a": [{"equals-ignore-case": 1}]}',
        '{"a": [{"anything-but": []}]}', '{"a": [{"anything-but": null}]}', '{"a": [{"anything-but": [true]}]}', '{"a": [{"anything-but": [["x"]]}]}',
        '{"a": [{"anything-but": {}}]}', '{"a": [{"anything-but": {"prefix": 1}}]}', '{"a": [{"anything-but": {"prefix": []}}]}',
        '{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', '{"a": [{"anything-but": {"anything-but": "x"}}]}',
        '{"a": [{"anything-but": {"prefix": "x", "suffix": "x"}}]}', '{"a": [{"anything-but": [{"prefix": "x"}]}]}',
        '{"a": [{"numeric": []}]}', '{"a": [{"numeric": ["="]}]}', '{"a": [{"numeric": ["=", "1"]}]}', '{"a": [{"numeric": ["==", 1]}]}', '{"a": [{"numeric": "= 1"}]}',
        '{"a": [{"numeric": [1, "="]}]}', '{"a": [{"numeric": [["="], 1]}]}', '{"a": [{"numeric": ["=", true]}]}', '{"a": [{"numeric": ["!=", 1]}]}',
        '{"a": [{"numeric": ["<", 5, ">", 1]}]}', '{"a": [{"numeric": [">", 5, "<", 1]}]}', '{"a": [{"numeric": [">", 5, "<", 5.0]}]}',
        '{"a": [{"numeric": [">", 1, ">", 2]}]}', '{"a": [{"numeric": ["=", 1, "<", 2]}]}', '{"a": [{"numeric": [">", 1, "<"]}]}',
        '{"a": [{"numeric": [">", 1, "<", 5, "<", 6]}]}', '{"a": [{"numeric": ["=", 1e9999999999999999999]}]}',
        '{"a": [{"exists": null}]}', '{"a": [{"exists": 1}]}', '{"a": [{"exists": "true"}]}', '{"a": [{"exists": [true]}]}', '{"a": {"exists": true}}',
        '{"a":' * 2000 + "[1]" + "}" * 2000, '{"$or":[' * 400 + '{"a":[1]}' + "]}" * 400, '{"a":' * 100_000, '{"a":' + "[" * 100_000,
    ],
    ids=lambda pattern: pattern[:40],
)  # fmt: skip
def test_patterns_that_are_none(pattern: str) -> None:
    for read in (
        parse,
        lambda each: any_of([each]),
        lambda each: for_queue(['{"a": [1]}', each]),
        lambda each: for_kinesis([each]),
        lambda each: for_dynamodb([each]),
    ):
        with pytest.raises(AwsError, match=REFUSED):
            read(pattern)


def test_patterns_may_be_nested_so_deeply_and_no_deeper() -> None:
    def pattern(objects: int) -> str:
        return '{"a":' * objects + "[1]" + "}" * objects

    record: Any = 1
    for _ in range(MOST_NESTED):
        record = {"a": record}
    assert parse(pattern(MOST_NESTED))(record)
    with pytest.raises(AwsError, match=REFUSED):
        parse(pattern(MOST_NESTED + 1))


def test_one_of_several_filters_is_enough() -> None:
    met = any_of(['{"a": [1]}', '{"b": [2]}'])
    assert [met(each) for each in ({"a": 1}, {"b": 2}, {"a": 2, "b": 1}, {})] == [True, True, False, False]
    assert any_of([])({})
    assert any_of(['{"a": [1]}', "{}"])({})


def message(body: str) -> dict[str, Any]:
    return {
        "messageId": "m-1", "receiptHandle": "r", "body": body, "eventSource": "aws:sqs", "awsRegion": "eu-west-1",
        "attributes": {"ApproximateReceiveCount": "1", "SenderId": "AIDA"},
        "messageAttributes": {"kind": {"stringValue": "order", "stringListValues": [], "dataType": "String"}},
    }  # fmt: skip


OBJECT = '{"a": 1, "n": 3.0e2, "who": {"name": "Ada"}, "items": [{"id": 1}, {"id": 2}], "body": "inner"}'


@pytest.mark.parametrize(
    ("pattern", "body", "met"),
    [
        # An object pattern and a JSON object.
        ('{"body": {"a": [1]}}', OBJECT, True), ('{"body": {"a": [2]}}', OBJECT, False), ('{"body": {"a": [1]}}', f" \n{OBJECT}\n", True),
        ('{"body": {"n": [3.0e2]}}', OBJECT, True), ('{"body": {"n": [300.0]}}', OBJECT, False), ('{"body": {"n": [300]}}', OBJECT, False),
        ('{"body": {"n": [{"numeric": ["=", 300]}]}}', OBJECT, True), ('{"body": {"who": {"name": [{"prefix": "A"}]}}}', OBJECT, True),
        ('{"body": {"items": {"id": [2]}}}', OBJECT, True), ('{"body": {"b": [{"exists": false}]}}', OBJECT, True),
        ('{"body": {"body": ["inner"]}}', OBJECT, True), ('{"body": {"body": {"a": [1]}}}', OBJECT, False),
        # An object pattern and anything else.
        ('{"body": {"b": [{"exists": false}]}}', "text", False), ('{"body": {"b": [{"exists": false}]}}', "", False),
        ('{"body": {"a": [1]}}', '[{"a": 1}]', False), ('{"body": {"a": [1]}}', '"a"', False), ('{"body": {"a": [1]}}', "null", False),
        ('{"body": {"a": [1]}}', '{"a": 1', False), ('{"body": {"a": [1]}}', '{"a": 1, "b": NaN}', False), ('{"body": {"a": [1]}}', '{"a": 1} {}', False),
        ('{"body": {"b": [{"exists": false}]}}', "{}", True),
        # A list and the text as it is.
        ('{"body": ["text"]}', "text", True), ('{"body": ["text"]}', "Text", False), ('{"body": ["text"]}', '"text"', False),
        ('{"body": ["x", {"prefix": "te"}]}', "text", True), ('{"body": [{"suffix": "xt"}]}', "text", True), ('{"body": [""]}', "", True),
        ('{"body": [{"anything-but": ["text"]}]}', "text", False), ('{"body": [{"anything-but": ["text"]}]}', "other", True),
        ('{"body": [{"equals-ignore-case": "TEXT"}]}', "text", True), ('{"body": [{"exists": true}]}', "", True), ('{"body": [{"exists": false}]}', "", False),
        ('{"body": [5]}', "5", False), ('{"body": ["5"]}', "5", True), ('{"body": [{"numeric": ["=", 5]}]}', "5", False), ('{"body": [null]}', "null", False),
        ('{"body": [{"prefix": "{"}]}', "{}", True),
        # What comes with the message.
        ('{"attributes": {"SenderId": ["AIDA"]}}', "text", True), ('{"attributes": {"SenderId": ["AIDA"]}}', "{", True),
        ('{"attributes": {"ApproximateReceiveCount": [1]}}', "text", False), ('{"awsRegion": [{"prefix": "eu-"}]}', OBJECT, True),
        ('{"messageAttributes": {"kind": {"stringValue": ["order"]}}}', OBJECT, True), ('{"messageAttributes": {"no": {"stringValue": [{"exists": false}]}}}', "", True),
        ('{"messageAttributes": {"kind": {"stringListValues": [{"exists": true}]}}}', OBJECT, False),
        ('{"messageId": ["m-1"], "body": {"a": [1]}}', OBJECT, True), ('{"messageId": ["m-2"], "body": {"a": [1]}}', OBJECT, False),
        ('{"$or": [{"messageId": ["m-2"]}, {"body": {"a": [1]}}]}', OBJECT, True), ('{"$or": [{"body": ["text"]}, {"body": {"a": [1]}}]}', "text", True),
        ('{"$or": [{"body": ["text"]}, {"body": {"a": [1]}}]}', OBJECT, True), ('{"$or": [{"body": ["text"]}, {"body": {"a": [1]}}]}', "more", False),
        ("{}", "{", True),
    ],
)  # fmt: skip
def test_messages_that_a_queues_filter_means(pattern: str, body: str, met: bool) -> None:
    given = message(body)
    assert for_queue([pattern])(given) is met
    assert given == message(body)


def test_a_queue_without_filters_means_every_message() -> None:
    assert for_queue([])(message("text"))


def test_a_message_without_a_body_has_none() -> None:
    bare = {"messageId": "m-1"}
    assert for_queue(['{"body": [{"exists": false}]}'])(bare)
    assert not for_queue(['{"body": {"a": [{"exists": false}]}}', '{"body": [{"exists": true}]}', '{"body": [null]}'])(
        bare
    )


def test_a_body_is_read_once_whatever_filters_there_are_and_only_if_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    decode = json.JSONDecoder.decode

    def counted(self: json.JSONDecoder, text: str) -> Any:
        read.append(text)
        return decode(self, text)

    objects = for_queue(
        ['{"body": {"a": [2]}}', '{"body": {"b": [2]}}', '{"$or": [{"body": {"c": [1]}}, {"body": {"d": [1]}}]}']
    )
    others = for_queue(['{"body": ["x"]}', '{"messageId": ["m-2"], "body": {"a": [1]}}'])
    monkeypatch.setattr(json.JSONDecoder, "decode", counted)
    assert not objects(message(OBJECT))
    assert not others(message(OBJECT))
    assert read == [OBJECT]
    assert not objects(message("text"))
    assert read == [OBJECT, "text"]


@pytest.mark.parametrize(
    "body", ["{" * 100_000, '{"a":' * 100_000, '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "[" * 1_000_000], ids=["braces", "open", "arrays", "million"]
)  # fmt: skip
def test_nesting_without_end_is_no_match(body: str) -> None:
    assert for_queue(['{"body": {"a": [{"exists": false}]}}', '{"body": {"a": [1]}}'])(message(body)) is False
    assert for_queue(['{"body": [{"suffix": "!"}, {"equals-ignore-case": "x"}]}'])(message(body)) is False


@pytest.mark.parametrize(
    ("number", "more_than_five"),
    [
        ("1e999999999", True), ("-1e999999999", False), ("1e-999999999", False), ("6" * 1_000_000, True), ("0." + "9" * 1_000_000, False),
        ("1e9999999999999999999", False), ("5.000000000000000000000000000001", True),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_numbers_of_any_size_are_compared(number: str, more_than_five: bool) -> None:
    body = message(f'{{"a": {number}}}')
    assert for_queue(['{"body": {"a": [{"numeric": [">", 5]}]}}'])(body) is more_than_five
    assert not for_queue(
        ['{"body": {"a": [{"numeric": ["=", 5]}, {"numeric": [">", 5, "<", 5.00000000000000000000000000000001]}]}}']
    )(body)
    assert for_queue([f'{{"body": {{"a": [{number}]}}}}'])(body)


def test_a_number_that_is_none_is_never_within_bounds() -> None:
    met = parse('{"a": [{"numeric": [">", 0]}, {"numeric": ["<=", 0]}]}')
    assert [met({"a": value}) for value in (float("inf"), float("nan"), 1e300, -1)] == [False, False, True, True]


def put(data: bytes | str) -> dict[str, Any]:
    encoded = base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "p-1", "sequenceNumber": "495", "data": encoded,
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis", "awsRegion": "eu-west-1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "data", "met"),
    [
        ('{"data": {"a": [1]}}', OBJECT, True), ('{"data": {"a": [2]}}', OBJECT, False), ('{"data": {"n": [3.0e2]}}', OBJECT, True),
        ('{"data": {"b": [{"exists": false}]}}', "text", False), ('{"data": {"a": [1]}}', "[]", False), ('{"data": {"a": [1]}}', '{"a": 1', False),
        ('{"data": ["grüß"]}', "grüß", True), ('{"data": [{"prefix": "g"}]}', "text", False), ('{"data": [""]}', "", True),
        ('{"data": [{"exists": true}]}', "", True), ('{"data": [{"exists": false}]}', "", False),
        # What comes with the data.
        ('{"partitionKey": ["p-1"]}', b"\xff", True), ('{"partitionKey": ["p-2"]}', OBJECT, False),
        ('{"partitionKey": ["p-1"], "data": {"a": [1]}}', OBJECT, True), ('{"partitionKey": ["p-1"], "data": {"a": [2]}}', OBJECT, False),
        ('{"approximateArrivalTimestamp": [{"numeric": [">", 1545084650]}]}', "", True),
        # The record around is not meant, nor how the data is written there.
        ('{"awsRegion": ["eu-west-1"]}', OBJECT, False), ('{"kinesis": {"partitionKey": ["p-1"]}}', OBJECT, False), ('{"data": ["dGV4dA=="]}', "text", False),
        # What is no text is there, and nothing of what one may ask of it.
        ('{"data": [{"exists": true}]}', b"\xff", True), ('{"data": [{"exists": false}]}', b"\xff", False), ('{"data": [{"anything-but": "x"}]}', b"\xff", True),
        ('{"data": ["", null, {"prefix": ""}, {"suffix": ""}, {"equals-ignore-case": ""}, {"numeric": [">", 0]}]}', b"\xff", False),
        ('{"data": {"b": [{"exists": false}]}}', b"\xff", False), ('{"data": {"b": [{"exists": false}]}}', b"{}\xff", False),
        ("{}", b"\xff", True),
    ],
)  # fmt: skip
def test_records_that_a_data_streams_filter_means(pattern: str, data: bytes | str, met: bool) -> None:
    given = put(data)
    assert for_kinesis([pattern])(given) is met
    assert given == put(data)


def test_data_that_is_not_in_base64_is_no_text() -> None:
    for data in ("a", "grüß", "a b=", "dGV4dA==!"):
        given = {"kinesis": {"data": data}}
        assert for_kinesis(['{"data": [{"exists": true}]}'])(given)
        assert not for_kinesis(['{"data": [{"prefix": ""}]}', '{"data": {"a": [{"exists": false}]}}'])(given)
    assert for_kinesis([])({"kinesis": {}})


CHANGE: dict[str, Any] = {
    "eventName": "INSERT", "eventSource": "aws:dynamodb",
    "dynamodb": {
        "ApproximateCreationDateTime": 1428537600, "Keys": {"id": {"S": "a-1"}}, "SequenceNumber": "300", "SizeBytes": 26,
        "NewImage": {"id": {"S": "a-1"}, "n": {"N": "5"}, "tags": {"SS": ["x", "y"]}, "deep": {"M": {"on": {"BOOL": True}}}},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "met"),
    [
        ('{"eventName": ["INSERT"]}', True), ('{"eventName": ["REMOVE"]}', False),
        ('{"dynamodb": {"Keys": {"id": {"S": [{"prefix": "a-"}]}}}}', True), ('{"dynamodb": {"Keys": {"id": {"N": [{"exists": true}]}}}}', False),
        ('{"dynamodb": {"NewImage": {"n": {"N": ["5"]}}}}', True), ('{"dynamodb": {"NewImage": {"n": {"N": [5]}}}}', False),
        ('{"dynamodb": {"NewImage": {"n": {"N": [{"numeric": ["=", 5]}]}}}}', False),
        ('{"dynamodb": {"NewImage": {"tags": {"SS": ["y"]}, "deep": {"M": {"on": {"BOOL": [true]}}}}}}', True),
        ('{"dynamodb": {"OldImage": {"id": {"S": [{"exists": false}]}}}}', True),
        ('{"dynamodb": {"ApproximateCreationDateTime": [1428537600]}}', True), ('{"dynamodb": {"SizeBytes": [{"numeric": ["<", 26]}]}}', False),
    ],
)  # fmt: skip
def test_records_that_a_tables_filter_means(pattern: str, met: bool) -> None:
    assert for_dynamodb([pattern])(CHANGE) is met


@pytest.mark.parametrize(
    ("pattern", "met"),
    [
        ('{"source": ["shop"], "detail": {"n": [5.0]}}', True), ('{"source": ["shop"], "detail": {"n": [5]}}', False),
        ('{"detail": {"path": [{"wildcard": "img/*.png"}]}}', True), ('{"detail": {"path": [{"wildcard": "img/*.pn"}]}}', False),
        ('{"detail": {"path": [{"wildcard": "*"}]}}', True), ('{"detail": {"path": [{"wildcard": "*/a*b*.*"}]}}', True),
        ('{"detail": {"path": [{"wildcard": "img/a*a.png"}]}}', False), ('{"detail": {"path": [{"wildcard": "img/a-b.png"}]}}', True),
        ('{"detail": {"star": [{"wildcard": "a\\\\*b\\\\\\\\*"}]}}', True), ('{"detail": {"path": [{"wildcard": "a\\\\*b*"}]}}', False),
        ('{"detail": {"n": [{"wildcard": "*"}]}}', False),
        ('{"detail": {"path": [{"anything-but": {"wildcard": ["x*", "*.jpg"]}}]}}', True),
        ('{"detail": {"path": [{"anything-but": {"wildcard": "img*"}}]}}', False),
        ('{"detail": {"path": [{"prefix": {"equals-ignore-case": "IMG/"}}]}}', True),
        ('{"detail": {"path": [{"suffix": {"equals-ignore-case": ".PNG"}}]}}', True),
        ('{"detail": {"path": [{"suffix": {"equals-ignore-case": ".JPG"}}]}}', False),
        ('{"detail": {"from": [{"cidr": "10.0.0.0/24"}]}}', True), ('{"detail": {"from": [{"cidr": "10.0.1.0/24"}]}}', False),
        ('{"detail": {"six": [{"cidr": "2001:db8::/32"}]}}', True), ('{"detail": {"path": [{"cidr": "10.0.0.0/8"}]}}', False),
        ('{"$or": [{"source": ["x"]}, {"detail": {"from": [{"exists": true}]}}]}', True),
    ],
)  # fmt: skip
def test_events_that_a_rule_means(pattern: str, met: bool) -> None:
    told = event(
        '{"source": "shop", "detail": {"n": 5.0, "path": "img/a-b.png", "star": "a*b\\\\c", "from": "10.0.0.7", '
        '"six": "2001:db8::1"}}'
    )
    assert for_bus(pattern)(told) is met


@pytest.mark.parametrize(
    "pattern",
    [
        '{"a": [{"wildcard": "x**"}]}', '{"a": [{"wildcard": "x\\\\y"}]}', '{"a": [{"wildcard": 5}]}',
        '{"a": [{"cidr": "10.0.0.0/33"}]}', '{"a": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}',
        '{"a": [{"prefix": {"x": "y"}}]}', '{"a": [{"suffix": 1}]}', "{}",
    ],
)  # fmt: skip
def test_what_is_no_pattern_of_a_rule(pattern: str) -> None:
    with pytest.raises(AwsError):
        for_bus(pattern)


@pytest.mark.parametrize("name", ["wildcard", "cidr"])
def test_operators_of_rules_are_none_of_event_sources(name: str) -> None:
    with pytest.raises(AwsError):
        parse(f'{{"a": [{{"{name}": "10.0.0.0/8"}}]}}')
