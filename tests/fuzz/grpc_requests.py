"""Calls for the gRPC door, and bytes that are none."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from lambent.infra import tokens
from tests.fuzz import documents
from tests.fuzz.packages import GOOD, any_package
from tests.fuzz.requests import (
    ALIAS,
    OPERATIONS,
    REGION,
    ROLE,
    WEIGHTS,
    GrpcCase,
    Operation,
    RawCase,
    World,
    payload,
    spelling,
    subject,
)

_GRPC_WEIGHTS = [WEIGHTS.get(each.name, 1) for each in OPERATIONS]


def grpc(rng: random.Random, number: int, world: World) -> GrpcCase:
    """One call on the gRPC door."""
    operation = rng.choices(OPERATIONS, _GRPC_WEIGHTS)[0]
    about = subject(rng, number, operation.name)
    name = about if rng.random() < 0.7 else spelling(rng, about)
    message = _message(rng, operation, name)
    data = message if rng.random() < 0.15 else _mutated(rng, operation, message)
    path, tricks = f"/{operation.method.containing_service.full_name}/{operation.name}", []
    if rng.random() < 0.04:
        path = rng.choice(
            [
                path + "x",
                path.lower(),
                "/lambent.v1.FunctionService/",
                "/x/y",
                "/grpc.health.v1.Health/Check",
                "/lambent.internal.v1.LeaseService/Lease",
                "//",
            ]
        )
        tricks.append(f"path {path}")
    token, trick = _token(rng, world)
    metadata: list[tuple[str, str | bytes]] = [] if token is None else [("authorization", token)]
    if trick:
        tricks.append(trick)
    if rng.random() < 0.05:
        odd: list[tuple[str, str | bytes]] = [
            ("x-amzn-trace-id", "Root="),
            ("traceparent", "00-x"),
            ("junk-bin", rng.randbytes(99)),
            ("authorization", "Bearer x"),
            ("long", "y" * 5000),
        ]
        metadata.append(rng.choice(odd))
        tricks.append("metadata")
    streams = operation.method.server_streaming
    timeout, cancel = (0.3 if streams else 20.0), None
    share = rng.random()
    if share < 0.04:
        data, timeout = message, rng.choice([0.0, 0.0001, 0.001, 0.01])
        tricks.append(f"deadline {timeout}")
    elif share < 0.07:
        data, cancel = message, rng.choice([0.0, 0.001, 0.005])
        tricks.append(f"cancelled after {cancel}")
    what = f"gRPC {operation.name}: {', '.join(tricks) or 'message'}"
    return GrpcCase(number, what, operation.name, path, data, tuple(metadata), timeout, streams, cancel, about)


def _message(rng: random.Random, operation: Operation, name: str) -> bytes:
    message: Any = GetMessageClass(operation.method.input_type)()
    encodable = name.encode("utf-8", "replace").decode()
    if "function_name" in message.DESCRIPTOR.fields_by_name:
        message.function_name = encodable
    if operation.name == "CreateFunction":
        message.runtime, message.role, message.handler = "python3.11", ROLE, "app.handler"
        message.code.zip_file = GOOD if rng.random() < 0.5 else any_package(rng)[1]
    elif operation.name == "UpdateFunctionCode":
        message.zip_file = any_package(rng)[1]
    elif operation.name == "UpdateFunctionConfiguration":
        message.timeout = rng.choice([3, 900, 901, -1])
    elif operation.name in ("CreateAlias", "UpdateAlias"):
        message.name, message.function_version = ALIAS, rng.choice(["1", "2", "$LATEST"])
        message.routing_config.additional_version_weights["1"] = rng.choice([0.5, -1.0, float("nan"), float("inf")])
    elif operation.name in ("GetAlias", "DeleteAlias"):
        message.name = ALIAS
    elif operation.name == "PutFunctionConcurrency":
        message.reserved_concurrent_executions = rng.choice([0, 1, 900, -1])
    elif operation.name.endswith("ProvisionedConcurrencyConfig"):
        message.qualifier = rng.choice(["1", ALIAS, "$LATEST"])
    elif operation.name == "Invoke":
        message.payload = payload(rng)
    elif operation.name == "InvokeAsync":
        message.invoke_args = payload(rng)
    elif operation.name == "InvokeMany":
        for number in range(rng.choice([0, 1, 3, 40])):
            item = message.items.add(number=number)
            item.request.function_name = rng.choice([encodable, "x" * 300, ""])
            item.request.payload = payload(rng)
    data: bytes = message.SerializeToString()
    return data


def _mutated(rng: random.Random, operation: Operation, data: bytes) -> bytes:
    message = GetMessageClass(operation.method.input_type)()
    message.ParseFromString(data)
    return documents.message_bytes(rng, message)


def _token(rng: random.Random, world: World) -> tuple[str | None, str]:
    good = "Bearer " + tokens.issue(world.key, world.secret, REGION, world.now - 5)
    share = rng.random()
    if share < 0.85:
        return good, ""
    if share < 0.88:
        return None, "no token"
    if share < 0.91:
        return "Bearer " + tokens.issue(world.key, world.secret, REGION, world.now - 7200, 60), "expired token"
    if share < 0.93:
        return "Bearer " + tokens.issue(
            rng.choice(["NOBODY", world.key]), "not the secret", REGION, world.now
        ), "wrong signer"
    if share < 0.95:
        claims = json.dumps(
            rng.choice(
                [
                    {},
                    [],
                    {"v": "1"},
                    {"v": 1, "kid": None},
                    {"v": 1, "kid": world.key, "region": "x", "iat": 10**400, "exp": 0},
                ]
            )
        )
        return f"Bearer {base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.AAAA", "odd claims"
    at = rng.randrange(len(good))
    return rng.choice(
        [
            good[:at],
            good[:at] + "!" + good[at + 1 :],
            "Basic x",
            "Bearer",
            "bearer " + good[7:],
            good * 3,
            "Bearer .",
            "",
        ]
    ), "garbled token"


def raw(rng: random.Random, number: int) -> RawCase:
    """Bytes for the gRPC port."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\4\0\0\0\0\0"
    what, wire = rng.choice(
        [
            ("random", rng.randbytes(200)),
            ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("preface alone", preface),
            ("half a preface", preface[:10]),
            ("random frames", preface + settings + rng.randbytes(500)),
            ("huge frame", preface + settings + b"\xff\xff\xff\0\0\0\0\0\1"),
            ("data on no stream", preface + settings + b"\0\0\1\0\0\0\0\0\1x"),
            ("headers of rubbish", preface + settings + b"\0\0\x20\1\4\0\0\0\1" + rng.randbytes(32)),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ]
    )
    return RawCase(number, f"raw {what}", wire)
