"""What a user does first: install, look, invoke by every client."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.e2e.harness import code_blocks, eventually, printed, zipped
from tests.kube.release import ROOT, Release, run

ECHO = zipped({"app.py": "def handler(event, context):\n    print('got', event)\n    return event\n"})
BIN = str(Path(sys.executable).parent)


def test_helm_test_passes_and_leaves_nothing(release: Release) -> None:
    release.helm("test", release.name, "--logs", "--timeout", "120s")
    left = [each["FunctionName"] for each in release.client().list_functions()["Functions"]]
    assert not [name for name in left if name.startswith("lambent-verify")]


def test_boto3_invokes_and_reads_logs_through_the_service(release: Release) -> None:
    release.create("echo", ECHO)
    client = release.client()
    answer = client.invoke(FunctionName="echo", Payload=b'{"a": 1}', LogType="Tail")
    assert json.load(answer["Payload"]) == {"a": 1}
    client.invoke(FunctionName="echo", InvocationType="Event", Payload=b'"later"')
    logs = release.client("logs")
    eventually(lambda: set(printed(logs, "/aws/lambda/echo", "got")) == {"got {'a': 1}\n", "got later\n"}, 60)


def test_the_aws_command_and_grpcurl_too(release: Release, tmp_path: Path) -> None:
    release.create("clients", ECHO)
    environment = os.environ | release.environment() | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    out = tmp_path / "out.json"
    command = ["aws", "lambda", "invoke", "--function-name", "clients", "--payload", '{"b": 2}']
    run("env", *(f"{k}={v}" for k, v in environment.items() if k.startswith("AWS_")), f"PATH={environment['PATH']}",
        *command, str(out))  # fmt: skip
    assert json.loads(out.read_text()) == {"b": 2}
    key, secret = release.credentials()
    credentials = [f"AWS_ACCESS_KEY_ID={key}", f"AWS_SECRET_ACCESS_KEY={secret}"]
    token = run("env", *credentials, f"{BIN}/lambent", "token").strip()
    listed = run(
        f"{BIN}/grpcurl", "-plaintext", "-H", f"authorization: Bearer {token}", release.endpoint(9002),
        "lambent.v1.FunctionService/ListFunctions",
    )  # fmt: skip
    assert "clients" in {each["FunctionName"] for each in json.loads(listed)["Functions"]}


def test_notes_say_how_to_invoke_the_first_function(release: Release) -> None:
    notes = release.helm("get", "notes", release.name)
    assert "aws lambda invoke" in notes
    assert "isolation" in notes


def test_the_doctor_finds_nothing_wrong(release: Release) -> None:
    command = ("exec", f"deploy/{release.fullname}-frontend", "--", "lambent", "doctor", "--output", "json")
    findings = json.loads(release.kubectl(*command))
    assert not [each for each in findings if each["level"] == "problem"]
    assert {"store", "clocks", "scheduler", "workers"} <= {each["subject"] for each in findings}


def test_every_pod_of_the_control_plane_passes_restricted(release: Release) -> None:
    """The API server says so: a namespace that enforces it would refuse them."""
    for component in ("frontend", "scheduler", "poller", "redis"):
        for pod in release.pods(component):
            pod["metadata"] = {"name": f"probe-{component}", "labels": pod["metadata"]["labels"]}
            pod["spec"].pop("nodeName", None)
            namespace = "lambent-restricted"
            run("kubectl", "create", "namespace", namespace, check=False)
            run(
                "kubectl",
                "label",
                "namespace",
                namespace,
                "pod-security.kubernetes.io/enforce=restricted",
                "--overwrite",
            )
            pod["spec"]["serviceAccountName"] = pod["spec"]["serviceAccount"] = "default"
            run("kubectl", "-n", namespace, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    run("kubectl", "delete", "namespace", "lambent-restricted", "--wait=false")


DENIED = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "deployments"),
    ("create", "pods", "--subresource=exec"),
    ("get", "pods", "--subresource=log"),
    ("create", "rolebindings"),
]


def test_service_accounts_may_do_what_they_need_and_no_more(release: Release) -> None:
    def may(component: str, verb: str, *what: str) -> bool:
        account = f"system:serviceaccount:{release.namespace}:{release.fullname}-{component}"
        said = release.kubectl("auth", "can-i", verb, *what, f"--as={account}", check=False)
        return said.strip() == "yes"

    lease = f"leases.coordination.k8s.io/{release.fullname}-scheduler"
    assert all(may("scheduler", verb, "pods") for verb in ("create", "delete", "list", "watch"))
    assert may("scheduler", "update", lease)
    for component in ("frontend", "poller", "worker", "scheduler"):
        for denied in DENIED:
            assert not may(component, *denied), (component, denied)
    for component in ("frontend", "poller", "worker"):
        assert not may(component, "list", "pods"), component
        for pod in release.pods(component):
            assert not any("kube-api-access" in volume["name"] for volume in pod["spec"]["volumes"])


def test_what_the_readme_says_of_helm_is_so(release: Release) -> None:
    (block,) = [each for each in code_blocks((ROOT / "README.md").read_text(), "sh") if "helm install" in each]
    images, install, test = block.strip().splitlines()
    assert images.startswith("make images REPOSITORY=")
    said = run("bash", "-c", f"cd {ROOT} && {install.replace('install lambent', 'install readme')} --dry-run=server")
    assert "image: registry.example.com/lambent/lambent-control:" in said
    assert test == "helm test lambent --namespace lambent"


def test_rendering_twice_gives_no_difference(release: Release) -> None:
    chart = str(ROOT / "charts" / "lambent")
    command = ["helm", "template", release.name, chart, "-n", release.namespace, "--kube-version", "1.34.0"]
    assert run(*command) == run(*command)
