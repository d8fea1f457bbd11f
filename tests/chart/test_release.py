"""Names, labels, images, ways in, and what users read first. test_checklist.py says which test shows what."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import yaml

from tests.chart.rendering import (
    CHART,
    EVERYTHING,
    KUBERNETES,
    needs_helm,
    of_kind,
    one,
    pod,
    pods,
    rendered,
    template,
)
from tools import chart

pytestmark = needs_helm


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


def test_further_objects_are_templates() -> None:
    given = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a", "labels": {}}},
        'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include "lambent.fullname" . }}-b\n',
    ]
    objects = rendered(f"extraObjects={json.dumps(given)}")
    assert one(objects, "ConfigMap", "lambent-a")
    assert one(objects, "ConfigMap", "lambent-b")


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
