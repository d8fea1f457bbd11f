"""Whatever a manifest says: it is a plan, or an error of one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lambent.client.manifests import documents
from lambent.client.manifests.plan import ManifestError, Plan
from lambent.client.manifests.reading import read
from lambent.client.manifests.variables import Surroundings

QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
SERVERLESS = {
    "service": "s", "params": {"default": {"a": 1}}, "custom": {"x": "${self:service}", "lambent": {"resources": {"T": "t"}}},
    "provider": {
        "name": "aws", "runtime": "python3.11", "stage": "dev", "memorySize": 128, "environment": {"A": "${self:custom.x}"},
        "tags": {"a": "b"}, "vpc": {"subnetIds": ["s"], "securityGroupIds": ["g"]}, "tracing": {"lambda": True},
        "logs": {"lambda": {"logFormat": "JSON"}}, "layers": ["arn"], "timeout": 3,
    },
    "plugins": ["p"], "package": {"patterns": ["!a"], "exclude": ["b"]}, "layers": {"l": {"path": "p", "package": {"patterns": []}}},
    "functions": {
        "f": {
            "handler": "a.b", "layers": [{"Ref": "LLambdaLayer"}], "environment": {"B": {"Fn::Sub": ["${x}", {"x": {"Ref": "T"}}]}},
            "destinations": {"onFailure": "f", "onSuccess": {"type": "sqs", "arn": QUEUE}}, "onError": QUEUE, "url": {"cors": {"maxAge": 1}},
            "events": [
                {"sqs": {"arn": QUEUE, "filterPatterns": [{"a": [1]}]}},
                {"stream": {"arn": QUEUE, "destinations": {"onFailure": QUEUE}}},
                {"kafka": {"bootstrapServers": ["a:1"], "topic": "t", "consumerGroupId": "g"}},
                {"msk": {"arn": QUEUE, "topic": "t", "saslScram512": QUEUE}},
                {"schedule": {"rate": ["rate(1 hour)"], "input": {"a": 1}, "inputTransformer": {"inputTemplate": "1"}}},
                {"schedule": {"rate": "at(2030-01-01T00:00:00)", "timezone": "UTC"}},
                {"eventBridge": {"pattern": {"source": ["a"]}, "deadLetterQueueArn": QUEUE, "retryPolicy": {"maximumEventAge": 60}}},
            ],
            "reservedConcurrency": 1, "provisionedConcurrency": 1, "package": {"patterns": ["c"]}, "tags": {"c": "d"},
        },
    },
}  # fmt: skip
TEMPLATE = {
    "Parameters": {"P": {"Type": "String", "Default": "p"}}, "Mappings": {"M": {"a": {"b": 1}}},
    "Conditions": {"C": {"Fn::Or": [{"Fn::Equals": [{"Ref": "P"}, "p"]}, {"Fn::Not": [{"Condition": "C"}]}]}},
    "Globals": {"Function": {"Runtime": "python3.11", "Tags": {"a": "b"}, "Layers": [{"Ref": "L"}]}},
    "Resources": {
        "L": {"Type": "AWS::Serverless::LayerVersion", "Properties": {"ContentUri": "l", "LayerName": "n"}},
        "F": {
            "Type": "AWS::Serverless::Function", "Condition": "C",
            "Properties": {
                "Handler": "a.b", "CodeUri": ".", "FunctionName": {"Fn::Join": ["-", ["a", {"Ref": "P"}]]}, "AutoPublishAlias": "live",
                "MemorySize": {"Fn::FindInMap": ["M", "a", "b"]}, "Description": {"Fn::If": ["C", "x", {"Ref": "AWS::NoValue"}]},
                "Environment": {"Variables": {"V": {"Fn::Select": [0, {"Fn::Split": [",", "a,b"]}]}}}, "Tags": {"c": "d"},
                "VpcConfig": {"SubnetIds": ["s"]}, "EphemeralStorage": {"Size": 512}, "DeadLetterQueue": {"TargetArn": QUEUE},
                "EventInvokeConfig": {"DestinationConfig": {"OnFailure": {"Destination": QUEUE}}}, "FunctionUrlConfig": {"AuthType": "NONE"},
                "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": 1},
                "Events": {
                    "Q": {"Type": "SQS", "Properties": {"Queue": QUEUE, "DestinationConfig": {"OnFailure": {"Destination": QUEUE}}}},
                    "S": {"Type": "Schedule", "Properties": {"Schedule": "rate(1 hour)", "DeadLetterConfig": {"Arn": QUEUE}}},
                    "V": {"Type": "ScheduleV2", "Properties": {"ScheduleExpression": "rate(1 hour)", "FlexibleTimeWindow": {"Mode": "OFF"}}},
                    "E": {"Type": "EventBridgeRule", "Properties": {"Pattern": {"source": ["a"]}, "Target": {"Id": "x"}}},
                },
            },
        },
    },
}  # fmt: skip

scalars = st.sampled_from([
    None, True, 0, -1, 1.5, "", "text", "${", "${self:}", "${self:functions}", "${self:service}", "${env:A, }", "${a(}", "${opt:stage, ${",
    "${file(none)}", "${strToBool()}", "${AWS::Region}", "!", "\0", "é" * 300,
])  # fmt: skip
keys = st.sampled_from(
    ["a", "Ref", "Fn::Sub", "Fn::If", "Fn::Join", "Fn::Select", "Fn::GetAtt", "Condition", "arn", "handler", "Type"]
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2), max_leaves=5
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


def _changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    within = document
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    return document


def _outcome(path: Path) -> Plan | str:
    """The plan, or the error."""
    try:
        return read(path, Surroundings("", "us-east-1", "000000000000", {"A": "a"}), {"T": "t"}, "")
    except ManifestError as error:
        return str(error)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([SERVERLESS, TEMPLATE]), st.data())
def test_a_manifest_is_a_plan_or_an_error_of_one_line(tmp_path_factory: Any, base: Any, data: st.DataObject) -> None:
    document = copy.deepcopy(base)
    for _ in range(data.draw(st.integers(0, 2))):
        if isinstance(document, dict | list):
            document = _changed(document, data.draw(st.sampled_from(_places(document))), data.draw(values))
    path = Path(tmp_path_factory.getbasetemp()) / "manifest.json"
    path.write_text(json.dumps(document))
    plan = _outcome(path)
    if isinstance(plan, str):
        assert "\n" not in plan
        return
    for function in plan.functions:
        assert isinstance(function.name, str)
        assert all(isinstance(each, str) for each in function.configuration["Environment"]["Variables"].values())
        documents.as_json([function.configuration, function.sources, function.url, function.event_invoke])
        for rule in function.rules:
            assert rule.name
            documents.as_json([rule.rule, rule.target])
        for schedule in function.schedules:
            assert schedule.name
            documents.as_json([schedule.schedule, schedule.target])


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="${}:,'\"()!&*[]-\n #selfabc0", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory: Any, text: str) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "any.yml"
    path.write_text("service: s\nprovider: {name: aws, runtime: r}\nfunctions:\n  f: {handler: a.b}\ncustom: " + text)
    outcome = _outcome(path)
    assert not isinstance(outcome, str) or "\n" not in outcome
