"""The values: every one documented, no other taken, and what cannot be said so before anything is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from lambent.infra.config import load, table
from tests.chart.rendering import CHART, CI, helm, needs_helm, refused, rendered, template
from tools import chart

GOOD = (
    'settings={"timing": {"keep_alive_seconds": 60}, "limits": {"concurrent_executions": 200}}',
    "frontend.image.tag=2.0.0",
    'workers.pools=[{"name": "a", "isolation": "privileged", "memoryMb": 4096, "image": {"tag": "x"}}]',
    'extraObjects=["kind: ConfigMap", {"kind": "Secret"}]',
    'frontend.podDisruptionBudget={"maxUnavailable": "25%"}',
    'frontend.ingress={"enabled": true, "hosts": [{"host": "a.example", "port": "grpc"}]}',
    "frontend.livenessProbe=null",
    "redis.maxmemory=512mb",
    'global={"image": {"registry": "r.example"}, "ofAParentChart": 1}',
)
# Values that are refused, and what is said.
BAD = (
    ("frontent.replicaCount=2", "'frontent' not allowed"),
    ("frontend.replicas=2", "'replicas' not allowed"),
    ("scheduler.replicaCount=0", "/scheduler/replicaCount"),
    ('account="12"', "/account"),
    ("region=nowhere", "/region"),
    ("logging.level=loud", "one of 'debug', 'info', 'warning', 'error'"),
    ("workers.isolation=gvisor", "one of 'userns', 'restricted', 'privileged'"),
    ("workers.minimumIsolation=none", "/workers/minimumIsolation"),
    ("image.digest=sha256:short", "/image/digest"),
    ("redis.appendfsync=no", "/redis/appendfsync"),
    ('redis.persistence.size="much"', "/redis/persistence/size"),
    ("fullnameOverride=Not_A_Name", "/fullnameOverride"),
    ("telemetry.sample=2", "/telemetry/sample"),
    ('runtimes=["cobol"]', "/runtimes/0"),
    ('regions=["eu-west-1"]', "region=us-east-1 is none of regions"),
    ('settings={"queue": {"share": 2}}', "/settings/queue/share"),
    ('settings={"timing": {"keep_alive": 1}}', "'keep_alive' not allowed"),
    ('settings={"cluster": {"data": "/elsewhere"}}', "'data' not allowed"),
    ('settings={"internal": {"store": "x:1"}}', "'internal' not allowed"),
    ('workers.pools=[{"nam": "a"}]', "missing property 'name'"),
    ('workers.pools=[{"name": "a", "scaling": "fixed"}]', "'scaling' not allowed"),
    ("workers.pools=[]", "/workers/pools"),
    ('workers.rule={"architectures": ["sparc"]}', "one of 'x86_64', 'arm64'"),
    ("scheduler.election=none", "one of 'lease', 'redis'"),
    ("ingress.enabled=true", "ingress is no value of this chart: use frontend.ingress"),
    ("crds.install=true", "leave it out: the chart has no CustomResourceDefinitions"),
    ("redis.password=secret", "no value holds a password"),
    ("externalRedis.host=store", "redis.enabled and externalRedis are both given"),
    ("redis.enabled=false", "no store: set redis.enabled=true, or give externalRedis.host"),
    (
        'externalRedis={"cluster": {"enabled": true}, "sentinel": {"enabled": true, "hosts": ["a:1"]}, "database": 2}',
        "externalRedis.cluster.enabled needs externalRedis.cluster.hosts",
    ),
    ('externalRedis={"cluster": {"enabled": true}, "database": 2}', "a Redis Cluster has no other"),
    ('externalRedis={"cluster": {"enabled": true}, "sentinel": {"enabled": true}}', "both enabled: choose one"),
    ('workers.pools=[{"name": "a"}, {"name": "a"}]', "two pools are called a"),
    ('workers.pools=[{"name": "a", "min": 20}]', "pool a: min (20) is more than max (10)"),
    ('workers.pools=[{"name": "a", "rule": {"subnets": ["subnet-1"]}}]', "pool a: subnet-1 is not in vpc.subnets"),
    ('vpc.subnets=[{"id": "subnet-1", "vpc": "vpc-1"}]', "no pool's rule names subnet-1"),
    ('vpc.subnets=[{"id": "subnet_1", "vpc": "vpc-1"}]', "/vpc/subnets/0/id"),
    ('fileSystems=[{"arn": "models", "claim": "models"}]', "/fileSystems/0/arn"),
    (
        'workers={"isolation": "restricted", "minimumIsolation": "namespaces"}',
        "pool default: isolation=restricted gives landlock at best",
    ),
    ("openshift.enabled=true", "pool default: isolation=userns wants a user"),
    ('tls={"enabled": true, "certManager": {"enabled": true}}', "tls.certManager.enabled needs tls.certManager.issuerRef"),
    ('tls={"certManager": {"enabled": true, "issuerRef": {"name": "x"}}}', "does nothing without tls.enabled=true"),
    ("frontend.ingress.enabled=true", "frontend.ingress.enabled needs frontend.ingress.hosts"),
    ("frontend.httpRoute.enabled=true", "frontend.httpRoute.enabled needs frontend.httpRoute.parentRefs"),
    ('frontend.autoscaling={"enabled": true, "minReplicas": 9, "maxReplicas": 3}', "minReplicas is more than maxReplicas"),
    ("rbac.create=false", "the scheduler needs rights over pods and leases"),
    ("storage.code=directory", "storage.code=directory needs a volume that all frontends share"),
)  # fmt: skip


def test_what_is_generated_is_current() -> None:
    for path, text in chart.files().items():
        assert path.read_text() == text, f"{path.name} is not current: run `make docs`"


def test_every_value_is_documented() -> None:
    found = list(chart.values((CHART / "values.yaml").read_text()))
    assert len(found) > 200
    assert [value.path for value in found if len(value.doc) < 5] == []


def test_a_value_without_a_comment_is_found() -> None:
    with pytest.raises(chart.Undocumented, match=r"redis\.port"):
        list(chart.values("redis:\n  # a word\n  port: 1\n"))


def test_no_key_of_ours_is_open() -> None:
    """Only objects of Kubernetes' own, maps of labels, and what a parent chart has are."""
    closed, opened = 0, []

    def walk(node: Any, path: str) -> None:
        nonlocal closed
        for name, item in node.get("properties", {}).items():
            walk(item, f"{path}.{name}")
        if node.get("properties") is not None:
            closed += node["additionalProperties"] is False
            opened.extend([path] if node["additionalProperties"] is not False else [])
        if "items" in node:
            walk(node["items"], f"{path}[]")

    walk(chart.schema(), "")
    assert opened == [".global"]
    assert closed > 50


def test_settings_that_the_chart_gives_are_not_given_twice() -> None:
    shown = chart.schema()["properties"]["settings"]["properties"]
    known = {row.key for row in table()}
    given = {
        name if group == "cluster" else f"{group}.{name}" for group in shown for name in shown[group]["properties"]
    }
    assert given <= known
    assert known >= chart._CHARTS_OWN
    assert not given & chart._CHARTS_OWN


@needs_helm
@pytest.mark.parametrize("values", GOOD)
def test_good_values_are_taken(values: str) -> None:
    done = template(values)
    assert done.returncode == 0, done.stderr


@needs_helm
@pytest.mark.parametrize(("values", "said"), BAD)
def test_bad_values_are_refused_with_a_reason(values: str, said: str) -> None:
    assert said in refused(values)


@needs_helm
def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = refused("ingress.enabled=true", "redis.enabled=false", 'workers.pools=[{"name": "a", "min": 20}]')
    assert said.count("\n  - ") == 3


@needs_helm
@pytest.mark.parametrize("path", CI, ids=[path.stem for path in CI])
def test_the_linter_has_nothing_to_say(path: Any) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(path), "--kube-version", "1.34.0")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_helm
@pytest.mark.parametrize("path", CI, ids=[path.stem for path in CI])
@pytest.mark.parametrize("kubernetes", ["1.30.0", "1.34.0"])
def test_rendering_twice_gives_the_same(path: Any, kubernetes: str) -> None:
    once, twice = (template(values=[path], kubernetes=kubernetes) for _ in range(2))
    assert once.returncode == 0, once.stderr
    assert once.stdout == twice.stdout


@needs_helm
def test_an_older_cluster_is_told() -> None:
    done = template(kubernetes="1.29.0")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


@needs_helm
def test_what_processes_are_given_is_what_they_take(tmp_path: Any) -> None:
    for sets in ((), GOOD[:1], ("scheduler.election=redis", "workers.scaling=fixed"), ("tls.enabled=true",)):
        configuration = next(
            each for each in rendered(*sets) if each["kind"] == "ConfigMap" and "lambent.toml" in each["data"]
        )
        file = tmp_path / "lambent.toml"
        file.write_text(configuration["data"]["lambent.toml"])
        loaded = load(file, {}, {}).settings
        assert loaded.timing.drain_seconds == 900.0
        assert loaded.internal.scheduler == "lambent-scheduler:9010"
        assert loaded.storage.code == "redis"
        if sets == GOOD[:1]:
            assert (loaded.limits.concurrent_executions, loaded.timing.keep_alive_seconds) == (200, 60.0)


@needs_helm
def test_a_pool_says_the_same_to_the_scheduler_and_to_its_pods() -> None:
    objects = rendered('workers.pools=[{"name": "big", "memoryMb": 8192, "environments": 400}]')
    pools = next(each for each in objects if each["metadata"]["name"] == "lambent-pools")
    pool = json.loads(pools["data"]["big.json"])
    environment = {item["name"]: item.get("value") for item in pool["template"]["spec"]["containers"][0]["env"]}
    assert pool["memoryMb"] == int(environment["LAMBENT_WORKER_MEMORY_MB"]) == 8192
    assert pool["environments"] == int(environment["LAMBENT_WORKER_ENVIRONMENTS"]) == 400
    assert environment["LAMBENT_INTERNAL_WORKER_POOL"] == pool["name"] == "big"
    variables = {row.variable for row in table()}
    assert {name for name in environment if name.startswith("LAMBENT_")} <= variables
    assert set(pool) == {
        "name", "min", "max", "headroomMb", "scaleToZero", "idleSeconds", "memoryMb", "environments", "rule", "template",
    }  # fmt: skip
    assert set(pool["rule"]) == {
        "architectures", "runtimes", "subnets", "securityGroups", "accounts", "functions",
    }  # fmt: skip


def test_the_version_is_the_packages() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    from lambent import __version__

    assert str(about["appVersion"]) == __version__
