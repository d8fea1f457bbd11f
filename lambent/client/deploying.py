"""Creating a function from a package, or updating it where its code or configuration differs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from lambent.client.errors import NotFound
from lambent.client.packaging import FunctionFile, Step
from lambent.client.sync import Client
from lambent.v1 import function_service_pb2 as fn

ROLE = "arn:aws:iam::{account}:role/lambent"

# Members as AWS names them, what botocore would take.
Document = dict[str, Any]


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
        document = {"Runtime": "python3.11", "Handler": "app.handler", **_configuration(wanted)}
        request = ParseDict(document, fn.CreateFunctionRequest())
        request.function_name, request.role = name, ROLE.format(account="000000000000")
        request.code.zip_file = data
        client.create_function(request)
        step("waiting until it is Active")
        return "created", client.wait_until_ready(name)
    action = "unchanged"
    if digest(data) != current.code_sha256:
        step("sending the code")
        client.update_function_code(fn.UpdateFunctionCodeRequest(function_name=name, zip_file=data))
        current = client.wait_until_ready(name)
        action = "updated"
    changes = differing(MessageToDict(current), _configuration(wanted))
    if changes:
        step("changing the configuration")
        change = ParseDict({"FunctionName": name, **changes}, fn.UpdateFunctionConfigurationRequest())
        client.update_function_configuration(change)
        action = "updated"
    step("waiting until it is Active")
    return action, client.wait_until_ready(name)


def digest(data: bytes) -> str:
    """A package's, as the API tells it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def differing(current: Document, wanted: Document) -> Document:
    """Members of a configuration that are to be others; those that nobody names stay. Variables are replaced as one."""

    def other(name: str, value: Any) -> bool:
        found = current.get(name)
        if name == "Environment":
            return bool((found or {}).get("Variables", {}) != value["Variables"])
        return differs(found, value)

    return {name: value for name, value in wanted.items() if other(name, value)}


def differs(current: Any, wanted: Any) -> bool:
    """Whether anything that is wanted is not so; members that are there besides do not matter."""
    if isinstance(wanted, dict):
        found = current if isinstance(current, dict) else {}
        return any(differs(found.get(name), each) for name, each in wanted.items())
    if current is None:
        return wanted not in ("", [], False)
    return bool(current != wanted)


def _configuration(wanted: FunctionFile) -> Document:
    """What the folder asks for."""
    found: Document = {
        "Runtime": wanted.runtime, "Handler": wanted.handler, "MemorySize": wanted.memory, "Timeout": wanted.timeout,
        "Description": wanted.description,
        "Environment": None if wanted.environment is None else {"Variables": wanted.environment},
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}
