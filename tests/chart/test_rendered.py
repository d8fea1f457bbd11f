"""What the chart makes, by subject. tests/chart/test_checklist.py says which subject each habit of good charts is under."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lambent.infra.telemetry import METRICS
from tests.chart.rendering import (
    CHART,
    CI,
    KUBERNETES,
    ROOT,
    beyond_restricted,
    control_plane,
    needs_helm,
    of_kind,
    one,
    pod,
    pods,
    rendered,
    template,
)
from tools import chart
from tools.chart_dashboards import DASHBOARDS, exposed

pytestmark = needs_helm

COMPONENTS = ("frontend", "scheduler", "poller")
MONITORED = (
    "metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true", "metrics.prometheusRule.enabled=true",
    "metrics.dashboards.enabled=true",
)  # fmt: skip
EVERYTHING = (*MONITORED, "workers.prePull.enabled=true", "rbac.aggregate=true", "tls.enabled=true")


def test_names_stay_within_63_characters() -> None:
    """A worker's pod has a suffix of the scheduler's, and every name is a label's value somewhere."""
    for sets in (EVERYTHING, (*EVERYTHING, "workers.scaling=fixed")):
        for release in ("x" * 53, "a"):
            objects = rendered(*sets, 'workers.pools=[{"name": "a-pool-of-sixtee"}]', release=release)
            names = [each["metadata"]["name"] for each in objects]
            assert len({(each["kind"], each["metadata"]["name"]) for each in objects}) == len(objects)
            assert max(len(name) for name in names) + len("-xxxxx") <= 63
            # Of which Kubernetes makes names of Jobs.
            assert all(len(each["metadata"]["name"]) <= 52 for each in of_kind(objects, "CronJob"))
            assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in names)
            labels = [value for each in objects for value in each["metadata"]["labels"].values()]
            assert all(len(value) <= 63 for value in labels)


def test_two_releases_in_a_namespace_share_nothing() -> None:
    first, second = ({(each["kind"], each["metadata"]["name"]) for each in rendered(*EVERYTHING, release=name)}
                     for name in ("one", "two"))  # fmt: skip
    assert not first & second
    selectors = [
        {json.dumps(each["spec"]["selector"], sort_keys=True) for each in of_kind(rendered(release=name), "Service")}
        for name in ("one", "two")
    ]
    assert not selectors[0] & selectors[1]
    # Also where long names differ only at their end.
    long = [rendered(release=f"{'x' * 45}-{end}") for end in ("one", "two")]
    assert not {each["metadata"]["name"] for each in long[0]} & {each["metadata"]["name"] for each in long[1]}


def test_overrides_of_names() -> None:
    assert one(rendered("fullnameOverride=functions"), "Service", "functions-frontend")
    assert one(rendered("nameOverride=functions"), "Service", "lambent-functions-frontend")


def test_labels_are_the_standard_ones_and_further_ones_are_put_everywhere() -> None:
    objects = rendered(
        *EVERYTHING, 'commonLabels={"team": "blue"}', 'commonAnnotations={"note": "x"}', 'podLabels={"cost": "1"}',
        'podAnnotations={"seen": "y"}', 'frontend.podLabels={"cost": "2"}', "workers.isolation=userns",
    )  # fmt: skip
    standard = {"name", "instance", "component", "version", "part-of", "managed-by"}
    for each in objects:
        labels = each["metadata"]["labels"]
        assert {f"app.kubernetes.io/{name}" for name in standard} | {"helm.sh/chart", "team"} <= set(labels)
        assert each["metadata"]["annotations"]["note"] == "x"
    assert pod(objects, "Deployment/lambent-frontend")["metadata"]["labels"]["cost"] == "2"
    for label in ("Deployment/lambent-poller", "StatefulSet/lambent-redis", "pool/default"):
        assert pod(objects, label)["metadata"]["labels"]["cost"] == "1", label
        assert pod(objects, label)["metadata"]["annotations"]["seen"] == "y", label


def test_every_image_comes_from_the_given_registry_and_the_digest_wins() -> None:
    for sets in (EVERYTHING, (*EVERYTHING, "workers.scaling=fixed")):
        objects = rendered(*sets, "global.image.registry=registry.example:5000", 'global.imagePullSecrets=["pull"]')
        found = [(label, each["spec"]) for label, each in pods(objects)]
        assert len(found) >= 9
        for label, spec in found:
            assert spec["imagePullSecrets"] == [{"name": "pull"}], label
            for container in spec["containers"]:
                assert container["image"].startswith("registry.example:5000/lambent/lambent-"), label
    digest = "sha256:" + "0" * 64
    objects = rendered(f"frontend.image.digest={digest}", "image.tag=v3", 'scheduler.image.pullSecrets=["own"]')
    images = {label: each["spec"]["containers"][0]["image"] for label, each in pods(objects)}
    assert images["Deployment/lambent-frontend"] == f"lambent/lambent-control@{digest}"
    assert images["Deployment/lambent-poller"] == "lambent/lambent-control:v3"
    assert pod(objects, "Deployment/lambent-scheduler")["spec"]["imagePullSecrets"] == [{"name": "own"}]


def test_the_list_of_images_is_whole() -> None:
    done = template(*EVERYTHING)
    assert chart.images(done.stdout) == ["lambent/lambent-control:0.1.0", "lambent/lambent-worker:0.1.0"]
    prose = (CHART / "README.md").read_text()
    assert all(f"`{name.partition(':')[0]}`" in prose for name in chart.images(done.stdout))
    assert "otlp_endpoint = \"\"" in one(rendered(), "ConfigMap", "lambent")["data"]["lambent.toml"]  # fmt: skip


def test_no_value_and_no_object_holds_a_secret() -> None:
    for path in (None, *CI):
        objects = rendered(values=path.stem.removesuffix("-values") if path else "")
        assert of_kind(objects, "Secret") == []
    named = [value.path for value in chart.values((CHART / "values.yaml").read_text()) if "ecret" in value.path]
    assert len(named) > 10
    # Names of Secrets, and of keys in them.
    assert all(re.search(r"(existingSecret|existingSecretKey|existingSecretUrlKey|[pP]ullSecrets|headersSecret\.\w+|secretsRevision)$", path)
               for path in named)  # fmt: skip
    assert not [path for path in named if "password" in path.lower()]


def test_given_secrets_leave_nothing_to_make() -> None:
    objects = rendered(values="gitops")
    assert not [each for each in objects if each["metadata"]["name"].startswith("lambent-keys")]
    used = {
        item["valueFrom"]["secretKeyRef"]["name"]
        for _, each in pods(objects)
        for item in each["spec"]["containers"][0].get("env", ())
        if "secretKeyRef" in item.get("valueFrom", {})
    }
    used |= {
        volume["secret"]["secretName"]
        for _, each in pods(objects)
        for volume in each["spec"].get("volumes", ())
        if "secret" in volume
    }
    assert used == {
        f"lambent-given-{name}" for name in ("keys", "credentials", "access-keys", "connections", "store", "tls")
    }


def test_keys_are_made_by_a_hook_before_anything_needs_them() -> None:
    objects = rendered("tls.enabled=true")
    job = one(objects, "Job", "lambent-keys-install")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["lambent", "keys", "ensure"]
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        weight = one(objects, kind, "lambent-keys-install")["metadata"]["annotations"]["helm.sh/hook-weight"]
        assert int(weight) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    sources = "".join(path.read_text() for path in CHART.glob("templates/*"))
    assert not re.search(r"\blookup\b|randAlpha|genCA|genSelfSigned|genPrivateKey|\(now\)|uuidv4", sources)


def test_what_is_made_stays_unless_it_is_to_go() -> None:
    assert "lambent-keys-uninstall" not in {each["metadata"]["name"] for each in rendered()}
    job = one(rendered("uninstall.keepData=false"), "Job", "lambent-keys-uninstall")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"
    claim = one(rendered(), "StatefulSet", "lambent-redis")["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert claim["whenDeleted"] == "Retain"


def test_pods_are_replaced_when_what_they_read_changed() -> None:
    def sums(*sets: str) -> dict[str, Any]:
        return {
            label: {k: v for k, v in each["metadata"]["annotations"].items() if k.startswith("checksum/")}
            for label, each in pods(rendered(*sets))
            if label in ("Deployment/lambent-frontend", "Deployment/lambent-scheduler", "pool/default")
        }

    plain, changed = sums(), sums("logging.level=debug")
    assert all(plain[label] != changed[label] for label in plain)
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


def test_further_objects_are_templates() -> None:
    given = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a", "labels": {}}},
        'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include "lambent.fullname" . }}-b\n',
    ]
    objects = rendered(f"extraObjects={json.dumps(given)}")
    assert one(objects, "ConfigMap", "lambent-a")
    assert one(objects, "ConfigMap", "lambent-b")


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
        for name in ("nodeSelector", "tolerations", "priorityClassName", "schedulerName", "runtimeClassName"):
            assert spec[name] == given[name], (component, name)
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


@pytest.mark.parametrize("values", ["", *(path.stem.removesuffix("-values") for path in CI)])
def test_the_control_plane_passes_pod_security_restricted(values: str) -> None:
    found = control_plane(rendered("workers.prePull.enabled=true", "uninstall.keepData=false", values=values))
    assert len(found) >= 5
    for label, each in found:
        assert beyond_restricted(each) == [], label
        assert all(
            container["securityContext"]["readOnlyRootFilesystem"] for container in each["spec"]["containers"]
        ), label


def test_profiles_of_isolation() -> None:
    userns = pod(rendered(), "pool/default")["spec"]
    assert userns["hostUsers"] is False
    assert userns["containers"][0]["securityContext"]["procMount"] == "Unmasked"
    assert beyond_restricted(pod(rendered("workers.isolation=restricted"), "pool/default")) == []
    privileged = pod(rendered("workers.isolation=privileged"), "pool/default")["spec"]["containers"][0]
    assert privileged["securityContext"]["privileged"] is True
    text = one(rendered("workers.minimumIsolation=namespaces"), "ConfigMap", "lambent")["data"]["lambent.toml"]
    assert 'minimum_isolation = "namespaces"' in text


def test_openshift_chooses_users() -> None:
    for label, each in pods(rendered(values="openshift")):
        assert not re.search(r'"(runAsUser|runAsGroup|fsGroup)"', json.dumps(each)), label


def test_accounts_have_no_token_but_where_it_is_used() -> None:
    objects = rendered(*EVERYTHING)
    mounted = {label for label, each in pods(objects) if each["spec"]["automountServiceAccountToken"]}
    assert mounted == {"Deployment/lambent-scheduler", "Job/lambent-keys-install", "CronJob/lambent-keys-renew"}
    assert pod(objects, "pool/default")["spec"]["automountServiceAccountToken"] is False
    assert all(each["automountServiceAccountToken"] is False for each in of_kind(objects, "ServiceAccount"))
    assert all(each["spec"]["enableServiceLinks"] is False for _, each in pods(objects))
    own = rendered('frontend.serviceAccount={"create": false, "name": "given"}', 'poller.serviceAccount={"name": "p"}')
    assert pod(own, "Deployment/lambent-frontend")["spec"]["serviceAccountName"] == "given"
    assert one(own, "ServiceAccount", "p")
    assert "lambent-frontend" not in {each["metadata"]["name"] for each in of_kind(own, "ServiceAccount")}


def test_rights_are_few_and_of_the_namespace() -> None:
    objects = rendered()
    assert of_kind(objects, "ClusterRole", "ClusterRoleBinding") == []
    rules = one(objects, "Role", "lambent-scheduler")["rules"]
    assert {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]} == {
        ("leases", "get"), ("leases", "update"),
        *(("pods", verb) for verb in ("create", "delete", "get", "list", "patch", "watch")),
    }  # fmt: skip
    assert {each["metadata"]["name"] for each in of_kind(objects, "Role")} == {
        "lambent-scheduler",
        "lambent-keys-install",
    }
    none = rendered("scheduler.election=redis", "workers.scaling=fixed")
    assert {each["metadata"]["name"] for each in of_kind(none, "Role")} == {"lambent-keys-install"}
    roles = of_kind(rendered("rbac.aggregate=true"), "ClusterRole")
    assert {label for each in roles for label in each["metadata"]["labels"] if "aggregate-to" in label} == {
        f"rbac.authorization.k8s.io/aggregate-to-{role}" for role in ("view", "edit", "admin")
    }
    assert not [each for each in roles if "secrets" in json.dumps(each["rules"])]


def test_who_may_reach_whom() -> None:
    objects = rendered("networkPolicy.monitoring=" + json.dumps([{"namespaceSelector": {}}]))

    def allowed(component: str) -> dict[int, set[str]]:
        rules = one(objects, "NetworkPolicy", f"lambent-{component}")["spec"]["ingress"]
        return {
            port["port"]: {
                peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component", "monitoring")
                for peer in rule.get("from", ())
            } or {"everybody"}
            for rule in rules
            for port in rule["ports"]
        }  # fmt: skip

    assert allowed("redis") == {6379: {"frontend", "poller", "scheduler", "test"}}
    assert allowed("worker") == {9020: {"frontend", "poller"}, 9092: {"monitoring"}}
    assert allowed("scheduler") == {9010: {"frontend", "poller", "worker"}, 9091: {"monitoring"}}
    assert allowed("frontend") == {9001: {"everybody"}, 9002: {"everybody"}, 9003: {"worker"}, 9090: {"monitoring"}}
    assert one(objects, "NetworkPolicy", "lambent-all")["spec"]["policyTypes"] == ["Ingress"]
    assert of_kind(rendered("networkPolicy.enabled=false"), "NetworkPolicy") == []
    assert "lambent-all" not in {
        each["metadata"]["name"] for each in rendered("networkPolicy.defaultDenyIngress=false")
    }


def test_workers_reach_only_what_values_say() -> None:
    def egress(*sets: str) -> list[Any]:
        policy = one(rendered(*sets), "NetworkPolicy", "lambent-worker")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        return list(policy["egress"])

    inside = {
        (peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "dns"), port["port"])
        for rule in egress("workers.networkPolicy.internet=false")
        for peer in rule["to"]
        for port in rule["ports"]
    }
    assert inside == {("dns", 53), ("scheduler", 9010), *(("frontend", port) for port in (9001, 9002, 9003))}
    blocks = [peer["ipBlock"] for rule in egress() for peer in rule["to"] if "ipBlock" in peer]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(blocks[0]["except"])
    assert len(blocks) == 1
    both = egress("workers.networkPolicy.ipv6=true")
    assert "::/0" in {peer["ipBlock"]["cidr"] for rule in both for peer in rule["to"] if "ipBlock" in peer}
    more = [{"to": [{"ipBlock": {"cidr": "10.9.9.9/32"}}]}]
    assert more[0] in egress(f"workers.networkPolicy.extraEgress={json.dumps(more)}")


def test_certificates() -> None:
    made = rendered("tls.enabled=true")
    assert (
        "--tls-secret=lambent-tls"
        in one(made, "Job", "lambent-keys-install")["spec"]["template"]["spec"]["containers"][0]["args"]
    )
    assert one(made, "CronJob", "lambent-keys-renew")
    for label in (*(f"Deployment/lambent-{name}" for name in COMPONENTS), "pool/default"):
        assert {"name": "tls", "mountPath": "/etc/lambent-tls", "readOnly": True} in (
            pod(made, label)["spec"]["containers"][0]["volumeMounts"]
        )
    assert 'tls = "/etc/lambent-tls"' in one(made, "ConfigMap", "lambent")["data"]["lambent.toml"]
    certificate = one(rendered(values="tls"), "Certificate", "lambent-tls")["spec"]
    assert certificate["dnsNames"] == ["lambent.internal"]
    assert of_kind(rendered(values="tls"), "CronJob") == []
    assert of_kind(rendered(values="gitops"), "CronJob", "Certificate") == []


def test_there_are_no_custom_resource_definitions() -> None:
    assert not (CHART / "crds").exists()
    assert of_kind(rendered(*EVERYTHING), "CustomResourceDefinition", "ValidatingWebhookConfiguration") == []


def test_the_service_and_ways_from_outside() -> None:
    service = one(
        rendered("frontend.service.type=LoadBalancer", 'frontend.service.annotations={"lb": "internal"}',
                 "frontend.service.ipFamilyPolicy=PreferDualStack", "frontend.service.grpcAppProtocol=grpc"),
        "Service", "lambent-frontend",
    )  # fmt: skip
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    assert service["metadata"]["annotations"]["lb"] == "internal"
    plain = one(rendered(), "Service", "lambent-frontend")["spec"]["ports"]
    assert {port["name"]: (port["port"], port["appProtocol"]) for port in plain} == {
        "http": (9001, "http"), "grpc": (9002, "kubernetes.io/h2c"),
    }  # fmt: skip
    assert service["spec"]["ports"][1]["appProtocol"] == "grpc"
    nodes = one(rendered('frontend.service={"type": "NodePort", "httpNodePort": 30001}'), "Service", "lambent-frontend")
    assert nodes["spec"]["ports"][0]["nodePort"] == 30001
    outside = rendered(values="tls")
    rule = one(outside, "Ingress", "lambent-frontend")["spec"]["rules"][0]
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "lambent-frontend", "port": {"name": "http"}}
    backends = {
        kind: one(outside, kind, "lambent-frontend")["spec"]["rules"][0]["backendRefs"][0]["port"]
        for kind in ("HTTPRoute", "GRPCRoute")
    }
    assert backends == {"HTTPRoute": 9001, "GRPCRoute": 9002}
    assert 'public_url = "https://lambda.example.com"' in one(outside, "ConfigMap", "lambent")["data"]["lambent.toml"]


def test_what_prometheus_is_told() -> None:
    labels = 'metrics.serviceMonitor.additionalLabels={"release": "prometheus"}'
    objects = rendered(*MONITORED, labels, "metrics.podMonitor.interval=5s")
    for kind, names, key in (("ServiceMonitor", ("frontend", "scheduler"), "endpoints"),
                             ("PodMonitor", ("poller", "worker"), "podMetricsEndpoints")):  # fmt: skip
        for name in names:
            monitor = one(objects, kind, f"lambent-{name}")
            endpoint = monitor["spec"][key][0]
            assert endpoint["port"] == "operations"
            assert endpoint["relabelings"][0] == {"targetLabel": "lambent_release", "replacement": "lambent"}
            assert endpoint["interval"] == ("30s" if kind == "ServiceMonitor" else "5s")
            assert (monitor["metadata"]["labels"].get("release") == "prometheus") is (kind == "ServiceMonitor")
    # What a monitor selects exists, under the name that it knows the port by.
    services = [each["spec"] for each in of_kind(objects, "Service")]
    for name in ("frontend", "scheduler"):
        ports = [
            port["name"]
            for spec in services
            if spec["selector"]["app.kubernetes.io/component"] == name
            for port in spec["ports"]
        ]
        assert "operations" in ports
    assert of_kind(rendered(), "ServiceMonitor", "PodMonitor", "PrometheusRule") == []


def metrics_in(expression: str) -> set[str]:
    found = set(re.findall(r"\b((?:aws_lambda|faas|lambent)_\w+)\{", expression))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}


def test_alerts_and_dashboards_speak_of_metrics_that_there_are() -> None:
    known = set(exposed().values())
    objects = rendered(*MONITORED, "metrics.prometheusRule.queueAgeSeconds=10")
    rules = one(objects, "PrometheusRule", "lambent")["spec"]["groups"][0]["rules"]
    used = {name for rule in rules for name in metrics_in(rule["expr"])}
    assert used
    assert used <= known
    alerts = {rule["alert"]: rule["expr"] for rule in rules}
    assert {"LambentThrottles", "LambentEventsWait", "LambentProvisionedShortfall"} <= set(alerts)
    assert alerts["LambentEventsWait"].endswith("> 10000")
    assert all('namespace="somewhere",lambent_release="lambent"' in expression for expression in alerts.values())
    boards = one(objects, "ConfigMap", "lambent-dashboards")
    assert set(boards["data"]) == {f"{name}.json" for name in DASHBOARDS}
    shown = {
        name
        for text in boards["data"].values()
        for panel in json.loads(text)["panels"]
        for name in metrics_in(panel["targets"][0]["expr"])
    }
    assert len(shown) > 10
    assert shown <= known


def test_the_exporter_calls_metrics_as_dashboards_do() -> None:
    """A process's own /metrics, with every metric of the table in it."""
    script = (
        "from lambent.infra.telemetry import METRICS, Telemetry\n"
        "from prometheus_client import generate_latest\n"
        "telemetry = Telemetry('frontend', otlp_endpoint='', prometheus=True, instance='x')\n"
        "for metric in METRICS.values():\n"
        "    if metric.kind == 'histogram':\n"
        "        telemetry.histogram(metric.name).record(1.0, {})\n"
        "    else:\n"
        "        telemetry.observe(metric.name, lambda: [({}, 1)])\n"
        "print(generate_latest().decode())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    python = ROOT / ".venv" / "bin" / "python"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True, env=environment)
    served = set(re.findall(r"^# TYPE (\S+)", done.stdout, re.MULTILINE))
    assert set(exposed().values()) <= served
    assert len(exposed()) == len(METRICS)


def test_helm_test_proves_the_installation() -> None:
    test = one(rendered(), "Pod", "lambent-test")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    container = test["spec"]["containers"][0]
    assert container["command"] == ["lambent", "verify"]
    assert "--endpoint=lambent-frontend:9002" in container["args"]
    assert {item["name"] for item in container["env"]} >= {"LAMBENT_REDIS_URL", "LAMBENT_ROOT_CREDENTIALS"}
    assert "lambent-test" not in {each["metadata"]["name"] for each in rendered("tests.enabled=false")}


def notes(folder: Path, *sets: str, kubernetes: str = KUBERNETES) -> str:
    """What `helm install` prints: `helm template` leaves it out, so it is made an object of a copy of the chart."""
    copy = folder / "chart"
    if not copy.exists():
        shutil.copytree(CHART, copy)
        text = (copy / "templates" / "NOTES.txt").read_text()
        (copy / "templates" / "notes.yaml").write_text(
            '{{- define "notes" }}' + text + '{{ end }}kind: Notes\ntext: {{ include "notes" . | toJson }}\n'
        )
    done = template(*sets, chart=copy, kubernetes=kubernetes, options=["--show-only", "templates/notes.yaml"])
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["text"])


def test_notes_say_how_to_begin_and_what_is_not_safe(tmp_path: Path) -> None:
    plain = notes(tmp_path)
    for words in ("http://lambent-frontend.somewhere:9001", "AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9001", "grpcurl",
                  "aws lambda invoke", "helm test lambent", "The bundled store is one replica", "isolation userns"):  # fmt: skip
        assert words in plain
    safe = notes(tmp_path, "redis.enabled=false", "externalRedis.host=store", "tls.enabled=true")
    assert "Worth knowing" not in safe
    risky = notes(
        tmp_path, "scheduler.replicaCount=1", "redis.persistence.enabled=false", "networkPolicy.enabled=false"
    )
    for words in ("nobody stands by", "lost with the store's pod", "functions may reach whatever"):
        assert words in risky
    assert "UserNamespacesSupport" in notes(tmp_path, kubernetes="1.31.0")
    assert "UserNamespacesSupport" not in plain


def test_the_readme_is_of_this_chart() -> None:
    prose = (CHART / "README.md").read_text()
    for subject in ("## Upgrades", "## Secrets", "To replace one", "## Uninstall", "## Images", "### frontend"):
        assert subject in prose
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["apiVersion"] == "v2"
    assert {"kubeVersion", "appVersion", "home", "sources", "maintainers", "icon"} <= set(about)
    assert "artifacthub.io/changes" in about["annotations"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(about["version"]))
