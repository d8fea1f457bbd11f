"""What an operator does: back up, restore, and collect what somebody who helps needs."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.harness import archived, eventually, zipped
from tests.kube.release import ROOT, Release

LOGS = "kubernetes/logs/"
KEPT = zipped({"app.py": "import os\ndef handler(event, context):\n    return os.environ['SAYS']\n"})


def test_what_was_backed_up_is_there_again(release: Release, tmp_path: Path) -> None:
    release.create("backed-up", KEPT, Environment={"Variables": {"SAYS": "sealed"}})
    client = release.client(retries=3)
    pod = ("-n", release.namespace, "exec", "-i", f"deploy/{release.fullname}-frontend", "--", "lambent")
    file = tmp_path / "backup"
    with file.open("wb") as output:
        subprocess.run(["kubectl", *pod, "backup", "-"], stdout=output, check=True, timeout=120)
    client.delete_function(FunctionName="backed-up")
    with file.open("rb") as source:
        done = subprocess.run(
            ["kubectl", *pod, "restore", "-"], stdin=source, capture_output=True, text=True, check=False, timeout=120
        )
    assert "the store is not empty" in done.stderr
    with file.open("rb") as source:
        subprocess.run(["kubectl", *pod, "restore", "-", "--replace"], stdin=source, check=True, timeout=120)
    deployments = [f"deploy/{release.fullname}-{name}" for name in ("frontend", "poller", "scheduler")]
    release.kubectl("rollout", "restart", *deployments)
    for deployment in deployments:
        release.kubectl("rollout", "status", deployment, "--timeout=180s", timeout=200)
    answer = eventually(lambda: release.client(retries=3).invoke(FunctionName="backed-up"), 60)
    assert json.load(answer["Payload"]) == "sealed"


def test_a_bundle_has_the_pods_and_their_logs_and_no_secret(release: Release, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    environment = [f"{name}={value}" for name, value in release.environment().items()]
    subprocess.run(
        ["env", *environment, f"{Path(sys.executable).parent}/lambent", "bundle", "-o", str(file), "--namespace",
         release.namespace, "--release", release.name, "--endpoint", release.endpoint(9002)],
        check=True, capture_output=True, timeout=180, cwd=ROOT,
    )  # fmt: skip
    texts = archived(file)
    # What was on its way out when pods were listed may be gone when its log is read.
    there = {pod["metadata"]["name"] for pod in release.get("pods")}
    missing = {name for name in texts if name.endswith(".missing.txt")}
    assert not {name for name in missing if not name.startswith(LOGS) or name.removeprefix(LOGS).split(".")[0] in there}
    assert json.loads(texts["use.json"])["Workers"] >= 1
    assert json.loads(texts["kubernetes/leases.json"])["items"]
    pods = {each["metadata"]["name"] for each in json.loads(texts["kubernetes/pods.json"])["items"]}
    logged = {name.split("/")[-1].partition(".")[0] for name in texts if name.startswith(LOGS)}
    assert pods & there <= logged <= pods
    for kind in ("credentials", "keys", "redis"):
        for value in _values_of(release, f"{release.fullname}-{kind}"):
            assert not [name for name, text in texts.items() if value in text], kind


def _values_of(release: Release, secret: str) -> list[str]:
    """What must not be seen of a Secret: each value as it is and as the API shows it."""
    data = json.loads(release.kubectl("get", "secret", secret, "-o", "json"))["data"]
    shown = {name: value for name, value in data.items() if name != "access-key-id"}
    texts = [base64.b64decode(value).decode("latin-1") for value in shown.values()]
    return [*shown.values(), *texts]
