"""What can be sent, and what requests of both doors have in common.

What a request may do to the cluster is bounded, so that it can be judged afterwards: the function `steady` is only read
and invoked, what is created is called z<number>, and only `victim` and z<number> are changed or deleted.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from typing import Any, Literal

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from lambent.v1 import options_pb2
from tests.fuzz import documents
from tests.fuzz.packages import GOOD
from tools import api_page

ACCOUNT, REGION = "000000000000", "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"
STEADY, VICTIM = "steady", "victim"

Sending = Literal["whole", "slices", "half closed", "gone"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One RPC, with its place on the HTTP doors."""

    method: MethodDescriptor
    verb: str | None  # None: gRPC only
    path: str
    target: str = ""  # X-Amz-Target; empty: not of the JSON 1.1 door
    signing_name: str = "lambda"
    form: bytes = b""  # what names it on the Query door; empty: not of that

    @property
    def name(self) -> str:
        return self.method.name


def _operations() -> list[Operation]:
    out = []
    for method in api_page.methods():
        rule = method.containing_service.GetOptions().Extensions[options_pb2.service]
        if rule.target_prefix:
            out.append(Operation(method, "POST", "/", f"{rule.target_prefix}.{method.name}", rule.signing_name))
            continue
        if rule.query_version:
            form = f"Action={method.name}&Version={rule.query_version}".encode()
            out.append(Operation(method, "POST", "/", signing_name=rule.signing_name, form=form))
            continue
        http = method.GetOptions().Extensions[annotations_pb2.http]
        verb = http.WhichOneof("pattern")
        out.append(Operation(method, verb and verb.upper(), getattr(http, verb) if verb else ""))
    return out


OPERATIONS = _operations()
WEIGHTS = {"CreateFunction": 5, "Invoke": 5, "UpdateFunctionConfiguration": 3, "UpdateFunctionCode": 2}
# What changes or deletes something that is there.
CHANGING = frozenset(
    each.name
    for each in OPERATIONS
    if (each.verb not in (None, "GET") and each.name not in ("CreateFunction", "Invoke", "InvokeAsync")) or each.target
)
ALIAS = "live"


@dataclass(frozen=True, slots=True)
class World:
    """What a generator must know of the cluster."""

    host: str
    key: str
    secret: str
    now: float  # epoch seconds


@dataclass(frozen=True, slots=True)
class RestCase:
    """Bytes for the REST door."""

    number: int
    what: str  # for people: the operation and what is wrong with it
    operation: str
    method: str
    wire: bytes
    sending: Sending = "whole"
    cuts: tuple[int, ...] = ()  # where the bytes are divided
    must_answer: bool = True  # else the connection may also just be closed
    subject: str = ""  # the function that it may create or delete


@dataclass(frozen=True, slots=True)
class GrpcCase:
    """A call on the gRPC door."""

    number: int
    what: str
    operation: str
    path: str
    message: bytes
    metadata: tuple[tuple[str, str | bytes], ...]
    timeout: float
    streams: bool
    cancel_after: float | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class RawCase:
    """Bytes for the gRPC door's port that are no HTTP/2, or too little of it."""

    number: int
    what: str
    wire: bytes = field(repr=False)


Case = RestCase | GrpcCase | RawCase


def subject(rng: random.Random, number: int, operation: str) -> str:
    if operation == "CreateFunction":
        return f"z{number}"
    if operation in CHANGING:
        return rng.choice([VICTIM, f"z{max(0, number - rng.randint(1, 300))}"])
    return rng.choice([STEADY, STEADY, STEADY, VICTIM])


def spelling(rng: random.Random, name: str) -> str:
    """A name as clients spell it, or as they should not."""
    good = [
        name,
        name,
        name,
        f"{name}:$LATEST",
        f"function:{name}",
        f"{ACCOUNT}:function:{name}",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
    ]
    if rng.random() < 0.75:
        return rng.choice(good)
    bad = [
        "", " ", ".", "..", "x" * 65, "x" * 141, "x" * 257, "x" * 10_000, "a b", "ü", "\0", "\n", f"{name}:", f":{name}", f"{name}:7",
        f"{name}:$OTHER", f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:{name}", f"arn:aws:lambda:{REGION}:111111111111:function:{name}",
        f"arn:aws:s3:::{name}", "arn:aws:lambda", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:", f"{name}/{name}", "%00", "a" * 9 + "." * 9, "$LATEST",
        f"{name}:a:b", f"１２３４５６７８９０１２:function:{name}",
    ]  # fmt: skip
    return rng.choice(bad)


def document(rng: random.Random, operation: Operation, name: str) -> dict[str, Any]:
    """A good request as a JSON document."""
    match operation.name:
        case "CreateFunction":
            code = base64.b64encode(GOOD).decode() if rng.random() < 0.5 else documents.blob(rng)
            return {
                "FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler", "Code": {"ZipFile": code},
            }  # fmt: skip
        case "UpdateFunctionCode":
            return {"ZipFile": documents.blob(rng)}
        case "UpdateFunctionConfiguration":
            return {"Timeout": 3, "Description": "fuzzed"}
        case "CreateAlias" | "UpdateAlias":
            weights = {"1": 0.5} if rng.random() < 0.5 else {}
            return {
                "Name": ALIAS, "FunctionVersion": rng.choice(["1", "2", "$LATEST"]),
                "RoutingConfig": {"AdditionalVersionWeights": weights},
            }  # fmt: skip
        case "TagResource" if not operation.target:
            return {"Tags": {"team": "x", "größe": ""}}
        case _ if operation.target:
            return _scaling(rng, name)
        case "AddPermission":
            principal = rng.choice(["111111111111", "s3.amazonaws.com", "*", "nobody"])
            return {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": principal}
        case "CreateFunctionUrlConfig" | "UpdateFunctionUrlConfig":
            cors = {
                "AllowOrigins": [rng.choice(["*", "https://a.example", "", "x" * 300])],
                "MaxAge": rng.choice([0, 86400]),
            }
            return {"AuthType": rng.choice(["NONE", "AWS_IAM"]), "Cors": cors}
        case "CreateEventSourceMapping" | "UpdateEventSourceMapping":
            return {
                "EventSourceArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{rng.choice(['q', 'q.fifo', '', 'ü'])}", "FunctionName": name,
                "BatchSize": rng.choice([1, 10, 11]), "FilterCriteria": {"Filters": [{"Pattern": rng.choice(["{}", '{"body": [1]}', "{"])}]},
                "ScalingConfig": {}, "MetricsConfig": {"Metrics": []},
            }  # fmt: skip
        case "PutFunctionConcurrency":
            return {"ReservedConcurrentExecutions": rng.choice([0, 1, 900])}
        case "PutProvisionedConcurrencyConfig":
            return {"ProvisionedConcurrentExecutions": rng.choice([1, 900])}
        case _:
            return {}


def _scaling(rng: random.Random, name: str) -> dict[str, Any]:
    """What any operation of Application Auto Scaling takes; members that one does not know are passed over."""
    schedule = rng.choice(["rate(1 day)", "at(2100-01-01T00:00:00)", "cron(0 9 ? * MON-FRI *)", "cron(0 0 30 2 ? *)"])
    metric = {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}
    return {
        "ServiceNamespace": "lambda", "ResourceId": f"function:{name}:{rng.choice([ALIAS, '1', '$LATEST'])}",
        "ScalableDimension": "lambda:function:ProvisionedConcurrency", "MinCapacity": 0, "MaxCapacity": rng.choice([0, 2]),
        "PolicyName": "p", "PolicyType": "TargetTrackingScaling", "ScheduledActionName": "a", "Schedule": schedule,
        "TargetTrackingScalingPolicyConfiguration": {"TargetValue": 0.5, "PredefinedMetricSpecification": metric},
        "ScalableTargetAction": {"MinCapacity": 1},
    }  # fmt: skip


def payload(rng: random.Random) -> bytes:
    share = rng.random()
    if share < 0.004:
        return b'"' + b"x" * (6 * 1024 * 1024 - 2 + rng.choice([0, 1, 1])) + b'"'
    good = rng.choice([b"", b"{}", b'{"a": [1, 2, {"b": null}]}', b'"x"', b"0", b'"' + b"y" * 300_000 + b'"'])
    return good if share < 0.6 else documents.spoil(rng, good)
