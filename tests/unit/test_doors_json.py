"""The JSON 1.1 door: targets, signatures and errors, around a service that echoes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lambent.domain.errors import AwsError
from lambent.domain.limits import Limits
from lambent.infra.clock import SystemClock
from lambent.infra.http import HttpRequest, HttpResponse
from lambent.infra.log_store import MemoryLogStore
from lambent.v1 import log_group_service_pb2
from lambent.v1 import scaling_service_pb2 as pb
from services.frontend.operations.log_groups import LogGroupOperations
from services.frontend.transport.call import Call
from tests.unit.doors_support import ACCOUNT, KEY, REGION, http_doors

LOGS = log_group_service_pb2.DESCRIPTOR.services_by_name["LogGroupService"]
SERVICE = pb.DESCRIPTOR.services_by_name["ScalingService"]
IDS = {
    "ServiceNamespace": "lambda", "ResourceId": "function:f:live",
    "ScalableDimension": "lambda:function:ProvisionedConcurrency",
}  # fmt: skip


def echo(name: str) -> Any:
    """An operation that misbehaves for some resources."""

    async def operation(self: Any, request: Any, call: Call) -> Any:
        self.seen.append((request, call))
        if getattr(request, "resource_id", "") == "missing":
            raise AwsError("ObjectNotFoundException", "No scalable target found")
        if getattr(request, "resource_id", "") == "defect":
            raise RuntimeError("a secret")
        if name == "RegisterScalableTarget":
            return pb.RegisterScalableTargetResponse(scalable_target_arn="arn")
        if name == "DescribeScalableTargets":
            answer = pb.DescribeScalableTargetsResponse()
            target = answer.scalable_targets.add(min_capacity=0, max_capacity=2)
            target.creation_time.FromMilliseconds(1500)
            return answer
        return getattr(pb, SERVICE.methods_by_name[name].output_type.name)()

    return operation


def snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")


Echo = type("Echo", (), {snake(method.name): echo(method.name) for method in SERVICE.methods})


class Bench:
    """Both HTTP doors without sockets."""

    def __init__(self) -> None:
        self.echo: Any = Echo()
        self.echo.seen = []
        self.door, self.outcomes = http_doors((SERVICE, self.echo), (LOGS, NoGroups()))

    async def send(
        self, target: str | None, body: bytes, *, method: str = "POST", service: str = "application-autoscaling"
    ) -> HttpResponse:
        return await self.door.handle(self.request(target, body, method, service))

    def request(self, target: str | None, body: bytes, method: str, service: str) -> HttpRequest:
        headers = {"Content-Type": "application/x-amz-json-1.1"} | ({} if target is None else {"X-Amz-Target": target})
        request = AWSRequest(method, "http://h/", data=body, headers=headers)
        SigV4Auth(Credentials(KEY.id, KEY.secret), service, REGION).add_auth(request)
        low = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
        return HttpRequest(method, b"/", b"", {**low, b"host": b"h"}, body)


def error(response: HttpResponse) -> tuple[int, str, str]:
    document = json.loads(response.body)
    assert document.keys() == {"__type", "Message"}
    assert dict(response.headers)[b"Content-Type"] == b"application/x-amz-json-1.1"
    assert len(dict(response.headers)[b"x-amzn-RequestId"]) == 36
    return response.status, document["__type"], document["Message"]


async def test_a_document_goes_in_and_comes_out() -> None:
    bench = Bench()
    answer = await bench.send(
        "AnyScaleFrontendService.RegisterScalableTarget", json.dumps(IDS | {"MinCapacity": 0, "Nobody": 1}).encode()
    )
    assert (answer.status, json.loads(answer.body)) == (200, {"ScalableTargetARN": "arn"})
    request, call = bench.echo.seen[0]
    assert (request.resource_id, request.min_capacity, request.HasField("max_capacity")) == (
        "function:f:live",
        0,
        False,
    )
    assert (call.door, call.tenant.account, call.tenant.region) == ("json", ACCOUNT, REGION)
    listed = await bench.send("AnyScaleFrontendService.DescribeScalableTargets", b'{"ServiceNamespace": "lambda"}')
    assert json.loads(listed.body) == {"ScalableTargets": [{"MinCapacity": 0, "MaxCapacity": 2, "CreationTime": 1.5}]}
    empty = await bench.send("AnyScaleFrontendService.DeregisterScalableTarget", json.dumps(IDS).encode())
    assert (empty.status, empty.body) == (200, b"{}")
    assert bench.outcomes == [
        ("RegisterScalableTarget", "OK"), ("DescribeScalableTargets", "OK"), ("DeregisterScalableTarget", "OK"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (None, "POST"), ("", "POST"), ("AnyScaleFrontendService.Nothing", "POST"), ("CreateFunction", "POST"),
        ("AnyScaleFrontendService.TagResource", "PUT"), ("FunctionService.CreateFunction", "POST"),
    ],
)  # fmt: skip
async def test_what_names_no_operation(target: str | None, method: str) -> None:
    assert error(await Bench().send(target, b"{}", method=method))[:2] == (400, "UnknownOperationException")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"MinCapacity": "1"}', b'{"Tags": 1}']
)
async def test_what_is_no_such_document(body: bytes) -> None:
    answer = error(await Bench().send("AnyScaleFrontendService.RegisterScalableTarget", body))
    assert answer[:2] == (400, "SerializationException")


async def test_values_out_of_shape_are_told_in_awss_words() -> None:
    answer = error(await Bench().send("AnyScaleFrontendService.DescribeScalableTargets", b'{"ServiceNamespace": "x"}'))
    assert answer[:2] == (400, "ValidationException")
    assert (
        "Value 'x' at 'serviceNamespace' failed to satisfy constraint: Member must satisfy enum value set" in answer[2]
    )
    absent = error(await Bench().send("AnyScaleFrontendService.DescribeScalableTargets", b""))
    assert absent[2].endswith("Value null at 'serviceNamespace' failed to satisfy constraint: Member must not be null")


async def test_patterns_of_javas_kind_and_long_values() -> None:
    bench = Bench()

    async def put(name: str) -> HttpResponse:
        document = json.dumps(IDS | {"ScheduledActionName": name}).encode()
        return await bench.send("AnyScaleFrontendService.PutScheduledAction", document)

    for name in ("a", "morning \N{SNAKE}", "x" * 256):
        assert (await put(name)).status == 200, name
    for name in (" a", "a ", "a:b", "a/b", "a|b", "a\x07", "", "x" * 257):
        assert error(await put(name))[1] == "ValidationException", name
    async with asyncio.timeout(5):
        assert error(await put("a" + " " * 100_000 + "b"))[1] == "ValidationException"


async def test_operations_errors_keep_their_names_and_defects_their_secrets() -> None:
    bench, target = Bench(), "AnyScaleFrontendService.DeregisterScalableTarget"
    missing = await bench.send(target, json.dumps(IDS | {"ResourceId": "missing"}).encode())
    assert error(missing) == (400, "ObjectNotFoundException", "No scalable target found")
    defect = error(await bench.send(target, json.dumps(IDS | {"ResourceId": "defect"}).encode()))
    assert defect[:2] == (500, "InternalServiceException")
    assert "secret" not in defect[2]


async def test_signatures_are_made_for_the_service() -> None:
    bench, target = Bench(), "AnyScaleFrontendService.DeregisterScalableTarget"
    wrong = error(await bench.send(target, json.dumps(IDS).encode(), service="lambda"))
    assert wrong == (
        400, "InvalidSignatureException", "Credential should be scoped to correct service: 'application-autoscaling'.",
    )  # fmt: skip
    unsigned = await bench.door.handle(HttpRequest("POST", b"/", b"", {b"x-amz-target": target.encode()}, b"{}"))
    assert error(unsigned)[:2] == (400, "MissingAuthenticationTokenException")
    changed = bench.request(target, b"{}", "POST", "application-autoscaling")
    changed.body = b'{"a": 1}'
    assert error(await bench.door.handle(changed))[1] == "InvalidSignatureException"
    assert not bench.echo.seen


class NoGroups(LogGroupOperations):
    """CloudWatch Logs without a log."""

    def __init__(self) -> None:
        super().__init__(MemoryLogStore(), Limits(), SystemClock())


async def test_services_beside_each_other_have_their_own_ways() -> None:
    bench = Bench()

    async def logs(operation: str, document: dict[str, Any], service: str = "logs") -> tuple[int, dict[str, Any]]:
        answer = await bench.send(f"Logs_20140328.{operation}", json.dumps(document).encode(), service=service)
        return answer.status, json.loads(answer.body)

    assert await logs("DescribeLogGroups", {}) == (200, {"logGroups": []})
    status, shape = await logs("FilterLogEvents", {"logGroupName": "a b"})
    assert (status, shape["__type"]) == (400, "InvalidParameterException")
    assert shape["message"].startswith("1 validation error detected: Value 'a b' at 'logGroupName'")
    missing = {"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."}
    assert await logs("DeleteLogGroup", {"logGroupName": "none"}) == (400, missing)
    _, wrong = await logs("DescribeLogGroups", {}, service="application-autoscaling")
    assert wrong == {
        "__type": "InvalidSignatureException", "message": "Credential should be scoped to correct service: 'logs'.",
    }  # fmt: skip


async def test_other_paths_are_the_rest_doors() -> None:
    bench = Bench()
    head = HttpRequest("GET", b"/2015-03-31/functions", b"", {b"host": b"h"})
    assert (await bench.door.handle(head)).status == 403
    assert bench.door.body_limit(head) > bench.door.body_limit(bench.request(None, b"", "POST", "x"))
    assert (
        error(bench.door.too_large(bench.request(None, b"", "POST", "x"), 10**7))[1] == "RequestEntityTooLargeException"
    )
    assert bench.door.unwelcome(bench.request(None, b"", "POST", "lambda")) is not None
