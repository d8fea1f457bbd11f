"""What destinations and dead-letter queues are told, word by word, and who may be one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lambent.domain.async_events import Condition, RetryPolicy
from lambent.domain.destinations import (
    DEAD_LETTERS,
    ON_FAILURE,
    ON_SUCCESS,
    Ended,
    bus_entry,
    dead_letter_attributes,
    object_key,
    parse,
    record,
)
from lambent.domain.errors import AwsError
from lambent.domain.event_invoke import EventInvokeConfig, Wanted, functions_told, merge, put
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef, Tenant

TENANT = Tenant("123456789012", "us-east-2")
FAILED = Ended(
    TENANT, "event-destinations", None, "8ea123e4-1db7-4aca-ad10-d9ca1234c1fd", Condition.RETRIES_EXHAUSTED, 3,
    1574632353.333, b'{"Success": false}', "$LATEST", "Unhandled",
    b'{"errorMessage":"no","errorType":"Error","stackTrace":[]}', "Error",
)  # fmt: skip
ARN = "arn:aws:lambda:us-east-2:123456789012:function:event-destinations"


def test_a_failures_record_is_awss() -> None:
    assert json.loads(record(FAILED)) == {
        "version": "1.0",
        "timestamp": "2019-11-24T21:52:33.333Z",
        "requestContext": {
            "requestId": "8ea123e4-1db7-4aca-ad10-d9ca1234c1fd",
            "functionArn": f"{ARN}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"Success": False},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no", "errorType": "Error", "stackTrace": []},
    }


def test_a_success_has_no_error_and_what_never_ran_no_response() -> None:
    ended = replace(
        FAILED, qualifier="live", condition=Condition.SUCCESS, attempts=1, version="7", error=None, response=b"null"
    )
    told = json.loads(record(ended))
    assert told["requestContext"]["functionArn"] == f"{ARN}:live"
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "7"}
    assert told["responsePayload"] is None
    never = replace(
        FAILED, condition=Condition.ZERO_RESERVED_CONCURRENCY, attempts=0, version=None, error=None, response=b""
    )
    told = json.loads(record(never))
    assert told["requestContext"]["approximateInvokeCount"] == 0
    assert not told.keys() & {"responseContext", "responsePayload"}


def test_payload_and_response_go_in_as_they_are() -> None:
    ended = replace(FAILED, payload=b'{"n": 1e400, "a":1,"a":2}', response=' "ü"'.encode())
    assert b'"requestPayload":{"n": 1e400, "a":1,"a":2}' in record(ended)
    assert '"responsePayload": "ü"}'.encode() in record(ended)


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (b'{"ratio": NaN}', '{"ratio": NaN}'),
        (b"hello plain text", "hello plain text"),
        (b"\xff\xfe\x00\x80", "\ufffd\ufffd\x00\ufffd"),
        ("\ufeff1".encode(), "\ufeff1"),
        (b'{"a": 1} {}', '{"a": 1} {}'),
    ],
)
def test_a_response_that_is_no_json_is_told_as_a_text(response: bytes, told: str) -> None:
    assert json.loads(record(replace(FAILED, response=response)))["responsePayload"] == told


def test_a_response_too_deep_to_look_into_is_told_as_a_text() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert json.loads(record(replace(FAILED, response=deep)))["responsePayload"] == deep.decode()
    assert "ErrorMessage" not in dead_letter_attributes(replace(FAILED, response=deep))


def test_a_dead_letters_message_has_characters_only() -> None:
    response = json.dumps({"errorMessage": "\x1b[31mred\x00 \ud800 \t\n ü \uffff \U0001f600"}).encode()
    kind, text = dead_letter_attributes(replace(FAILED, response=response))["ErrorMessage"]
    assert (kind, text) == ("String", "\ufffd[31mred\ufffd \ufffd \t\n ü \ufffd \U0001f600")


def test_a_bus_is_told_by_an_entry() -> None:
    bus = "arn:aws:events:us-east-2:123456789012:event-bus/b"
    entry = bus_entry(record(FAILED), bus, FAILED.function_arn, FAILED.condition)
    assert entry["Source"] == "lambda"
    assert entry["DetailType"] == "Lambda Function Invocation Result - Failure"
    assert entry["Resources"] == [bus, f"{ARN}:$LATEST"]
    assert json.loads(str(entry["Detail"])) == json.loads(record(FAILED))
    assert bus_entry(b"{}", bus, "", Condition.SUCCESS)["DetailType"] == "Lambda Function Invocation Result - Success"


def test_the_key_in_a_bucket_says_function_and_time() -> None:
    assert object_key("f", 1574632353.333, "u-u") == "aws/lambda/async/f/2019/11/24/2019-11-24T21.52.33-u-u"


def test_a_dead_letter_carries_request_code_and_message() -> None:
    attributes = {
        "RequestID": ("String", FAILED.request_id), "ErrorCode": ("Number", "200"), "ErrorMessage": ("String", "no"),
    }  # fmt: skip
    assert dead_letter_attributes(FAILED) == attributes
    long = replace(FAILED, response=json.dumps({"errorMessage": "ü" * 2000}).encode())
    assert len(dead_letter_attributes(long)["ErrorMessage"][1].encode()) == 1024
    never = replace(FAILED, version=None, response=b"", detail="Throttled")
    assert dead_letter_attributes(never)["ErrorMessage"] == ("String", "Throttled")
    assert dead_letter_attributes(never)["ErrorCode"] == ("Number", "429")
    assert "ErrorMessage" not in dead_letter_attributes(replace(FAILED, response=b"[1]"))


@pytest.mark.parametrize(
    ("arn", "services"),
    [
        ("arn:aws:sqs:us-east-2:123456789012:q", (ON_SUCCESS, ON_FAILURE, DEAD_LETTERS)),
        ("arn:aws:sns:us-east-2:123456789012:t", (ON_SUCCESS, ON_FAILURE, DEAD_LETTERS)),
        ("arn:aws:sqs:us-east-2:123456789012:q.fifo", ()),
        ("arn:aws:lambda:us-east-2:123456789012:function:g", (ON_SUCCESS, ON_FAILURE)),
        ("arn:aws:lambda:us-east-2:123456789012:layer:g", ()),
        ("arn:aws:events:us-east-2:123456789012:event-bus/b", (ON_SUCCESS, ON_FAILURE)),
        ("arn:aws:events:us-east-2:123456789012:rule/b", ()),
        ("arn:aws:s3:::bucket", (ON_FAILURE,)),
        ("arn:aws:s3:::bucket/key", ()),
        ("arn:aws:sqs:::q", ()),
        ("arn:aws:sqs:us-east-2::q", ()),
        ("arn:aws:dynamodb:us-east-2:123456789012:table/t", ()),
        ("kafka://topic", ()),
        ("arn:aws:sqs", ()),
    ],
)
def test_who_may_be_told(arn: str, services: tuple[tuple[str, ...], ...]) -> None:
    for each in (ON_SUCCESS, ON_FAILURE, DEAD_LETTERS):
        assert (parse(arn, each) is not None) == (each in services)


REF = FunctionRef(TENANT, "f", "$LATEST")
QUEUE, OTHER = "arn:aws:sqs:us-east-2:123456789012:q", "arn:aws:lambda:us-east-2:123456789012:function:g:live"


def test_a_put_replaces_and_an_update_merges() -> None:
    first = put(Wanted(1, None, QUEUE, None), 5.0)
    assert first == EventInvokeConfig(5.0, 1, None, QUEUE, None)
    assert merge(first, Wanted(None, 60, None, OTHER), 6.0) == EventInvokeConfig(6.0, 1, 60, QUEUE, OTHER)
    assert merge(first, Wanted(0, None, "", None), 7.0) == EventInvokeConfig(7.0, 0)
    assert put(Wanted(None, 60, None, None), 8.0) == EventInvokeConfig(8.0, None, 60)


def test_what_is_not_set_is_standard() -> None:
    standard = RetryPolicy.standard(Limits())
    assert EventInvokeConfig(1.0).policy(standard) == standard
    assert EventInvokeConfig(1.0, 0, 60).policy(standard) == replace(standard, retry_attempts=0, event_age_seconds=60)


@pytest.mark.parametrize(
    ("success", "failure", "says"),
    [
        ("arn:aws:lambda:us-east-2:123456789012:function:f", None, "You can't specify the function as a destination for itself."),
        (None, "arn:aws:lambda:us-east-2:123456789012:function:f:live", "You can't specify the function as a destination for itself."),
        ("arn:aws:s3:::b", None, "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::b), onFailure=null) is invalid."),
        (QUEUE, "kafka://t", f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={QUEUE}), onFailure=OnFailure(destination=kafka://t)) is invalid."),
        ("arn:aws:lambda:eu-west-1:123456789012:function:g", None, "The destination ARN arn:aws:lambda:eu-west-1:123456789012:function:g is invalid."),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_in_awss_words(success: str | None, failure: str | None, says: str) -> None:
    with pytest.raises(AwsError) as caught:
        functions_told(REF, Wanted(None, None, success, failure))
    assert (caught.value.name, caught.value.message) == ("InvalidParameterValueException", says)


def test_functions_that_are_told_are_looked_up() -> None:
    told = functions_told(REF, Wanted(None, None, QUEUE, OTHER))
    assert [each.function for each in told] == [("g", "live")]
    with pytest.raises(AwsError, match="at least one of error handling or destination setting"):
        put(Wanted(None, None, None, None), 1.0)
