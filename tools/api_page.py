"""Makes docs/reference/api.md: the operations of AWS's APIs that Lambent serves, and those that it does not yet.

Run by `make docs`; a test makes the page anew and compares. What is served comes from the protos, what there is from
botocore's model, so neither list is kept by hand.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import botocore.session
from google.api import annotations_pb2

from lambent.v1 import options_pb2

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "api.md"
# Every public service: what is not served is not in protos/lambent/v1.
FILES = [
    importlib.import_module(f"lambent.v1.{path.stem}")
    for path in sorted((ROOT / "lambent" / "v1").glob("*_service_pb2.py"))
]
# AWS's models that the services are of: those of which the page lists what is not served, and all.
WHOLE = ("lambda", "application-autoscaling")
MODELS = (*WHOLE, "logs", "sts", "events", "scheduler")

HEAD = """\
# API reference

<!-- Made by tools/api_page.py from protos/lambent/v1 and AWS's own model. Not edited by hand. -->

Every operation below is served at two doors: as AWS's REST API (SigV4, for the AWS CLI and SDKs) and as gRPC
(`authorization: Bearer TOKEN`, reflection enabled). Member names are AWS's in both, so one JSON document fits
`aws --cli-input-json` and `grpcurl -d`. Operations without an HTTP path are gRPC only. Those with an `X-Amz-Target` are
of AWS's JSON 1.1 protocol, those with an `Action` of its Query protocol.
"""


def methods() -> list[Any]:
    """The public RPCs, in the protos' order."""
    return [
        method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
    ]


def model_of(method: Any) -> str:
    """The name of AWS's model that an RPC's service is of."""
    return method.containing_service.GetOptions().Extensions[options_pb2.service].aws_model or MODELS[0]


def page() -> str:
    """The text of the page."""
    models = {name: botocore.session.Session().get_service_model(name) for name in MODELS}
    lines = [HEAD, "## Served", "", "| Operation | HTTP | Success | gRPC | Request members |", "|---|---|---|---|---|"]
    served = set()
    for method in methods():
        options = method.GetOptions()
        rule = options.Extensions[options_pb2.method]
        served.add((model_of(method), rule.aws_operation))
        service = method.containing_service.GetOptions().Extensions[options_pb2.service]
        named = _named(service, method.name)
        http = options.Extensions[annotations_pb2.http]
        verb = http.WhichOneof("pattern")
        path = f"`{verb.upper()} {_template(method, getattr(http, verb))}`" if verb else "–"
        if named:
            path = f"`POST /` `{named}`"
        query = "".join(f" with `{key}={value}`" for key, value in sorted(rule.required_query.items()))
        kind = " (stream)" if method.server_streaming else ""
        kind = " (streams both ways)" if method.client_streaming else kind
        name = f"`{method.name}`" if rule.aws_operation else f"`{method.name}` (Lambent's own)"
        members = ", ".join(_member(field) for field in method.input_type.fields)
        rpc = f"`{method.containing_service.full_name}/{method.name}`{kind}"
        lines.append(f"| {name} | {path}{query} | {rule.success if verb or named else '–'} | {rpc} | {members} |")
    missing = [
        (each, model.operation_model(each).http)
        for name, model in models.items()
        if name in WHOLE
        for each in model.operation_names
        if (name, each) not in served
    ]
    total = sum(len(models[name].operation_names) for name in WHOLE)
    lines += [
        "",
        "`*` is required; (h) travels in a header, (q) in the query, (p) in the path, (b) is the whole body.",
        "",
        f"## Not served yet ({len(missing)} of {total} in AWS's models)",
        "",
        "Of CloudWatch Logs, what tools need to read what functions wrote is served, of the Security Token Service",
        "what they ask first, of EventBridge rules and schedules of functions. No more is meant to be.",
        "",
        "These answer `UnknownOperationException`, or 405 where the path is known for another method.",
        "",
        "| Operation | HTTP |",
        "|---|---|",
    ]
    for name, http in missing:
        lines.append(f"| `{name}` | `{http['method']} {http['requestUri']}` |")
    return "\n".join(lines) + "\n"


def _named(service: Any, name: str) -> str:
    """How a request to the path `/` names an operation; empty: it has a path."""
    if service.target_prefix:
        return f"X-Amz-Target: {service.target_prefix}.{name}"
    return f"Action={name}" if service.query_version else ""


def _template(method: Any, template: str) -> str:
    for field in method.input_type.fields:
        template = template.replace("{" + field.name + "}", "{" + field.json_name + "}")
    return template


def _member(field: Any) -> str:
    rule = field.GetOptions().Extensions[options_pb2.field]
    place = {
        options_pb2.LOCATION_HEADER: " (h)",
        options_pb2.LOCATION_QUERY: " (q)",
        options_pb2.LOCATION_PAYLOAD: " (b)",
    }.get(rule.location, "")
    if not place and any("{" + field.name + "}" in template for template in _templates(field)):
        place = " (p)"
    if rule.extension:
        place += " (Lambent's own)"
    return f"{field.json_name}{'*' if rule.required else ''}{place}"


def _templates(field: Any) -> list[str]:
    """Path templates of the RPCs that take this field's message."""
    found = []
    for method in methods():
        if method.input_type.full_name == field.containing_type.full_name:
            http = method.GetOptions().Extensions[annotations_pb2.http]
            verb = http.WhichOneof("pattern")
            found += [getattr(http, verb)] if verb else []
    return found


def main() -> None:
    """Write the page; with --check, fail if it is not current."""
    text = page()
    if sys.argv[1:] == ["--check"]:
        if not PAGE.exists() or PAGE.read_text() != text:
            raise SystemExit(f"{PAGE.relative_to(ROOT)} is not current: run python -m tools.api_page")
        return
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
