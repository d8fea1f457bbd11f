"""The protos against AWS's own model, as botocore ships it: every served operation, member by member.

What differs on purpose is in the tables below, each with its reason; anything else that differs is a mistake.
"""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor

from lambent.v1 import options_pb2
from tools import api_page

MODELS = {name: botocore.session.Session().get_service_model(name) for name in api_page.MODELS}
# By "model.Operation".
METHODS: dict[str, Any] = {
    f"{api_page.model_of(method)}.{method.GetOptions().Extensions[options_pb2.method].aws_operation}": method
    for method in api_page.methods()
    if method.GetOptions().Extensions[options_pb2.method].aws_operation
}

# Operation → (AWS's model, ours).
STATUS_DIFFERENCES = {
    "lambda.DeleteFunction": (200, 204),  # the service answers 204; the model says 200
}

# "Shape.Member" in AWS's model → (constraint, why ours is another).
CONSTRAINT_DIFFERENCES: dict[str, tuple[str, str]] = {
    "CreateFunctionRequest.Timeout": ("max", "the model has no maximum, the service answers with 900"),
    "UpdateFunctionConfigurationRequest.Timeout": ("max", "the model has no maximum, the service answers with 900"),
    "CreateFunctionRequest.MemorySize": ("max", "the model's 32768 is for managed instances, which are not served"),
    "UpdateFunctionConfigurationRequest.MemorySize": ("max", "the model's 32768 is for managed instances"),
    "CreateFunctionRequest.Runtime": ("enum", "checked by the service, which answers with the list that is served"),
    "UpdateFunctionConfigurationRequest.Runtime": ("enum", "checked by the service"),
}

# "Shape.Member" in AWS's model that there is not here → why.
LEFT_OUT: dict[str, str] = {
    f"Target.{member}": "of a kind of target that is refused by its ARN"
    for member in (
        "AppSyncParameters", "BatchParameters", "EcsParameters", "EventBridgeParameters", "HttpParameters", "KinesisParameters",
        "RedshiftDataParameters", "RunCommandParameters", "SageMakerPipelineParameters", "SqsParameters",
    )
}  # fmt: skip

TYPES = {
    "string": {FieldDescriptor.TYPE_STRING},
    "integer": {FieldDescriptor.TYPE_INT32},
    "long": {FieldDescriptor.TYPE_INT64},
    "boolean": {FieldDescriptor.TYPE_BOOL},
    "double": {FieldDescriptor.TYPE_DOUBLE},
    "blob": {FieldDescriptor.TYPE_BYTES},
    "structure": {FieldDescriptor.TYPE_MESSAGE},
    "map": {FieldDescriptor.TYPE_MESSAGE},
    "list": {FieldDescriptor.TYPE_MESSAGE},  # as a map's value: google.protobuf.ListValue
    "timestamp": {FieldDescriptor.TYPE_MESSAGE},
}


def rule_of(field: Any) -> Any:
    return field.GetOptions().Extensions[options_pb2.field]


@pytest.fixture(params=sorted(METHODS))
def operation(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_something_is_served() -> None:
    assert {"lambda.Invoke", "application-autoscaling.RegisterScalableTarget"} <= METHODS.keys()


def model_of(operation: str) -> Any:
    """AWS's operation."""
    model, _, name = operation.partition(".")
    return MODELS[model].operation_model(name)


def test_method_path_and_status(operation: str) -> None:
    method = METHODS[operation]
    service = method.containing_service.GetOptions().Extensions[options_pb2.service]
    if service.target_prefix:
        model = MODELS[service.aws_model]
        assert (model.metadata["protocol"], model.metadata["jsonVersion"]) == ("json", "1.1")
        assert (service.target_prefix, service.signing_name) == (model.metadata["targetPrefix"], model.signing_name)
        assert service.internal_error in {shape.name for shape in model_of(operation).service_model.error_shapes}
        assert method.name == operation.partition(".")[2]
        assert dict(model_of(operation).http) == {"method": "POST", "requestUri": "/"}
        return
    if service.query_version:
        model = MODELS[service.aws_model]
        assert (model.metadata["protocol"], model.metadata["apiVersion"]) == ("query", service.query_version)
        assert (service.query_namespace, service.signing_name) == (model.metadata["xmlNamespace"], model.signing_name)
        assert model_of(operation).output_shape.serialization["resultWrapper"] == f"{method.name}Result"
        assert dict(model_of(operation).http) == {"method": "POST", "requestUri": "/"}
        return
    http = method.GetOptions().Extensions[annotations_pb2.http]
    theirs = model_of(operation).http
    verb = http.WhichOneof("pattern")
    assert verb.upper() == theirs["method"]
    template = getattr(http, verb)
    for field in method.input_type.fields:
        template = template.replace("{" + field.name + "}", "{" + field.json_name + "}")
    path, _, query = theirs["requestUri"].partition("?")
    assert template == path.rstrip("/")
    rule = method.GetOptions().Extensions[options_pb2.method]
    assert dict(rule.required_query) == dict(part.split("=", 1) for part in query.split("&") if part)
    expected = STATUS_DIFFERENCES.get(operation, (theirs["responseCode"],) * 2)
    assert (theirs["responseCode"], rule.success) == expected


def test_input(operation: str) -> None:
    model = model_of(operation)
    problems = compare(METHODS[operation].input_type, model.input_shape, is_input=True)
    assert problems == []


def test_output(operation: str) -> None:
    model = model_of(operation)
    problems = compare(METHODS[operation].output_type, model.output_shape, is_input=False)
    assert problems == []


def compare(message: Any, shape: Any, *, is_input: bool, seen: frozenset[str] = frozenset()) -> list[str]:
    """Everything in which a message differs from AWS's structure."""
    if shape is None:
        return [] if not message.fields else [f"{message.name}: AWS's operation has no such structure"]
    name = shape.name
    own = [field for field in message.fields if rule_of(field).extension]
    problems = [
        f"{name}.{field.json_name}: no extension, AWS has it" for field in own if field.json_name in shape.members
    ]
    problems += [f"{name}.{field.json_name}: {rule_of(field).name}" for field in own if not is_our_header(field)]
    fields = {field.json_name: field for field in message.fields if field not in own}
    missing = [member for member in shape.members if member not in fields and f"{name}.{member}" not in LEFT_OUT]
    problems += [f"{name}.{member}: missing" for member in missing]
    problems += [f"{name}.{member}: unknown to AWS" for member in fields if member not in shape.members]
    for member, theirs in shape.members.items():
        field = fields.get(member)
        if field is None:
            continue
        where = f"{name}.{member}"
        problems += member_problems(field, theirs, where)
        if is_input:
            required = member in shape.required_members and theirs.serialization.get("location") != "statusCode"
            if rule_of(field).required != required:
                problems.append(f"{where}: required is {rule_of(field).required}, AWS's {required}")
            problems += constraint_problems(field, theirs, where)
        inner = theirs.member if theirs.type_name == "list" else theirs
        if inner.type_name == "structure" and inner.name not in seen:
            problems += compare(field.message_type, inner, is_input=is_input, seen=seen | {inner.name})
    return problems


def is_our_header(field: Any) -> bool:
    """An extension travels in a header that AWS will not come to use, and is left out by those who do not know it."""
    rule = rule_of(field)
    return rule.location == options_pb2.LOCATION_HEADER and rule.name.startswith("X-Lambent-") and not rule.required


def member_problems(field: Any, theirs: Any, where: str) -> list[str]:
    problems = []
    kind = theirs.type_name
    if field.is_repeated != (kind in ("list", "map")):
        problems.append(f"{where}: repeated is {field.is_repeated}, AWS's type is {kind}")
    inner = theirs.member.type_name if kind == "list" else kind
    if field.type not in TYPES[inner]:
        problems.append(f"{where}: type {field.type} for AWS's {inner}")
    if (inner == "timestamp") != (
        field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp"
    ):
        problems.append(f"{where}: only timestamps are Timestamps")
    if kind == "map":
        value = field.message_type.fields_by_name.get("value")
        if value is None or value.type not in TYPES[theirs.value.type_name]:
            problems.append(f"{where}: not a map of {theirs.value.type_name}")
    elif kind != "list" and not field.has_presence:
        problems.append(f"{where}: absent and zero cannot be told apart; make it optional")
    return problems + location_problems(field, theirs, where)


def location_problems(field: Any, theirs: Any, where: str) -> list[str]:
    rule = rule_of(field)
    location = theirs.serialization.get("location")
    name = theirs.serialization.get("name", "")
    expected = {
        None: (options_pb2.LOCATION_UNSPECIFIED, ""),
        "uri": (options_pb2.LOCATION_UNSPECIFIED, ""),
        "querystring": (options_pb2.LOCATION_QUERY, name),
        "header": (options_pb2.LOCATION_HEADER, name),
        "statusCode": (options_pb2.LOCATION_STATUS_CODE, ""),
    }[location]
    is_payload = theirs.type_name == "blob" or theirs.serialization.get("eventstream", False)
    if is_payload and rule.location == options_pb2.LOCATION_PAYLOAD and location is None:
        return []  # `payload` is a trait of the structure, and botocore's shape of the member does not repeat it
    if (rule.location, rule.name) != expected:
        return [f"{where}: location {rule.location} {rule.name!r}, AWS's {location} {name!r}"]
    return []


def constraint_problems(field: Any, theirs: Any, where: str) -> list[str]:
    rule = rule_of(field)
    ours: dict[str, object] = {}
    bounds = rule.length if rule.HasField("length") else rule.value if rule.HasField("value") else None
    if bounds is not None:
        ours["min"] = bounds.min or None  # as below
        ours["max"] = bounds.max if bounds.HasField("max") else None
    ours["pattern"] = rule.pattern or None
    ours["enum"] = sorted(rule.values) or None
    wanted: dict[str, object] = {
        "min": theirs.metadata.get("min") or None,  # a minimum of 0 says nothing
        "max": theirs.metadata.get("max"),
        "pattern": theirs.metadata.get("pattern"),
        "enum": sorted(theirs.metadata["enum"]) if "enum" in theirs.metadata else None,
    }
    if theirs.type_name == "list":
        metadata = theirs.member.metadata
        ours["item"] = rule.item_pattern or None
        wanted["item"] = "|".join(metadata["enum"]) if "enum" in metadata else metadata.get("pattern")
    if theirs.type_name == "map":
        ours["key"] = rule.key_pattern or None
        ours["key-length"] = (rule.key_length.min, rule.key_length.max) if rule.HasField("key_length") else (None, None)
        ours["item"] = (
            (rule.item_value.min or None, rule.item_value.max) if rule.HasField("item_value") else (None, None)
        )
        wanted["key"] = theirs.key.metadata.get("pattern")
        wanted["key-length"] = (theirs.key.metadata.get("min"), theirs.key.metadata.get("max"))
        wanted["item"] = (theirs.value.metadata.get("min") or None, theirs.value.metadata.get("max"))
    recorded = CONSTRAINT_DIFFERENCES.get(where, ("", ""))[0]
    if recorded and ours.get(recorded) == wanted[recorded]:
        return [f"{where}: {recorded} is the same as AWS's; take it off the table"]
    return [
        f"{where}: {kind} {ours.get(kind)!r}, AWS's {wanted[kind]!r}"
        for kind in wanted
        if ours.get(kind) != wanted[kind] and kind != recorded
    ]


def test_every_recorded_difference_is_one() -> None:
    """A difference that is gone must leave the table."""
    known = {
        f"{shape}.{member}"
        for model in MODELS.values()
        for shape in model.shape_names
        for member in getattr(model.shape_for(shape), "members", {})
    }
    assert CONSTRAINT_DIFFERENCES.keys() | LEFT_OUT.keys() <= known
    for operation, (theirs, ours) in STATUS_DIFFERENCES.items():
        assert model_of(operation).http["responseCode"] == theirs != ours


def test_the_reference_page_is_current() -> None:
    assert api_page.PAGE.read_text() == api_page.page(), "run python -m tools.api_page"
