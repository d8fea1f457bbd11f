"""Creating a function from a package, or updating it where its code or configuration differs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from lambent.client.errors import NotFound
from lambent.client.packaging import FunctionFile, Step
from lambent.client.sync import Client
from lambent.v1 import function_service_pb2 as fn

ROLE = "arn:aws:iam::{account}:role/lambent"


def deploy(
    client: Client, folder: Path, wanted: FunctionFile, data: bytes, step: Step
) -> tuple[str, fn.FunctionConfiguration]:
    """Create or update by hash. Answers what was done and the configuration that is then Active."""
    name = wanted.name or folder.resolve().name
    step(f"looking for {name}")
    try:
        current = client.get_function(name).configuration
    except NotFound:
        step(f"creating {name}")
        client.create_function(_creation(name, wanted, data))
        step("waiting until it is Active")
        return "created", client.wait_until_ready(name)
    action = "unchanged"
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    if digest != current.code_sha256:
        step("sending the code")
        client.update_function_code(fn.UpdateFunctionCodeRequest(function_name=name, zip_file=data))
        current = client.wait_until_ready(name)
        action = "updated"
    changes = _changes(current, wanted)
    if changes is not None:
        step("changing the configuration")
        client.update_function_configuration(changes)
        action = "updated"
    step("waiting until it is Active")
    return action, client.wait_until_ready(name)


def _creation(name: str, wanted: FunctionFile, data: bytes) -> fn.CreateFunctionRequest:
    request = fn.CreateFunctionRequest(
        function_name=name,
        role=ROLE.format(account="000000000000"),
        runtime=wanted.runtime or "python3.11",
        handler=wanted.handler or "app.handler",
        memory_size=wanted.memory,
        timeout=wanted.timeout,
        description=wanted.description,
        code=fn.FunctionCode(zip_file=data),
    )
    if wanted.environment is not None:
        request.environment.variables.update(wanted.environment)
    return request


def _changes(current: fn.FunctionConfiguration, wanted: FunctionFile) -> fn.UpdateFunctionConfigurationRequest | None:
    """What the folder asks for and the function does not have; members that nobody names stay as they are."""
    request = fn.UpdateFunctionConfigurationRequest()
    for field, value in (
        ("runtime", wanted.runtime), ("handler", wanted.handler), ("memory_size", wanted.memory),
        ("timeout", wanted.timeout), ("description", wanted.description),
    ):  # fmt: skip
        if value is not None and value != getattr(current, field):
            setattr(request, field, value)
    if wanted.environment is not None and wanted.environment != dict(current.environment.variables):
        request.environment.SetInParent()
        request.environment.variables.update(wanted.environment)
    if not request.ListFields():
        return None
    request.function_name = current.function_name
    return request
