"""Renders the chart as helm does, for tests; and what they ask of the objects."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "lambent"
CI = sorted(CHART.glob("ci/*-values.yaml"))
HELM = shutil.which("helm")
KUBERNETES = "1.34.0"

# Values that have more made, and what most of it is of.
COMPONENTS = ("frontend", "scheduler", "poller")
MONITORED = (
    "metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true", "metrics.prometheusRule.enabled=true",
    "metrics.dashboards.enabled=true",
)  # fmt: skip
EVERYTHING = (*MONITORED, "workers.prePull.enabled=true", "rbac.aggregate=true", "tls.enabled=true")

needs_helm = pytest.mark.skipif(HELM is None, reason="there is no helm on PATH")

Object = Mapping[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, away from whatever cluster the environment names."""
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=60)


def template(
    *sets: str, values: Sequence[Path] = (), release: str = "lambent", namespace: str = "somewhere",
    kubernetes: str = KUBERNETES, options: Sequence[str] = (), chart: Path = CHART,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """`helm template`. `sets`: path=value in JSON, or as --set takes it."""
    given = [f"--values={path}" for path in values]
    given += [f"{'--set-json' if _json(each) else '--set'}={each}" for each in sets]
    return helm(
        "template", release, str(chart), "--namespace", namespace, "--kube-version", kubernetes, *given, *options
    )


def _json(text: str) -> bool:
    return text.partition("=")[2][:1] in ("[", "{", '"')


@lru_cache(maxsize=128)
def rendered(*sets: str, values: str = "", release: str = "lambent") -> tuple[Object, ...]:
    """The objects. `values`: name of a file in ci/, without its ending."""
    files = [CHART / "ci" / f"{values}-values.yaml"] if values else []
    done = template(*sets, values=files, release=release)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def refused(*sets: str) -> str:
    """What is said where values are refused."""
    done = template(*sets)
    assert done.returncode != 0, f"{sets} was taken"
    return done.stderr


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def one(objects: Sequence[Object], kind: str, name: str) -> Any:
    """The one of a kind and name."""
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    assert len(found) == 1, [(each["kind"], each["metadata"]["name"]) for each in objects]
    return found[0]


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Any]]:
    """(kind/name, pod template) of everything that makes pods; of pools as "pool/NAME"."""
    for each in objects:
        label = f"{each['kind']}/{each['metadata']['name']}"
        match each["kind"]:
            case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
                yield label, each["spec"]["template"]
            case "CronJob":
                yield label, each["spec"]["jobTemplate"]["spec"]["template"]
            case "Pod":
                yield label, each
            case "ConfigMap" if each["metadata"]["name"].endswith("-pools"):
                for text in each["data"].values():
                    pool = yaml.safe_load(text)
                    if pool["template"]:
                        yield f"pool/{pool['name']}", pool["template"]


def pod(objects: Sequence[Object], label: str) -> Any:
    """One of them."""
    found = dict(pods(objects))
    assert label in found, list(found)
    return found[label]


def control_plane(objects: Sequence[Object]) -> list[tuple[str, Any]]:
    """All but those that functions run in."""
    return [
        (label, each)
        for label, each in pods(objects)
        if each["metadata"]["labels"]["app.kubernetes.io/component"] != "worker"
    ]


def beyond_restricted(template: Any) -> list[str]:
    """What of a pod the Pod Security Standard `restricted` refuses.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    spec = template["spec"]
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    outer = spec.get("securityContext", {})
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    found += [volume["name"] for volume in spec.get("volumes", ()) if not (set(volume) - {"name"}) <= kinds]
    for container in [*spec["containers"], *spec.get("initContainers", ())]:
        inner = container.get("securityContext", {})
        both = {**outer, **inner}
        rules = {
            "allowPrivilegeEscalation": inner.get("allowPrivilegeEscalation") is False,
            "drop ALL": inner.get("capabilities", {}).get("drop") == ["ALL"],
            "add": set(inner.get("capabilities", {}).get("add", ())) <= {"NET_BIND_SERVICE"},
            "privileged": not inner.get("privileged"),
            "procMount": inner.get("procMount", "Default") == "Default",
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", ())),
        }
        found += [f"{container['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return found
