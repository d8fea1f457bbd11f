"""SnapStart through AWS's own client: from the publication to environments that are copies."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.harness import Cluster, error_of, eventually, printed, zipped

SNAP: dict[str, Any] = {"SnapStart": {"ApplyOn": "PublishedVersions"}}
CODE = """\
import os, time, uuid
from snapshot_restore_py import register_after_restore
time.sleep({pause})
BORN, HERE = uuid.uuid4().hex, []
register_after_restore(lambda: HERE.append(uuid.uuid4().hex))
def handler(event, context):
    time.sleep(0.2)
    return [BORN, *HERE]
"""


def shown(cluster: Cluster, name: str, version: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.client().get_function_configuration(FunctionName=name, Qualifier=version)
    return found


def test_a_version_is_pending_then_its_environments_are_copies(cluster: Cluster) -> None:
    client = cluster.client()
    name = cluster.create("copied", zipped({"app.py": CODE.format(pause=1.0)}), **SNAP)
    told = client.publish_version(FunctionName=name)
    assert (told["State"], told["StateReasonCode"]) == ("Pending", "Creating")
    assert told["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    status, error, _ = error_of(client.invoke, FunctionName=name, Qualifier="1")
    assert (status, error) == (409, "SnapStartNotReadyException")
    client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    assert shown(cluster, name, "1")["SnapStart"]["OptimizationStatus"] == "On"
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda _: client.invoke(FunctionName=name, Qualifier="1"), range(3)))
    documents = [json.loads(answer["Payload"].read()) for answer in answers]
    assert len({born for born, _ in documents}) == 1
    assert len({here for _, here in documents}) > 1
    # $LATEST never starts from a snapshot.
    (latest,) = [json.loads(client.invoke(FunctionName=name)["Payload"].read())]
    assert len(latest) == 1
    eventually(lambda: printed(cluster.client("logs"), f"/aws/lambda/{name}", '"RESTORE_REPORT Restore Duration: "'))


def test_what_has_no_snapshot_says_so(cluster: Cluster) -> None:
    client = cluster.client()
    broken = cluster.create("broken", zipped({"app.py": "raise ValueError('no')\n"}), Publish=True, **SNAP)
    threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
    threaded = cluster.create(
        "threaded", zipped({"app.py": threads + "def handler(event, context): return 1\n"}), Publish=True, **SNAP
    )

    def settled(name: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = shown(cluster, name, "1")
            return None if found["State"] == "Pending" else found

        found = eventually(look)
        assert found is not None
        return found

    failed = settled(broken)
    assert (failed["State"], failed["StateReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError")
    assert "ValueError: no" in failed["StateReason"]
    status, error, text = error_of(client.invoke, FunctionName=broken, Qualifier="1")
    assert (status, error) == (409, "ResourceConflictException")
    assert text.endswith("Failed")
    active = settled(threaded)
    assert (active["State"], active["SnapStart"]["OptimizationStatus"]) == ("Active", "Off")
    assert client.invoke(FunctionName=threaded, Qualifier="1")["Payload"].read() == b"1"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"Runtime": "nodejs20.x", **SNAP}, "nodejs20.x is not supported for SnapStart enabled functions."),
        ({"EphemeralStorage": {"Size": 1024}}, "Ephemeral storage of more than 512 MB"),
    ]
    for change, said in wrong:
        status, error, text = error_of(client.update_function_configuration, FunctionName=threaded, **change)
        assert (status, error) == (400, "InvalidParameterValueException")
        assert said in text
