"""Who may do what: Pod Security, rights, tokens, secrets, certificates, and who reaches whom."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

from tests.chart.rendering import (
    CHART,
    CI,
    COMPONENTS,
    EVERYTHING,
    beyond_restricted,
    control_plane,
    needs_helm,
    of_kind,
    one,
    pod,
    pods,
    rendered,
)
from tools import chart

pytestmark = needs_helm


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
        ("leases", "get"), ("leases", "update"), ("configmaps", "get"),
        *(("pods", verb) for verb in ("create", "delete", "get", "list", "watch")),
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
    assert allowed("scheduler") == {9010: {"frontend", "poller", "scheduler", "worker"}, 9091: {"monitoring"}}
    assert allowed("frontend") == {9001: {"everybody"}, 9002: {"everybody"}, 9003: {"worker"}, 9090: {"monitoring"}}
    assert one(objects, "NetworkPolicy", "lambent-all")["spec"]["policyTypes"] == ["Ingress"]
    assert of_kind(rendered("networkPolicy.enabled=false"), "NetworkPolicy") == []
    assert "lambent-all" not in {
        each["metadata"]["name"] for each in rendered("networkPolicy.defaultDenyIngress=false")
    }


def test_workers_reach_only_what_values_say() -> None:
    def egress(*sets: str) -> list[Any]:
        objects = rendered(*sets)
        policy = one(objects, "NetworkPolicy", "lambent-worker")["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        outside = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"].endswith("-internet")]
        return [rule for each in (policy, *(one["spec"] for one in outside)) for rule in each["egress"]]

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


NETWORKS = """{
  "subnets": [{"id": "subnet-1", "vpc": "vpc-1"}, {"id": "subnet-2", "vpc": "vpc-1", "internet": true}],
  "securityGroups": [{"id": "sg-aB", "vpc": "vpc-1", "egress": [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}]},
                     {"id": "sg-2", "vpc": "vpc-1"}]}"""
IN_SUBNETS = """[
  {"name": "default"}, {"name": "closed", "rule": {"subnets": ["subnet-1"], "securityGroups": ["sg-aB"]}},
  {"name": "open", "rule": {"subnets": ["subnet-2"], "securityGroups": ["sg-2", "sg-aB"]}}]"""


def test_what_functions_in_a_subnet_reach_is_what_their_groups_say() -> None:
    objects = rendered(f"vpc={NETWORKS}", f"workers.pools={IN_SUBNETS}")
    outside = one(objects, "NetworkPolicy", "lambent-worker-internet")["spec"]["podSelector"]
    assert outside["matchExpressions"] == [{"key": "lambent.dev/pool", "operator": "NotIn", "values": ["closed"]}]
    group = one(objects, "NetworkPolicy", "lambent-sg-ab")["spec"]
    assert group["podSelector"]["matchExpressions"] == [
        {"key": "lambent.dev/pool", "operator": "In", "values": ["closed", "open"]}
    ]
    assert group["egress"] == [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}]
    assert "lambent-sg-2" not in {each["metadata"]["name"] for each in of_kind(objects, "NetworkPolicy")}
    settings = tomllib.loads(one(objects, "ConfigMap", "lambent")["data"]["lambent.toml"])
    assert settings["vpc"] == {
        "subnets": "subnet-1=vpc-1,subnet-2=vpc-1", "security_groups": "sg-aB=vpc-1,sg-2=vpc-1"
    }  # fmt: skip
    without = rendered(f"workers.pools={json.dumps([{'name': 'default'}])}")
    assert pod(objects, "pool/default") == pod(without, "pool/default"), "workers stay when networks are added"


def test_file_systems_are_claims_that_workers_mount() -> None:
    arn = "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef"
    named = [{"arn": f"{arn}0", "claim": "models"}, {"arn": f"{arn}1", "claim": "shared", "subPath": "a/b"}]
    objects = rendered(f"fileSystems={json.dumps(named)}")
    settings = tomllib.loads(one(objects, "ConfigMap", "lambent")["data"]["lambent.toml"])
    assert settings["file_systems"] == f"{arn}0=/mnt/lambent/0,{arn}1=/mnt/lambent/1"
    spec = pod(objects, "pool/default")["spec"]
    claims = {
        each["name"]: each["persistentVolumeClaim"]["claimName"]
        for each in spec["volumes"]
        if "persistentVolumeClaim" in each
    }
    assert claims == {"file-system-0": "models", "file-system-1": "shared"}
    mounts = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] in claims]
    assert mounts == [
        {"name": "file-system-0", "mountPath": "/mnt/lambent/0"},
        {"name": "file-system-1", "mountPath": "/mnt/lambent/1", "subPath": "a/b"},
    ]
    for component in COMPONENTS:
        volumes = pod(objects, f"Deployment/lambent-{component}")["spec"]["volumes"]
        assert not any(each["name"] in claims for each in volumes)


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
