"""Makes what follows from the chart's values: values.schema.json, and README.md from README.md.gotmpl; and dashboards.

charts/lambent/values.yaml is the table. A value with a comment that begins with `# --` is one that users set; a mapping
without one only groups others, and no key beside those that it has is taken. What an empty mapping or list may hold
follows from its name (BY_NAME), what a text may be from its path (BY_PATH); settings of the processes from their own
table (lambent/infra/settings.py). Run by `make docs`; tests/chart compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lambent.domain.names import ACCOUNT_PATTERN, REGION_PATTERN
from lambent.domain.runtimes import SERVED
from lambent.infra.config import Row, table
from tools.chart_dashboards import DASHBOARDS, dashboard

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "lambent"
_MARK = '{{ template "chart.valuesSection" . }}'

Schema = dict[str, Any]

_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
_LIST: Schema = {"type": "array", "items": {"type": "string"}}
_PROBE: Schema = {"type": ["object", "null"]}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_PORT_OR_NONE: Schema = {**_PORT, "type": ["integer", "null"]}
_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUANTITY = r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?"

IMAGE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "registry": {"type": "string"},
        "repository": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._/:-]*$"},
        "tag": {"type": "string", "pattern": "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$"},
        "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
        "pullSecrets": _LIST,
    },
}
# Names of Kubernetes' own objects are taken as they are: the API server checks them.
BY_NAME: Mapping[str, Schema] = {
    **dict.fromkeys(
        ("annotations", "additionalLabels", "commonAnnotations", "commonLabels", "nodeSelector", "podAnnotations",
         "podLabels"),
        _TEXTS,
    ),
    **dict.fromkeys(
        ("affinity", "behavior", "issuerRef", "lifecycle", "podSecurityContext", "resources", "securityContext",
         "updateStrategy"),
        _OBJECT,
    ),
    **dict.fromkeys(
        ("additionalRules", "clients", "extraContainers", "extraEgress", "extraEnv", "extraEnvFrom", "extraIngress",
         "extraInitContainers", "extraVolumeMounts", "extraVolumes", "metricRelabelings", "metrics", "monitoring",
         "parentRefs", "relabelings", "tls", "tolerations", "topologySpreadConstraints"),
        _OBJECTS,
    ),
    **dict.fromkeys(
        ("except", "exceptIpv6", "extraArgs", "hostnames", "hosts", "imagePullSecrets", "loadBalancerSourceRanges",
         "pullSecrets", "regions", "runtimes", "unreachable"),
        _LIST,
    ),
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _PROBE),
    **dict.fromkeys(("httpPort", "grpcPort", "port"), _PORT),
    **dict.fromkeys(("httpNodePort", "grpcNodePort"), _PORT_OR_NONE),
    "digest": IMAGE["properties"]["digest"],
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "image": IMAGE,
    "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    "maxUnavailable": {"type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]?%$"},
    "podAntiAffinityPreset": {"enum": ["none", "soft", "hard"]},
    "pullPolicy": IMAGE["properties"]["pullPolicy"],
    "repository": IMAGE["properties"]["repository"],
    "resourceAttributes": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
    "scrapeTimeout": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    "tag": IMAGE["properties"]["tag"],
}  # fmt: skip
# `helm --set` makes a text of a number with a point.
_SHARE: Schema = {"type": ["number", "string"], "minimum": 0, "maximum": 1, "pattern": r"^(0(\.\d+)?|1(\.0+)?)$"}
BY_PATH: Mapping[str, Schema] = {
    "account": {"type": "string", "pattern": f"^{ACCOUNT_PATTERN}$"},
    "secretsRevision": {"type": ["string", "integer"]},
    "region": {"type": "string", "pattern": f"^{REGION_PATTERN}$"},
    "regions": {"type": "array", "items": {"type": "string", "pattern": f"^{REGION_PATTERN}$"}},
    "runtimes": {"type": "array", "items": {"enum": sorted(SERVED)}},
    "nameOverride": {"type": "string", "pattern": f"^({_NAME})?$", "maxLength": 63},
    "fullnameOverride": {"type": "string", "pattern": f"^({_NAME})?$"},
    "publicUrl": {"type": "string", "pattern": r"^(https?://\S+)?$"},
    "logging.level": {"enum": ["debug", "info", "warning", "error"]},
    "logging.format": {"enum": ["json", "text"]},
    "telemetry.otlpEndpoint": {"type": "string", "pattern": r"^((https?|grpc)://\S+)?$"},
    "telemetry.sample": _SHARE,
    "storage.code": {"enum": ["redis", "directory"]},
    "storage.logs": {"enum": ["redis", "directory"]},
    "redis.appendfsync": {"enum": ["always", "everysec"]},
    "redis.maxmemory": {"type": "string", "pattern": "^([0-9]+([kmgKMG]?[bB]?))?$"},
    "redis.persistence.size": {"type": "string", "pattern": f"^{_QUANTITY}$"},
    "redis.persistence.whenDeleted": {"enum": ["Retain", "Delete"]},
    "externalRedis.sentinel.hosts": {"type": "array", "items": {"type": "string", "pattern": r"^\S+:[0-9]+$"}},
    "scheduler.election": {"enum": ["lease", "redis"]},
    "frontend.replicaCount": {"type": "integer", "minimum": 0},
    "scheduler.leadershipSeconds": {"type": ["number", "string"], "minimum": 0.2, "pattern": r"^\d+(\.\d+)?$"},
    "scheduler.replicaCount": {"type": "integer", "minimum": 1},
    "frontend.service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "frontend.service.ipFamilyPolicy": {"enum": ["", "SingleStack", "PreferDualStack", "RequireDualStack"]},
    "frontend.ingress.hosts": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["host"],
            "properties": {
                "host": {"type": "string", "minLength": 1},
                "path": {"type": "string", "pattern": "^/"},
                "pathType": {"enum": ["Exact", "Prefix", "ImplementationSpecific"]},
                "port": {"enum": ["http", "grpc"]},
            },
        },
    },
    "workers.scaling": {"enum": ["scheduler", "fixed"]},
    "workers.isolation": {"enum": ["userns", "restricted", "privileged"]},
    "workers.minimumIsolation": {"enum": ["process", "landlock", "user-namespace", "namespaces"]},
    "workers.network": {"enum": ["full", "loopback", "none"]},
    "workers.max": {"type": "integer", "minimum": 1},
    "workers.memoryMb": {"type": "integer", "minimum": 128},
    "workers.environments": {"type": "integer", "minimum": 1},
    "fileSystems": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["arn", "claim"],
            "properties": {
                "arn": {
                    "type": "string",
                    "pattern": "^arn:aws[a-z-]*:elasticfilesystem:[a-z0-9-]+:[0-9]{12}:access-point/fsap-[a-f0-9]{17}$",
                },
                "claim": {"type": "string", "pattern": f"^{_NAME}$"},
                "subPath": {"type": "string"},
            },
        },
    },
    "vpc.subnets": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "vpc"],
            "properties": {
                "id": {"type": "string", "pattern": "^subnet-[0-9a-z]+$"},
                "vpc": {"type": "string", "pattern": "^vpc-[0-9a-z]+$"},
                "internet": {"type": "boolean"},
            },
        },
    },
    "vpc.securityGroups": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["id", "vpc"],
            "properties": {
                "id": {"type": "string", "pattern": "^sg-[0-9a-zA-Z]+$"},
                "vpc": {"type": "string", "pattern": "^vpc-[0-9a-z]+$"},
                "egress": _OBJECTS,
            },
        },
    },
    "workers.rule": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "architectures": {"type": "array", "items": {"enum": ["x86_64", "arm64"]}},
            "runtimes": _LIST,
            "subnets": _LIST,
            "securityGroups": _LIST,
            "accounts": {"type": "array", "items": {"type": "string", "pattern": f"^{ACCOUNT_PATTERN}$"}},
            "functions": _LIST,
        },
    },
    "tests.deletePolicy": {"enum": ["before-hook-creation", "before-hook-creation,hook-succeeded"]},
    "metrics.prometheusRule.throttleShare": _SHARE,
}
# What of `workers` holds for all pools alike.
OF_ALL_POOLS = (
    "pools", "scaling", "minimumIsolation", "network", "unreachable", "serviceAccount", "podDisruptionBudget",
    "prePull", "networkPolicy",
)  # fmt: skip
# Settings that follow from other values of the chart.
_CHARTS_OWN = frozenset(
    ("account", "region", "regions", "runtimes", "file_systems", "data", "http", "grpc", "public_url",
     "root_credentials", "access_keys", "schedulers", "redis_url", "examples", "timing.drain_seconds",
     "timing.leadership_seconds", "timing.leave_seconds", "queue.connections", "worker.isolation",
     "worker.minimum_isolation", "worker.network", "worker.unreachable", "worker.memory_mb", "worker.environments",
     "telemetry.otlp_endpoint", "telemetry.prometheus", "telemetry.sample", "telemetry.log_level",
     "telemetry.log_format", "storage.code", "storage.logs"),
)  # fmt: skip
_CHARTS_OWN_GROUPS = frozenset(("internal", "kubernetes", "vpc"))
_OF_TYPE: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


@dataclass(frozen=True, slots=True)
class Value:
    """One value of values.yaml that users set."""

    path: str
    default: Any
    doc: str


class Undocumented(Exception):
    """A value without a comment, or one of which it is not known what it may be."""


def values(text: str) -> Iterator[Value]:
    """Every value, in the file's order. Raises Undocumented."""
    lines = text.splitlines()

    def walk(node: yaml.MappingNode, prefix: str) -> Iterator[Value]:
        for key, item in node.value:
            path = f"{prefix}{key.value}"
            doc = _comment(lines, key.start_mark.line)
            if doc:
                yield Value(path, yaml.safe_load(yaml.serialize(item)), doc)
            elif isinstance(item, yaml.MappingNode) and item.value:
                yield from walk(item, f"{path}.")
            else:
                raise Undocumented(f'{path} has no comment that begins with "# --"')

    yield from walk(yaml.compose(text), "")


def _comment(lines: list[str], key: int) -> str:
    """The words above a key from `# --` on; empty: none."""
    found: list[str] = []
    for line in reversed(lines[:key]):
        words = line.strip()
        if not words.startswith("#"):
            break
        found.insert(0, words.lstrip("#").strip())
        if found[0].startswith("--"):
            return " ".join(found)[2:].strip()
    return ""


def moved() -> Mapping[str, str]:
    """Keys that are taken only to say where the value is now."""
    source = (CHART / "files" / "moved.yaml").read_text()
    found: Mapping[str, str] = yaml.safe_load(source)
    return found


def schema() -> Schema:
    """The schema of the whole."""
    whole = _group()
    for value in values((CHART / "values.yaml").read_text()):
        *groups, name = value.path.split(".")
        inner = whole
        for group in groups:
            inner = inner["properties"].setdefault(group, _group())
        inner["properties"][name] = {"description": value.doc, **_of(value)}
    # What a parent chart has for others is not ours to refuse.
    whole["properties"]["global"]["additionalProperties"] = True
    workers = whole["properties"]["workers"]["properties"]
    pool = {name: item for name, item in workers.items() if name not in OF_ALL_POOLS}
    # RELEASE-worker-POOL-xxxxx is a pod's name, and a release's names begin with at most 32 characters.
    pool["name"] = {"type": "string", "pattern": f"^{_NAME}$", "maxLength": 16}
    workers["pools"]["items"] = {**_group(), "required": ["name"], "properties": pool}
    for path in moved():
        *groups, name = path.split(".")
        inner = whole
        for group in groups:
            inner = inner["properties"][group]
        inner["properties"][name] = {"description": "Refused with a hint at what it is called here."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart lambent", **whole}


def _group() -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _of(value: Value) -> Schema:
    name = value.path.rpartition(".")[2]
    match value:
        case Value(path="settings"):
            return _settings()
        case Value(path="workers.pools"):
            return {"type": "array", "minItems": 1}
        case Value(path=path) if path in BY_PATH:
            return dict(BY_PATH[path])
        case _ if name in BY_NAME:
            return dict(BY_NAME[name])
        case Value(default=bool()):
            return {"type": "boolean"}
        case Value(default=int()):
            return {"type": "integer", "minimum": 0}
        case Value(default=float()):
            return {"type": "number", "minimum": 0}
        case Value(default=str()):
            return {"type": "string"}
    raise Undocumented(f"{value.path}: BY_NAME and BY_PATH do not say what it may be")


def _settings() -> Schema:
    """Those of the processes that the chart leaves to its users."""
    made = _group()
    for row in table():
        if row.group in _CHARTS_OWN_GROUPS or row.key in _CHARTS_OWN:
            continue
        group = made["properties"].setdefault(row.group, _group())
        group["properties"][row.name] = _setting(row)
    return made


def _setting(row: Row) -> Schema:
    made: Schema = {"description": row.doc, "type": _OF_TYPE[row.type]}
    if row.type is float:  # as _SHARE
        made |= {"type": ["number", "string"], "pattern": r"^\d+(\.\d+)?$"}
    if row.pattern:
        made["pattern"] = f"^({row.pattern})$"
    if row.minimum is not None:
        made["minimum"] = row.minimum
    if row.maximum is not None:
        made["maximum"] = row.maximum
    return made


def readme() -> str:
    """README.md: the prose of README.md.gotmpl, and a table of the values for each group of them."""
    lines: list[str] = []
    seen = None
    for value in values((CHART / "values.yaml").read_text()):
        group = value.path.partition(".")[0] if "." in value.path else ""
        if group != seen:
            seen = group
            lines += ["", f"### {group or 'All components'}" if group else "### Whole release", ""]
            lines += ["| value | default | meaning |", "| --- | --- | --- |"]
        lines.append(f"| `{value.path}` | {_shown(value.default)} | {value.doc.replace('|', chr(92) + '|')} |")
    prose = (CHART / "README.md.gotmpl").read_text()
    assert _MARK in prose
    return prose.replace(_MARK, "\n".join(lines).strip())


def _shown(default: Any) -> str:
    if default is None:
        return ""
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def files() -> Mapping[Path, str]:
    """What is made: file → text."""
    return {
        CHART / "values.schema.json": json.dumps(schema(), indent=1, ensure_ascii=False) + "\n",
        CHART / "README.md": readme(),
        **{CHART / "files" / "dashboards" / f"{name}.json": dashboard(name) for name in DASHBOARDS},
    }


def images(text: str) -> list[str]:
    """Every image that rendered objects name, for clusters without a way out."""
    return sorted(set(re.findall(r"""\bimage"?: "?([^"\s,]+)""", text)))


def main() -> None:
    """Write them."""
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
