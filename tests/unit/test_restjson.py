"""restJson1 in both directions: presence, numbers, blobs, timestamps, wrong types."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lambent.domain.errors import AwsError
from lambent.v1 import function_service_pb2 as fn
from lambent.v1 import invocation_service_pb2 as inv
from lambent.v1 import layer_service_pb2 as layer
from lambent.v1 import log_service_pb2 as log
from lambent.v1.event_source_service_pb2 import CreateEventSourceMappingRequest, EventSourceMappingConfiguration
from services.frontend.transport.restjson import RequestCodec, ResponseCodec
from services.frontend.transport.validation import validator

CREATE = RequestCodec(fn.CreateFunctionRequest, [])
LIST = RequestCodec(fn.ListFunctionsRequest, [])
INVOKE = RequestCodec(inv.InvokeRequest, ["function_name"])
INVOKE_ASYNC = RequestCodec(inv.InvokeAsyncRequest, ["function_name"])


def read(document: Any) -> Any:
    return CREATE.read((), b"", {}, json.dumps(document).encode())


def test_absent_null_zero_and_empty_differ() -> None:
    request = read({"Timeout": 0, "MemorySize": None, "Environment": {}, "Unknown": [1], "Description": ""})
    assert request.HasField("timeout")
    assert not request.HasField("memory_size")
    assert request.HasField("environment")
    assert request.HasField("description")
    assert not request.HasField("vpc_config")


def test_nested_lists_maps_and_blobs() -> None:
    request = read({
        "Code": {"ZipFile": "AP8="},
        "Tags": {"a": "b", "gone": None},
        "Layers": ["x", None],
        "FileSystemConfigs": [{"Arn": "a"}],
        "Timeout": 3.0,
    })  # fmt: skip
    assert request.code.zip_file == b"\x00\xff"
    assert dict(request.tags) == {"a": "b"}
    assert list(request.layers) == ["x"]
    assert request.file_system_configs[0].arn == "a"
    assert request.timeout == 3


def test_maps_of_lists_come_and_go() -> None:
    name = "KAFKA_BOOTSTRAP_SERVERS"
    document = {"SelfManagedEventSource": {"Endpoints": {name: ["a:1", None, "b:2"], "gone": None}}}
    codec = RequestCodec(CreateEventSourceMappingRequest, [])
    request = codec.read((), b"", {}, json.dumps(document).encode())
    assert {key: list(each) for key, each in request.self_managed_event_source.endpoints.items()} == {
        name: ["a:1", "b:2"]
    }
    answer = EventSourceMappingConfiguration(self_managed_event_source=request.self_managed_event_source)
    _, _, body = ResponseCodec(EventSourceMappingConfiguration, 200).write(answer)
    assert json.loads(body)["SelfManagedEventSource"] == {"Endpoints": {name: ["a:1", "b:2"]}}
    check = validator(CreateEventSourceMappingRequest)
    for few in ([], ["a:1"] * 11):
        request.self_managed_event_source.endpoints[name].Clear()
        request.self_managed_event_source.endpoints[name].extend(few)
        with pytest.raises(AwsError, match="Map value must satisfy constraint"):
            check(request)
    for odd, told in (("x", "STRING_VALUE can not be converted to a list"), ([1], "NUMBER_VALUE")):
        with pytest.raises(AwsError, match=told):
            codec.read((), b"", {}, json.dumps({"SelfManagedEventSource": {"Endpoints": {name: odd}}}).encode())


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"Timeout": "3"}, "STRING_VALUE can not be converted to an Integer"),
        ({"Timeout": 3.5}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"Timeout": True}, "TRUE_VALUE can not be converted to an Integer"),
        ({"Timeout": 1 << 31}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"FunctionName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"Publish": "true"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"Code": []}, "START_ARRAY can not be converted to a structure"),
        ({"Layers": {}}, "START_OBJECT can not be converted to a list"),
        ({"Tags": []}, "START_ARRAY can not be converted to a map"),
        ({"Tags": {"a": 1}}, "NUMBER_VALUE can not be converted to a String"),
        ({"Code": {"ZipFile": "no base64!"}}, "Blob values must be base64 text"),
        ([], "Start of structure or map found where not expected."),
        ({"FunctionName": "\ud800"}, "Could not parse request body into json"),
    ],
)
def test_wrong_types(document: Any, message: str) -> None:
    with pytest.raises(AwsError) as caught:
        read(document)
    assert caught.value.name == "SerializationException"
    assert message in caught.value.message


@pytest.mark.parametrize("body", [b"{", b"\xff", b"nul", b"[" * 100_000])
def test_bodies_that_are_no_json(body: bytes) -> None:
    with pytest.raises(AwsError) as caught:
        CREATE.read((), b"", {}, body)
    assert caught.value.name == "SerializationException"


def test_query() -> None:
    request = LIST.read((), b"Marker=a%2Bb%20c+d&MaxItems=7&Other=1&&x", {}, b"")
    assert (request.marker, request.max_items) == ("a+b c d", 7)
    for query in (b"MaxItems=x", b"MaxItems=", b"Marker=%FF", b"Marker=\xff", b"MaxItems=99999999999"):
        with pytest.raises(AwsError) as caught:
            LIST.read((), query, {}, b"")
        assert caught.value.name == "SerializationException"


def test_an_empty_list_that_takes_something_away_differs_from_none() -> None:
    update, check = (
        RequestCodec(fn.UpdateFunctionConfigurationRequest, []),
        validator(fn.UpdateFunctionConfigurationRequest),
    )
    for document, items in (({}, []), ({"Layers": None}, []), ({"Layers": []}, [""])):
        request = update.read((), b"", {}, json.dumps({"FunctionName": "f"} | document).encode())
        assert list(request.layers) == items
        check(request)
    with pytest.raises(AwsError, match="'layers'"):
        check(update.read((), b"", {}, b'{"FunctionName": "f", "Layers": ["", ""]}'))
    for layers in ([""], [None]):  # what means none in a message means nothing in JSON
        with pytest.raises(AwsError, match="'layers'"):
            check(update.read((), b"", {}, json.dumps({"FunctionName": "f", "Layers": layers}).encode()))
    assert list(read({"Layers": []}).layers) == []


def test_an_empty_list_that_must_have_an_item_is_not_an_absent_one() -> None:
    with pytest.raises(AwsError, match="'architectures' failed to satisfy constraint: Member must have length greater"):
        read({"Architectures": []})
    assert list(read({"Architectures": None}).architectures) == []


def test_numbers_in_the_path() -> None:
    codec = RequestCodec(layer.GetLayerVersionRequest, ["layer_name", "version_number"])
    assert codec.read(("l", "-12"), b"", {}, b"").version_number == -12
    for text in ("x", "1.0", "", "9" * 19):
        with pytest.raises(AwsError, match="Long"):
            codec.read(("l", text), b"", {}, b"")


def test_path_headers_and_payload() -> None:
    headers = {b"x-amz-log-type": b"Tail", b"x-amz-client-context": b"e30="}
    request = INVOKE.read(("f",), b"Qualifier=%24LATEST", headers, b"\x00raw")
    assert (request.function_name, request.log_type, request.qualifier) == ("f", "Tail", "$LATEST")
    assert request.payload == b"\x00raw"
    assert not request.HasField("invocation_type")
    assert not INVOKE.read(("f",), b"", {}, b"").HasField("payload")
    with pytest.raises(AwsError):
        INVOKE.read(("\udcff",), b"", {}, b"")


def test_a_payload_that_must_be_there_may_be_empty() -> None:
    check = validator(inv.InvokeAsyncRequest)
    for body in (b"", b'{"n": 1}'):
        for _ in range(2):
            read = INVOKE_ASYNC.read_checked(("f",), b"", {}, body, check)
            assert (read.function_name, read.invoke_args) == ("f", body)
    with pytest.raises(AwsError, match="Value null at 'invokeArgs'"):
        check(inv.InvokeAsyncRequest(function_name="f"))


def test_response_numbers_presence_and_empty_lists() -> None:
    configuration = fn.FunctionConfiguration(code_size=1 << 40, timeout=0, environment=fn.EnvironmentResponse())
    status, headers, body = ResponseCodec(fn.FunctionConfiguration, 201).write(configuration)
    assert status == 201
    assert headers == [(b"Content-Type", b"application/json")]
    assert json.loads(body) == {"CodeSize": 1 << 40, "Timeout": 0, "Environment": {"Variables": {}}}
    _, _, body = ResponseCodec(fn.ListFunctionsResponse, 200).write(fn.ListFunctionsResponse())
    assert body == b'{"Functions":[]}'


def test_response_timestamps_are_epoch_seconds() -> None:
    _, _, body = ResponseCodec(log.LogLine, 200).write(log.LogLine(time=Timestamp(seconds=5, nanos=500_000_000)))
    assert body == b'{"Time":5.5}'
    _, _, body = ResponseCodec(log.LogLine, 200).write(log.LogLine(time=Timestamp(seconds=5)))
    assert body == b'{"Time":5}'
    codec = RequestCodec(log.TailLogsRequest, [])
    for value in (5.25, "1970-01-01T00:00:05.250+00:00"):
        assert codec.read((), b"", {}, json.dumps({"StartTime": value}).encode()).start_time.ToMilliseconds() == 5250
    for value in ("soon", True, 1e300):
        with pytest.raises(AwsError):
            codec.read((), b"", {}, json.dumps({"StartTime": value}).encode())


def test_invoke_response_is_headers_status_and_bytes() -> None:
    codec = ResponseCodec(inv.InvokeResponse, 200)
    response = inv.InvokeResponse(
        status_code=200, payload=b"\xff", function_error="Unhandled", executed_version="$LATEST"
    )
    status, headers, body = codec.write(response)
    assert (status, body) == (200, b"\xff")
    assert (b"X-Amz-Function-Error", b"Unhandled") in headers
    assert codec.write(inv.InvokeResponse(status_code=202))[0] == 202


@pytest.mark.parametrize("size", [786_431, 786_432, 786_433, 1_600_000])
def test_large_blobs_are_decoded_in_pieces_to_the_same_bytes(size: int) -> None:
    blob = bytes(range(256)) * (size // 256 + 1)
    text = base64.b64encode(blob[:size]).decode()
    assert read({"Code": {"ZipFile": text}}).code.zip_file == blob[:size]
    padded = text[: 1024 * 1024 - 4] + "AA==" + "AAAA" * 10
    for wrong in (padded, text[:-1] + "!", text + "A"):
        with pytest.raises(AwsError, match="Blob values must be base64 text"):
            read({"Code": {"ZipFile": wrong}})


def test_what_stands_around_a_payload_is_read_and_checked_once() -> None:
    codec, checks = RequestCodec(inv.InvokeRequest, ["function_name"]), list[str]()

    def check(message: inv.InvokeRequest) -> None:
        checks.append(message.function_name)

    def read(name: str, payload: bytes, log_type: bytes | None = None) -> inv.InvokeRequest:
        headers = {} if log_type is None else {b"x-amz-log-type": log_type}
        message: inv.InvokeRequest = codec.read_checked((name,), b"Qualifier=%24LATEST", headers, payload, check)
        assert message == codec.read((name,), b"Qualifier=%24LATEST", headers, payload)
        return message

    for size in (0, 1, 127, 128, 16_384, 100_000):
        assert read("f", b"x" * size).payload == b"x" * size
    assert not read("f", b"").HasField("payload")
    assert checks == ["f"]
    assert read("f", b"{}", b"Tail").log_type == "Tail"
    assert not read("f", b"{}").HasField("log_type")
    assert read("g", b"{}").function_name == "g"
    assert checks == ["f", "f", "g"]


def test_what_a_check_refuses_is_refused_every_time() -> None:
    codec = RequestCodec(inv.InvokeRequest, ["function_name"])
    check = validator(inv.InvokeRequest)
    for _ in range(2):
        with pytest.raises(AwsError, match="functionName"):
            codec.read_checked(("not a name",), b"", {}, b"{}", check)
        with pytest.raises(AwsError, match="UTF-8"):
            codec.read_checked(("f",), b"", {b"x-amz-log-type": b"\xff"}, b"{}", check)
