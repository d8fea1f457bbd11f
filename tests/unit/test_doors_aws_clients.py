"""The REST door as AWS's own clients see it: boto3 and the aws command, over a real socket."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from tests.unit.doors_support import ACCOUNT, KEY, REGION, Doors, both_doors, run

AWS = str(Path(sys.executable).parent / "aws")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda"


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    async with both_doors() as doors:
        yield doors


def client(doors: Doors, secret: str = KEY.secret, key_id: str = KEY.id, region: str = REGION) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=doors.url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name=region,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )


async def call(operation: Callable[..., Any], **arguments: Any) -> Any:
    return await asyncio.to_thread(lambda: operation(**arguments))


async def failure(operation: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        await call(operation, **arguments)
    response: dict[str, Any] = caught.value.response
    return response


async def test_create_sends_every_kind_of_member_and_reads_the_answer(doors: Doors) -> None:
    answer = await call(
        client(doors).create_function,
        FunctionName="hello",
        Role=ROLE,
        Runtime="python3.11",
        Handler="app.handler",
        Code={"ZipFile": b"\x00\xff zip"},
        Timeout=7,
        Environment={"Variables": {"KEY": "välue"}},
        Architectures=["arm64"],
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert answer["FunctionName"] == "hello"
    assert answer["CodeSize"] == 6 + (1 << 40)
    assert answer["Timeout"] == 7
    assert answer["Environment"] == {"Variables": {"KEY": "välue"}}
    assert answer["Architectures"] == ["arm64"]
    assert "Description" not in answer
    request, seen = doors.functions.seen[0]
    assert request.code.zip_file == b"\x00\xff zip"
    assert not request.HasField("memory_size")
    assert seen.tenant.account == ACCOUNT
    assert seen.principal.arn == f"arn:aws:iam::{ACCOUNT}:user/deploy"
    assert answer["ResponseMetadata"]["RequestId"] == seen.request_id


async def test_arn_and_qualifier_arrive_decoded_and_zero_is_kept(doors: Doors) -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello:prod"
    answer = await call(client(doors).get_function, FunctionName=arn, Qualifier="$LATEST")
    assert answer["Configuration"] == {"FunctionName": arn, "Version": "$LATEST"}
    assert answer["Tags"] == {"account": ACCOUNT, "region": REGION}
    assert answer["Concurrency"] == {"ReservedConcurrentExecutions": 0}


async def test_the_region_of_the_signature_is_the_tenants(doors: Doors) -> None:
    answer = await call(client(doors, region="eu-central-1").get_function, FunctionName="hello")
    assert answer["Tags"]["region"] == "eu-central-1"


async def test_query_members_and_an_empty_list(doors: Doors) -> None:
    answer = await call(client(doors).list_functions, Marker="a b+c/ü", MaxItems=5)
    assert answer["Functions"] == []
    assert answer["NextMarker"] == "a b+c/ü|5"


async def test_invoke_passes_bytes_through(doors: Doors) -> None:
    answer = await call(client(doors).invoke, FunctionName="hello", Payload=b'{"a": 1}', LogType="Tail")
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert await asyncio.to_thread(answer["Payload"].read) == b'{"a": 1}'
    assert "FunctionError" not in answer
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"].startswith("Root=1-")
    assert doors.invocations.seen[0][0].log_type == "Tail"


async def test_invoke_sets_the_status_line(doors: Doors) -> None:
    answer = await call(client(doors).invoke, FunctionName="hello", InvocationType="Event", Payload=b"{}")
    assert answer["StatusCode"] == 202


async def test_delete_answers_204_without_a_body(doors: Doors) -> None:
    answer = await call(client(doors).delete_function, FunctionName="hello")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


async def test_throttle_carries_reason_type_and_retry_after(doors: Doors) -> None:
    error = await failure(client(doors).invoke, FunctionName="throttled")
    assert error["Error"]["Code"] == "TooManyRequestsException"
    assert error["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert error["Type"] == "User"
    assert error["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 429


async def test_not_found(doors: Doors) -> None:
    error = await failure(client(doors).get_function, FunctionName="missing")
    assert error["Error"] == {"Code": "ResourceNotFoundException", "Message": "Function not found: missing"}
    assert error["Type"] == "User"
    assert ("GetFunction", "ResourceNotFoundException") in doors.outcomes


async def test_all_violations_in_one_answer(doors: Doors) -> None:
    error = await failure(
        client(doors).create_function, FunctionName="hello", Timeout=901, MemorySize=1, Role="x", Code={}
    )
    assert error["Error"]["Code"] == "ValidationException"
    assert error["Error"]["Message"] == (
        "3 validation errors detected: Value 'x' at 'role' failed to satisfy constraint: Member must satisfy regular "
        "expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+; "
        "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900; "
        "Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"
    )
    assert "Type" not in error


async def test_wrong_type_is_a_serialization_exception(doors: Doors) -> None:
    error = await failure(client(doors).create_function, FunctionName="hello", Role=ROLE, Code={}, Timeout="soon")
    assert error["Error"] == {
        "Code": "SerializationException",
        "Message": "STRING_VALUE can not be converted to an Integer",
    }


async def test_a_defect_shows_its_request_id_and_nothing_else(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(client(doors).get_function_configuration, FunctionName="hello")
    request_id = error["ResponseMetadata"]["RequestId"]
    assert error["Error"]["Code"] == "ServiceException"
    assert error["Error"]["Message"] == f"An internal error occurred. Request id: {request_id}"
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert vars(record)["request_id"] == request_id
    assert "a defect with a secret" in str(record.exc_info)


async def test_wrong_secret_and_unknown_key(doors: Doors) -> None:
    error = await failure(client(doors, secret="wrong").list_functions)
    assert error["Error"]["Code"] == "InvalidSignatureException"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    error = await failure(client(doors, key_id="AKIDOTHER").list_functions)
    assert error["Error"] == {
        "Code": "UnrecognizedClientException",
        "Message": "The security token included in the request is invalid.",
    }


async def test_payload_over_the_limit_is_refused(doors: Doors) -> None:
    error = await failure(client(doors).invoke, FunctionName="hello", Payload=b"1" * (6 * 1024 * 1024 + 1))
    assert error["Error"] == {
        "Code": "RequestEntityTooLargeException",
        "Message": "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)",
    }
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 413


async def test_payload_at_the_limit_passes(doors: Doors) -> None:
    payload = b"1" * (6 * 1024 * 1024)
    answer = await call(client(doors).invoke, FunctionName="hello", Payload=payload)
    assert await asyncio.to_thread(answer["Payload"].read) == payload


async def test_unserved_operation_is_unknown(doors: Doors) -> None:
    error = await failure(client(doors).get_policy, FunctionName="hello")
    assert error["Error"]["Code"] == "UnknownOperationException"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 404


async def test_aws_command_line(doors: Doors, tmp_path: Path) -> None:
    env = {
        "AWS_ACCESS_KEY_ID": KEY.id,
        "AWS_SECRET_ACCESS_KEY": KEY.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "1",
    }
    base = (AWS, "--endpoint-url", doors.url, "lambda")
    out = tmp_path / "out.json"
    status, text, errors = await run(
        *base, "invoke", "--function-name", "hello", "--payload", '{"x": 1}', str(out), env=env
    )
    assert status == 0, errors
    assert json.loads(text) == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert json.loads(out.read_bytes()) == {"x": 1}
    status, text, errors = await run(*base, "get-function", "--function-name", "missing", env=env)
    assert status != 0
    assert "ResourceNotFoundException" in errors


async def test_a_stream_is_read_event_by_event(doors: Doors) -> None:
    answer = await call(client(doors).invoke_with_response_stream, FunctionName="hello", Payload=b'"ab"')
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "7")
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    events = await asyncio.to_thread(list, answer["EventStream"])
    assert [event["PayloadChunk"]["Payload"] for event in events[:-1]] == [b'"', b"a", b"b", b'"']
    assert events[-1] == {"InvokeComplete": {"LogResult": "bG9n"}}


async def test_a_stream_that_fails_before_it_begins_is_an_error_like_any_other(doors: Doors) -> None:
    response = await failure(client(doors).invoke_with_response_stream, FunctionName="broken", Payload=b"1")
    assert (response["Error"]["Code"], response["Error"]["Message"]) == ("ServiceException", "It is broken.")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 500


async def test_a_stream_that_breaks_says_so_as_its_last_event(doors: Doors) -> None:
    answer = await call(client(doors).invoke_with_response_stream, FunctionName="breaks", Payload=b"12")
    stream = iter(answer["EventStream"])
    assert next(stream) == {"PayloadChunk": {"Payload": b"1"}}
    with pytest.raises(EventStreamError, match="It broke"):
        next(stream)
    answer["EventStream"].close()
