"""How pods are made, replaced, spread and ended, and what they are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.chart.rendering import (
    COMPONENTS,
    EVERYTHING,
    control_plane,
    needs_helm,
    of_kind,
    one,
    pod,
    pods,
    rendered,
)

pytestmark = needs_helm


def test_pods_are_replaced_when_what_they_read_changed() -> None:
    def sums(*sets: str) -> dict[str, Any]:
        return {
            label: {k: v for k, v in each["metadata"]["annotations"].items() if k.startswith("checksum/")}
            for label, each in pods(rendered(*sets))
            if label in ("Deployment/lambent-frontend", "Deployment/lambent-scheduler", "pool/default")
        }

    plain, changed = sums(), sums("logging.level=debug")
    assert all(plain[label] != changed[label] for label in plain)
    pools = sums("workers.max=50")
    assert plain["Deployment/lambent-scheduler"] != pools["Deployment/lambent-scheduler"]
    assert plain["Deployment/lambent-frontend"] == pools["Deployment/lambent-frontend"]
    frontends = sums("secretsRevision=2")["Deployment/lambent-frontend"]
    assert frontends["checksum/secret"] == "2"


def test_pods_of_workers_stay_where_nothing_of_theirs_changed() -> None:
    """A template that is another means other pods, and cold starts."""
    same = (
        "scheduler.replicaCount=3", "frontend.replicaCount=5", 'settings={"scheduling": {"placement": "pack"}}',
        "publicUrl=https://lambda.example", 'regions=["us-east-1"]', "workers.max=50", "image.tag=v2",
    )  # fmt: skip
    before = pod(rendered(), "pool/default")
    for sets in same:
        assert pod(rendered(sets), "pool/default") == before, sets
    for sets in ("workers.image.tag=v2", "workers.memoryMb=1024", 'settings={"timing": {"log_days": 3}}'):
        assert pod(rendered(sets), "pool/default") != before, sets
    text = json.dumps(before)
    assert "helm.sh/chart" not in text
    assert "app.kubernetes.io/version" not in text


@pytest.mark.parametrize("component", [*COMPONENTS, "redis", "worker"])
def test_further_things_are_put_into_each_component(component: str) -> None:
    of_workers = component == "worker"
    group = "workers" if of_workers else component
    given: dict[str, Any] = {
        "extraEnv": [{"name": "RELEASE", "value": "{{ .Release.Name }}"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "extraContainers": [{"name": "beside", "image": "{{ .Values.image.repository }}:x"}],
        "extraInitContainers": [{"name": "before", "image": "x"}],
        "extraArgs": ["--more={{ .Release.Name }}"],
    }
    if component != "redis":
        given["extraEnvFrom"] = [{"configMapRef": {"name": "{{ .Release.Name }}-more"}}]
        given["lifecycle"] = {"preStop": {"exec": {"command": ["true"]}}}
    kind = "StatefulSet" if component == "redis" else "Deployment"
    label = "pool/default" if of_workers else f"{kind}/lambent-{component}"
    spec = pod(rendered(f"{group}={json.dumps(given)}"), label)["spec"]
    container = spec["containers"][0]
    assert {"name": "RELEASE", "value": "lambent"} in container["env"]
    assert spec["containers"][1]["image"] == "lambent/lambent-control:x"
    assert spec["initContainers"][0]["name"] == "before"
    assert container["args"][-1] == "--more=lambent"
    assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
    assert "more" in {volume["name"] for volume in spec["volumes"]}
    if component != "redis":
        assert container["envFrom"] == [{"configMapRef": {"name": "lambent-more"}}]
        assert container["lifecycle"] == given["lifecycle"]


def test_logs_and_telemetry_are_values() -> None:
    objects = rendered(
        "logging.level=debug", "logging.format=text", "telemetry.otlpEndpoint=grpc://otel:4317", "telemetry.sample=0.5",
        "telemetry.headersSecret.name=otel", 'telemetry.resourceAttributes={"team": "blue"}',
    )  # fmt: skip
    text = one(objects, "ConfigMap", "lambent")["data"]["lambent.toml"]
    for line in ('log_level = "debug"', 'log_format = "text"', 'otlp_endpoint = "grpc://otel:4317"', "sample = 0.5"):
        assert line in text
    for label in ("Deployment/lambent-frontend", "Deployment/lambent-poller", "Deployment/lambent-scheduler"):
        environment = {item["name"]: item for item in pod(objects, label)["spec"]["containers"][0]["env"]}
        assert environment["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]["name"] == "otel"
        assert "team=blue" in environment["OTEL_RESOURCE_ATTRIBUTES"]["value"]


def redis_url(*sets: str, values: str = "") -> str:
    container = pod(rendered(*sets, values=values), "Deployment/lambent-frontend")["spec"]["containers"][0]
    found = {item["name"]: item.get("value") for item in container["env"]}
    return str(found["LAMBENT_REDIS_URL"])


def test_how_each_store_is_reached() -> None:
    assert redis_url() == "redis://:$(REDIS_PASSWORD)@lambent-redis:6379/0"
    assert redis_url("redis.enabled=false", "externalRedis.host=store") == "redis://store:6379/0"
    assert redis_url(values="external-redis") == (
        "rediss://lambent:$(REDIS_PASSWORD)@store.example.com:6380/3?ssl_ca_certs=/etc/lambent-redis-ca/ca.crt"
    )
    assert redis_url(values="ha") == (
        "redis+sentinel://:$(REDIS_PASSWORD)@sentinel-0.redis:26379,sentinel-1.redis:26379,sentinel-2.redis:26379/mymaster/0"
    )
    assert redis_url(
        'externalRedis={"cluster": {"enabled": true, "hosts": ["store-0:6379", "store-1:6379"]}}', "redis.enabled=false"
    ) == ("redis+cluster://store-0:6379,store-1:6379/0")
    for label, each in control_plane(rendered(values="external-redis")):
        if label not in ("Job/lambent-keys-install", "Pod/lambent-test"):
            assert "/etc/lambent-redis-ca" in json.dumps(each), label
    assert of_kind(rendered(values="external-redis"), "StatefulSet") == []


def test_the_bundled_store_keeps_what_it_has() -> None:
    store = one(rendered("redis.appendfsync=always"), "StatefulSet", "lambent-redis")
    arguments = store["spec"]["template"]["spec"]["containers"][0]["args"]
    said = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert said["--appendonly"] == "yes"
    assert said["--appendfsync"] == "always"
    assert said["--maxmemory-policy"] == "noeviction"
    assert store["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "8Gi"


@pytest.mark.parametrize("component", ["frontend", "poller"])
def test_replicas_are_left_to_the_autoscaler(component: str) -> None:
    name = f"lambent-{component}"
    plain = rendered(f"{component}.replicaCount=4")
    assert one(plain, "Deployment", name)["spec"]["replicas"] == 4
    assert of_kind(plain, "HorizontalPodAutoscaler") == []
    scaled = rendered(f"{component}.autoscaling.enabled=true", f"{component}.autoscaling.maxReplicas=7")
    assert "replicas" not in one(scaled, "Deployment", name)["spec"]
    spec = one(scaled, "HorizontalPodAutoscaler", name)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 7)
    assert spec["scaleTargetRef"]["name"] == name
    assert spec["metrics"]
    assert spec["behavior"]


def test_how_pods_come_and_go() -> None:
    objects = rendered("drainSeconds=300", "leaveSeconds=10")
    for component in COMPONENTS:
        spec = one(objects, "Deployment", f"lambent-{component}")["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert spec["revisionHistoryLimit"] == 5
        assert spec["minReadySeconds"] > 0
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 310
    assert pod(objects, "pool/default")["spec"]["terminationGracePeriodSeconds"] > 310
    text = one(objects, "ConfigMap", "lambent")["data"]["lambent.toml"]
    # The pause before the drain is the process's own: it serves on and says that it is not ready.
    assert "leave_seconds = 10" in text
    assert "drain_seconds = 300" in text


def test_every_container_says_what_it_needs() -> None:
    for sets in (EVERYTHING, (*EVERYTHING, "workers.scaling=fixed")):
        for label, each in pods(rendered(*sets)):
            for container in each["spec"]["containers"]:
                assert {"cpu", "memory"} <= set(container["resources"]["requests"]), label
                assert "memory" in container["resources"]["limits"], label
                assert "resizePolicy" not in container


def test_probes() -> None:
    objects = rendered()
    ports = {"frontend": 9090, "scheduler": 9091, "poller": 9093}
    templates = [(pod(objects, f"Deployment/lambent-{name}"), port) for name, port in ports.items()]
    for each, port in [*templates, (pod(objects, "pool/default"), 9092)]:
        container = each["spec"]["containers"][0]
        assert {"name": "operations", "containerPort": port} in container["ports"]
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "operations"}
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["startupProbe"]["httpGet"]["path"] == "/livez"
    off = pod(rendered("frontend.livenessProbe=null"), "Deployment/lambent-frontend")["spec"]["containers"][0]
    assert "livenessProbe" not in off


def test_disruption_budgets_only_where_they_can_be_kept() -> None:
    def budgets(*sets: str) -> set[str]:
        return {each["metadata"]["name"] for each in of_kind(rendered(*sets), "PodDisruptionBudget")}

    assert budgets() == {"lambent-frontend", "lambent-scheduler", "lambent-poller"}
    assert budgets("frontend.replicaCount=1") == {"lambent-scheduler", "lambent-poller"}
    assert "lambent-frontend" in budgets("frontend.replicaCount=1", "frontend.autoscaling.enabled=true")
    low = ("frontend.autoscaling.enabled=true", "frontend.autoscaling.minReplicas=1")
    assert "lambent-frontend" not in budgets(*low)
    assert "lambent-worker-default" in budgets("workers.scaling=fixed")
    assert "lambent-worker-default" not in budgets("workers.scaling=fixed", "workers.replicaCount=1")


def _key(toleration: dict[str, Any]) -> str:
    return str(toleration["key"])


def test_where_pods_run() -> None:
    given = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "priorityClassName": "high",
        "schedulerName": "own",
        "runtimeClassName": "gvisor",
        "podAntiAffinityPreset": "hard",
    }
    for component in (*COMPONENTS, "workers"):
        label = "pool/default" if component == "workers" else f"Deployment/lambent-{component}"
        spec = pod(rendered(f"{component}={json.dumps(given)}"), label)["spec"]
        for name in ("nodeSelector", "priorityClassName", "schedulerName", "runtimeClassName"):
            assert spec[name] == given[name], (component, name)
        # Of a lost node: workers are the scheduler's to replace.
        lost, leaving = (
            ("unreachable", "not-ready"),
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        )
        lossy: list[dict[str, Any]] = (
            [] if component == "workers" else [{"key": f"node.kubernetes.io/{each}", **leaving} for each in lost]
        )
        wanted: list[dict[str, Any]] = [{"key": "dedicated", "operator": "Exists"}, *lossy]
        assert sorted(spec["tolerations"], key=_key) == sorted(wanted, key=_key), component
        assert "requiredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["podAntiAffinity"]
        selector = spec["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
        assert selector["app.kubernetes.io/component"] == component.removesuffix("s")


def test_pools_differ_in_what_they_say() -> None:
    given = [
        {"name": "small", "memoryMb": 512, "min": 2, "nodeSelector": {"size": "small"}, "scaleToZero": True},
        {"name": "arm", "rule": {"architectures": ["arm64"]}, "isolation": "privileged", "runtimeClassName": "kata"},
    ]
    objects = rendered(f"workers.pools={json.dumps(given)}", "workers.headroomMb=99")
    pools = {name: yaml.safe_load(text) for name, text in one(objects, "ConfigMap", "lambent-pools")["data"].items()}
    assert set(pools) == {"small.json", "arm.json"}
    assert pools["small.json"]["min"] == 2
    assert pools["small.json"]["scaleToZero"] is True
    assert pools["arm.json"]["headroomMb"] == pools["small.json"]["headroomMb"] == 99
    assert pools["arm.json"]["rule"]["architectures"] == ["arm64"]
    assert pools["arm.json"]["template"]["spec"]["runtimeClassName"] == "kata"
    assert pools["arm.json"]["template"]["metadata"]["labels"]["lambent.dev/pool"] == "arm"
    assert of_kind(rendered(), "DaemonSet") == []
    pulling = rendered(f"workers.pools={json.dumps(given)}", "workers.prePull.enabled=true")
    assert pod(pulling, "DaemonSet/lambent-prepull-small")["spec"]["nodeSelector"] == {"size": "small"}
