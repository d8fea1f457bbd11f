"""Functions that fail: status, header, document, log, and that the next invocation is well again."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.e2e.harness import Cluster, zipped


@pytest.fixture(scope="module")
def failures(cluster: Cluster) -> str:
    return cluster.deploy("failures", Timeout=2, MemorySize=128)


def invoke(cluster: Cluster, name: str, event: dict[str, Any]) -> tuple[str | None, Any, str, str]:
    answer = cluster.client().invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
    assert answer["StatusCode"] == 200
    log = base64.b64decode(answer["LogResult"]).decode(errors="replace")
    return (
        answer.get("FunctionError"),
        json.loads(answer["Payload"].read()),
        log,
        answer["ResponseMetadata"]["RequestId"],
    )


def test_an_exception(cluster: Cluster, failures: str) -> None:
    error, document, log, request = invoke(cluster, failures, {"kind": "fail", "message": "boom"})
    assert error == "Unhandled"
    assert document["errorType"] == "ValueError"
    assert document["errorMessage"] == "boom"
    assert document["requestId"] == request
    assert document["stackTrace"][-1].startswith('  File "/var/task/app.py", line ')
    assert "[ERROR] ValueError: boom" in log
    assert f"END RequestId: {request}" in log


@pytest.mark.parametrize(
    ("event", "kind", "says"),
    [
        ({"kind": "leave", "status": 3}, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        ({"kind": "die", "status": 0}, "Runtime.ExitError", "Runtime exited without providing a reason"),
        ({"kind": "sleep", "seconds": 30}, "Sandbox.Timedout", "Task timed out after 2.00 seconds"),
        ({"kind": "not_json"}, "Runtime.MarshalError", "Unable to marshal response"),
        ({"kind": "too_much"}, "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes)."),
    ],
    ids=["exit", "die", "timeout", "not-json", "too-much"],
)  # fmt: skip
def test_what_goes_wrong_is_told_as_aws_tells_it_and_the_next_is_well(
    cluster: Cluster, failures: str, event: dict[str, Any], kind: str, says: str
) -> None:
    error, document, log, request = invoke(cluster, failures, event)
    assert (error, document["errorType"]) == ("Unhandled", kind)
    assert says in document["errorMessage"]
    if kind in ("Runtime.ExitError", "Sandbox.Timedout"):
        assert document["errorMessage"].startswith(f"RequestId: {request} Error: ")
    assert f"REPORT RequestId: {request}" in log
    error, document, _, _ = invoke(cluster, failures, {"kind": "sleep", "seconds": 0})
    assert error is None
    assert document["slept"] == 0


def test_a_hog_is_killed_at_its_memory_limit(cluster: Cluster) -> None:
    name = cluster.create(
        "hog",
        zipped(
            {
                "app.py": "def handler(event, context):\n    hoard = bytearray(event['mb'] << 20)\n    hoard[::4096] = b'x' * len(hoard[::4096])\n    return len(hoard)\n"
            }
        ),
        MemorySize=256,
        Timeout=20,
    )
    error, document, _, request = invoke(cluster, name, {"mb": 400})
    assert (error, document["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert document["errorMessage"] == f"RequestId: {request} Error: Runtime exited with error: signal: killed"
    error, document, _, _ = invoke(cluster, name, {"mb": 50})
    assert (error, document) == (None, 50 << 20)


def test_a_flood_of_output_is_cut_to_the_tail(cluster: Cluster, failures: str) -> None:
    error, document, log, request = invoke(cluster, failures, {"kind": "chatter", "lines": 3000})
    assert (error, document) == (None, {"lines": 3000})
    assert "line 2999 " in log
    assert len(log.encode()) <= 4096
    assert log.rstrip().splitlines()[-1].startswith(f"REPORT RequestId: {request}")


@pytest.mark.parametrize(
    ("code", "handler", "kind", "says"),
    [
        ("import nothing_of_that_name\n", "app.handler", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'nothing_of_that_name'"),
        ("x = 1\n", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("def handler(:\n", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("x = 1\n", "handler", "Runtime.MalformedHandlerName", "Bad handler 'handler'"),
        ("raise RuntimeError('at import')\n", "app.handler", "RuntimeError", "at import"),
    ],
    ids=["import", "missing", "syntax", "malformed", "raises"],
)  # fmt: skip
def test_init_that_fails_is_the_first_invocations_answer(
    cluster: Cluster, code: str, handler: str, kind: str, says: str, request: pytest.FixtureRequest
) -> None:
    name = cluster.create("init-" + request.node.callspec.id, zipped({"app.py": code}), Handler=handler)
    for _ in range(2):
        error, document, _, _ = invoke(cluster, name, {})
        assert (error, document["errorType"]) == ("Unhandled", kind)
        assert says in document["errorMessage"]


def test_slow_init_is_done_once_and_reported(cluster: Cluster) -> None:
    name = cluster.deploy("slow_init", Timeout=5)
    _, cold, log, _ = invoke(cluster, name, {"n": 12})
    assert cold["square"] == 144
    assert "Init Duration:" in log
    _, warm, log, _ = invoke(cluster, name, {"n": 12})
    assert warm["started"] == cold["started"]
    assert "Init Duration:" not in log
