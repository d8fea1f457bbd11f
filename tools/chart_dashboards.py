"""Makes the Grafana dashboards of the chart from the table below; run by `make docs`.

A test checks that every metric in them is one that processes have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambent.infra.telemetry import METRICS

_UNITS = {"ms": "_milliseconds", "s": "_seconds"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph."""

    title: str
    expression: str  # PromQL; OF stands for the labels of one release
    legend: str
    unit: str = "short"


def exposed() -> Mapping[str, str]:
    """What Prometheus calls each metric of METRICS; histograms without _bucket, _sum and _count."""
    found = {}
    for metric in METRICS.values():
        name = metric.name.replace(".", "_")
        found[metric.name] = name + {"counter": "_total", "histogram": _UNITS.get(metric.unit, "")}.get(metric.kind, "")
    return found


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{OF}}[$__rate_interval]))"


def _percentile(metric: str, share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{OF}}[$__rate_interval])))"


DASHBOARDS: Mapping[str, tuple[str, tuple[Panel, ...]]] = {
    "lambent-functions": (
        "Lambent: functions",
        (
            Panel("Invocations", _rate("aws_lambda_invocations_total", "FunctionName"), "{{FunctionName}}", "reqps"),
            Panel("Errors", _rate("aws_lambda_errors_total", "FunctionName"), "{{FunctionName}}", "reqps"),
            Panel("Throttles", _rate("aws_lambda_throttles_total", "FunctionName"), "{{FunctionName}}", "reqps"),
            Panel("Duration, p50", _percentile("aws_lambda_duration_milliseconds", 0.5), "p50", "ms"),
            Panel("Duration, p99", _percentile("aws_lambda_duration_milliseconds", 0.99), "p99", "ms"),
            Panel("Cold starts", _rate("faas_coldstarts_total", "faas_name"), "{{faas_name}}", "reqps"),
            Panel("Init, p99", _percentile("faas_init_duration_seconds", 0.99), "p99", "s"),
            Panel(
                "Spillover of provisioned concurrency",
                _rate("aws_lambda_provisionedconcurrencyspilloverinvocations_total", "FunctionName"),
                "{{FunctionName}}",
                "reqps",
            ),
            Panel("Age of records of streams", _percentile("aws_lambda_iteratorage_milliseconds", 0.99), "p99", "ms"),
            Panel(
                "Records of event sources that functions failed with",
                _rate("aws_lambda_failedinvokeeventcount_total", "EventSourceMappingUUID"),
                "{{EventSourceMappingUUID}}",
            ),
        ),
    ),
    "lambent-cluster": (
        "Lambent: cluster",
        (
            Panel("Requests, by outcome", _rate("lambent_requests_total", "outcome"), "{{outcome}}", "reqps"),
            Panel("Requests, by operation", _rate("lambent_requests_total", "operation"), "{{operation}}", "reqps"),
            Panel("Environments", "sum by (state) (lambent_environments{OF})", "{{state}}"),
            Panel("Decisions of the scheduler", _rate("lambent_decisions_total", "reason"), "{{reason}}", "ops"),
            Panel("How invocations came by an environment", _rate("lambent_leases_total", "how"), "{{how}}", "ops"),
            Panel("What workers ran", _rate("lambent_worker_invocations_total", "outcome"), "{{outcome}}", "ops"),
            Panel("Events accepted", _rate("aws_lambda_asynceventsreceived_total", "FunctionName"), "{{FunctionName}}"),
            Panel("Age of events, p99", _percentile("aws_lambda_asynceventage_milliseconds", 0.99), "p99", "ms"),
            Panel("Events given up", _rate("aws_lambda_asynceventsdropped_total", "FunctionName"), "{{FunctionName}}"),
            Panel("Memory", "sum by (pod) (process_resident_memory_bytes{OF})", "{{pod}}", "bytes"),
        ),
    ),
}  # fmt: skip


def dashboard(name: str) -> str:
    """One as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    source = {"type": "prometheus", "uid": "${source}"}
    labels = 'namespace="$namespace",lambent_release="$release"'
    made: dict[str, Any] = {
        "uid": name,
        "title": title,
        "tags": ["lambent"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"},
                _variable("namespace", "label_values(lambent_requests_total, namespace)"),
                _variable("release", 'label_values(lambent_requests_total{namespace="$namespace"}, lambent_release)'),
            ]
        },
        "panels": [
            {
                "id": number,
                "type": "timeseries",
                "title": panel.title,
                "datasource": source,
                "gridPos": {"h": 8, "w": 12, "x": 12 * ((number - 1) % 2), "y": 8 * ((number - 1) // 2)},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": "A", "expr": panel.expression.replace("{OF}", f"{{{labels}}}"),
                     "legendFormat": panel.legend, "datasource": source}
                ],
            }
            for number, panel in enumerate(panels, 1)
        ],
    }  # fmt: skip
    return json.dumps(made, indent=1) + "\n"


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
    }
