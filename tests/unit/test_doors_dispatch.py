"""The dispatch table refuses what does not match, and its validation speaks AWS's words."""

from __future__ import annotations

from typing import Any

import pytest

from lambent.domain.errors import AwsError
from lambent.infra.clock import SystemClock
from lambent.v1 import function_service_pb2 as fn
from lambent.v1 import invocation_service_pb2 as inv
from services.frontend.transport.dispatch import Dispatch, DispatchError
from services.frontend.transport.validation import java_pattern, validator
from tests.unit.doors_support import EchoFunctions, EchoInvocations, services

FUNCTIONS: Any = fn.DESCRIPTOR.services_by_name["FunctionService"]
INVOCATIONS: Any = inv.DESCRIPTOR.services_by_name["InvocationService"]
ROLE = "arn:aws:iam::123456789012:role/r"


class Lacking:
    """No operation at all, but a public coroutine that nobody calls."""

    async def invoked(self) -> None:
        """Not an RPC."""


class NotAsync(EchoInvocations):
    """The right name, the wrong kind."""

    def invoke(self, request: Any, call: Any) -> Any:
        return None


def test_every_rpc_has_an_entry() -> None:
    table = Dispatch(services(), clock=SystemClock())
    assert "lambent.v1.InvocationService.Invoke" in table.entries
    assert table.entries["lambent.v1.LogService.TailLogs"].run is None
    assert table.entries["lambent.v1.LogService.TailLogs"].stream is not None
    many = table.entries["lambent.v1.InvocationService.InvokeMany"].many
    assert many is table.entries["lambent.v1.InvocationService.Invoke"]


def test_missing_and_surplus_operations_are_named() -> None:
    with pytest.raises(DispatchError) as caught:
        Dispatch([(INVOCATIONS, Lacking())], clock=SystemClock())
    assert "Lacking.invoked is an operation of no RPC" in str(caught.value)
    assert "lambent.v1.InvocationService.Invoke has no operation: Lacking.invoke is missing" in str(caught.value)
    assert "InvokeMany is to take many of Invoke, which is no unary RPC beside it" in str(caught.value)
    with pytest.raises(DispatchError, match="must be a coroutine function"):
        Dispatch([(INVOCATIONS, NotAsync())], clock=SystemClock())
    with pytest.raises(DispatchError, match="create_function is an operation of no RPC"):
        Dispatch([(INVOCATIONS, EchoFunctions())], clock=SystemClock())


def violations(request: Any) -> str:
    with pytest.raises(AwsError) as caught:
        validator(type(request))(request)
    assert caught.value.name == "ValidationException"
    return caught.value.message


def create(**members: Any) -> fn.CreateFunctionRequest:
    return fn.CreateFunctionRequest(
        **{"function_name": "f", "role": ROLE, "code": fn.FunctionCode(zip_file=b"x"), **members}
    )


KEY_ARN = "(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()"
TWO = ["x86_64", "arm64"]


@pytest.mark.parametrize(
    ("message", "value", "constraint"),
    [
        (create(timeout=901), "'901' at 'timeout'", "have value less than or equal to 900"),
        (create(timeout=0), "'0' at 'timeout'", "have value greater than or equal to 1"),
        (create(description="x" * 257), f"'{'x' * 257}' at 'description'", "have length less than or equal to 256"),
        (create(package_type="Tar"), "'Tar' at 'packageType'", "satisfy enum value set: [Zip, Image]"),
        (create(kms_key_arn="key"), "'key' at 'kMSKeyArn'", f"satisfy regular expression pattern: {KEY_ARN}"),
        (create(architectures=TWO), "'[x86_64, arm64]' at 'architectures'", "have length less than or equal to 1"),
        (
            create(architectures=["ia64"]),
            "'[ia64]' at 'architectures'",
            "satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]",
        ),
        (create(ephemeral_storage=fn.EphemeralStorage()), "null at 'ephemeralStorage.size'", "not be null"),
        (
            create(file_system_configs=[fn.FileSystemConfig(arn="a" * 257, local_mount_path="/mnt/a")]),
            f"'{'a' * 257}' at 'fileSystemConfigs.1.member.arn'",
            "have length less than or equal to 256",
        ),
    ],
)
def test_texts(message: Any, value: str, constraint: str) -> None:
    assert f"Value {value} failed to satisfy constraint: Member must {constraint}" in violations(message)


def test_secrets_are_not_named() -> None:
    message = create(environment=fn.Environment(variables={"1": "hidden"}))
    assert violations(message) == (
        "1 validation error detected: Value '***' at 'environment.variables' failed to satisfy constraint: "
        "Map keys must satisfy constraint: "
        "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]"
    )


def test_violations_come_in_the_order_of_the_members() -> None:
    text = violations(fn.CreateFunctionRequest(timeout=0, package_type="x"))
    assert text.startswith("5 validation errors detected: Value null at 'functionName'")
    order = [text.index(f"'{name}'") for name in ("functionName", "role", "code", "timeout", "packageType")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "name", ["f", "f:prod", "123456789012:function:f", "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"]
)
def test_good_names_pass(name: str) -> None:
    validator(fn.CreateFunctionRequest)(create(function_name=name))


def test_patterns_match_whole_values_in_ascii_only() -> None:
    assert "functionName" in violations(create(function_name="f\n"))
    assert "role" in violations(create(role=ROLE.replace("123456789012", "١٢٣٤٥٦٧٨٩٠١٢")))


def test_java_dot_stops_at_every_line_end() -> None:
    assert java_pattern(r"a.[.]\.") == r"a[^\n\r\u0085\u2028\u2029][.]\."


def test_long_values_are_cut() -> None:
    assert len(violations(create(description="x" * 100_000))) < 5000
