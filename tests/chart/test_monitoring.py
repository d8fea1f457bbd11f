"""What Prometheus, Grafana and `helm test` are given."""

from __future__ import annotations

import json
import os
import re
import subprocess

from lambent.infra.telemetry import METRICS
from tests.chart.rendering import (
    MONITORED,
    ROOT,
    needs_helm,
    of_kind,
    one,
    rendered,
)
from tools.chart_dashboards import DASHBOARDS, exposed

pytestmark = needs_helm


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
