"""What a template of the Serverless Application Model's asks for, in the words of Lambda's API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from lambent.client.manifests.plan import Files, ManifestError, Plan, PlannedFunction, PlannedRule, PlannedSchedule
from lambent.client.manifests.reading import find, read
from lambent.client.manifests.variables import Surroundings

QUEUE = "arn:aws:sqs:eu-west-1:000000000000:orders"
STREAM = "arn:aws:kinesis:eu-west-1:000000000000:stream/s"
HEAD = "AWSTemplateFormatVersion: 2010-09-09\nTransform: AWS::Serverless-2016-10-31\n"


def plan(
    tmp_path: Path, text: str, resources: Mapping[str, str] | None = None, *, stack: str = "shop",
    params: Mapping[str, str] | None = None,
) -> Plan:  # fmt: skip
    path = tmp_path / "template.yaml"
    path.write_text(HEAD + text)
    surroundings = Surroundings("", "eu-west-1", "000000000000", {}, {}, params or {})
    return read(path, surroundings, resources or {}, stack)


def one(tmp_path: Path, properties: str, before: str = "") -> PlannedFunction:
    text = (
        f"{before}Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n"
        f"      Runtime: python3.11\n      Handler: app.handler\n{properties}"
    )
    [found] = plan(tmp_path, text).functions
    return found


def test_a_function_has_the_models_defaults(tmp_path: Path) -> None:
    function = one(tmp_path, "")
    assert (function.name, function.code) == ("shop-F", Files(tmp_path))
    assert function.configuration == {
        "Runtime": "python3.11", "Handler": "app.handler", "Description": "", "MemorySize": 128, "Timeout": 3,
        "EphemeralStorage": {"Size": 512}, "Environment": {"Variables": {}}, "TracingConfig": {"Mode": "PassThrough"},
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}, "DeadLetterConfig": {"TargetArn": ""},
        "FileSystemConfigs": [],
    }  # fmt: skip
    assert (function.reserved, function.provisioned, function.alias, function.publish) == (None, None, None, False)


def test_globals_parameters_mappings_and_conditions_are_what_they_are_on_aws(tmp_path: Path) -> None:
    text = (
        "Parameters:\n  Stage: {Type: String, Default: dev}\n  Seconds: {Type: Number, Default: 9}\n  Table: {Type: String}\n"
        "Mappings: {Sizes: {dev: {memory: 256}, prod: {memory: 1024}}}\n"
        "Conditions:\n  Prod: !Equals [!Ref Stage, prod]\n  Not: !Not [!Condition Prod]\n  Any: !Or [!Condition Prod, !Condition Not]\n"
        "Globals:\n  Function:\n    Runtime: python3.12\n    Timeout: !Ref Seconds\n    Environment: {Variables: {A: all, B: 1}}\n"
        "    Layers: ['arn:aws:lambda:eu-west-1:000000000000:layer:common:1']\n    Tags: {team: x}\n"
        "    VpcConfig: {SubnetIds: [!Select [1, !Split [',', 'a,b']]]}\n"
        "Resources:\n"
        "  Own: {Type: 'AWS::Serverless::LayerVersion', Properties: {LayerName: own, ContentUri: layer, CompatibleRuntimes: [python3.12]}}\n"
        "  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Handler: a.b\n      CodeUri: src\n"
        "      FunctionName: !Sub '${AWS::StackName}-${Stage}'\n      MemorySize: !FindInMap [Sizes, !Ref Stage, memory]\n"
        "      Environment: {Variables: {B: 2, C: !If [Prod, yes, !Ref AWS::NoValue], G: !GetAtt G.Arn, T: !Ref Table}}\n"
        "      Layers: [!Ref Own]\n      Tags: {own: !Join ['/', [a, !Ref AWS::Region]]}\n      Tracing: !If [Any, Active, PassThrough]\n"
        "  G: {Type: 'AWS::Serverless::Function', Condition: Not, Properties: {Handler: g.h}}\n"
        "  Table: {Type: 'AWS::DynamoDB::Table'}\n  Api: {Type: 'AWS::Serverless::HttpApi', Condition: Prod}\n"
    )
    found = plan(tmp_path, text, {"Table": "orders"})
    first, second = found.functions
    assert (first.name, second.name) == ("shop-dev", "shop-G")
    settings = first.configuration
    assert (settings["Runtime"], settings["Timeout"], settings["MemorySize"]) == ("python3.12", 9, 256)
    assert settings["Environment"]["Variables"] == {
        "A": "all", "B": "2", "G": "arn:aws:lambda:eu-west-1:000000000000:function:shop-G", "T": "orders",
    }  # fmt: skip
    assert first.layers == ["arn:aws:lambda:eu-west-1:000000000000:layer:common:1", "Own"]
    assert first.tags == {"team": "x", "own": "a/eu-west-1"}
    assert settings["TracingConfig"] == {"Mode": "Active"}
    assert settings["VpcConfig"] == {"SubnetIds": ["b"], "SecurityGroupIds": []}
    assert first.code == Files(tmp_path / "src")
    [layer] = found.layers
    assert (layer.files, layer.request) == (
        Files(tmp_path / "layer"),
        {"LayerName": "own", "CompatibleRuntimes": ["python3.12"]},
    )
    assert found.notes == ["Resources.Table: AWS::DynamoDB::Table is not made"]
    prod = plan(tmp_path, text.replace(", G: !GetAtt G.Arn", ""), {"Table": "orders"}, params={"Stage": "prod"})
    [only] = prod.functions
    assert (only.name, only.configuration["MemorySize"]) == ("shop-prod", 1024)
    assert only.configuration["Environment"]["Variables"]["C"] == "yes"


def test_versions_concurrency_urls_and_failures(tmp_path: Path) -> None:
    function = one(
        tmp_path,
        "      AutoPublishAlias: live\n      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 2}\n"
        "      ReservedConcurrentExecutions: 0\n      SnapStart: {ApplyOn: None}\n      Architectures: [arm64]\n"
        f"      DeadLetterQueue: {{Type: SQS, TargetArn: '{QUEUE}'}}\n"
        "      EventInvokeConfig:\n        MaximumRetryAttempts: 0\n"
        f"        DestinationConfig: {{OnFailure: {{Type: SQS, Destination: '{QUEUE}'}}}}\n"
        "      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ['*']}}\n      EphemeralStorage: {Size: 1024}\n",
    )
    assert (function.alias, function.publish, function.provisioned, function.reserved) == ("live", True, 2, 0)
    assert function.configuration["DeadLetterConfig"] == {"TargetArn": QUEUE}
    assert function.configuration["EphemeralStorage"] == {"Size": 1024}
    assert (function.configuration["SnapStart"], function.configuration["Architectures"]) == (
        {"ApplyOn": "None"},
        ["arm64"],
    )
    assert function.event_invoke == {
        "MaximumRetryAttempts": 0, "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
    }  # fmt: skip
    assert function.url == {"AuthType": "NONE", "InvokeMode": "BUFFERED", "Cors": {"AllowOrigins": ["*"]}}


def test_queues_and_streams_are_read_and_what_else_calls_is_noted(tmp_path: Path) -> None:
    text = (
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Runtime: python3.11\n      Handler: a.b\n"
        "      Odd: 1\n      Policies: [!ImportValue x]\n      Events:\n"
        "        Q: {Type: SQS, Properties: {Queue: !GetAtt Orders.Arn, BatchSize: 5, Enabled: 'false', Odd: 1}}\n"
        f"        S: {{Type: Kinesis, Properties: {{Stream: '{STREAM}', StartingPosition: LATEST,"
        f" DestinationConfig: {{OnFailure: {{Type: SQS, Destination: '{QUEUE}'}}}}}}}}\n"
        "        A: {Type: Api, Properties: {Path: /, Method: get, RestApiId: !Ref Api}}\n"
    )
    found = plan(tmp_path, text, {"Orders.Arn": QUEUE})
    assert found.functions[0].sources == [
        {"EventSourceArn": QUEUE, "BatchSize": 5, "Enabled": False},
        {
            "EventSourceArn": STREAM, "StartingPosition": "LATEST",
            "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
        },
    ]  # fmt: skip
    assert found.notes == [
        "F.Odd is left out",
        "F.Events.Q.Odd is left out",
        "F.Events.A: Api calls shop-F on AWS and does not here",
    ]


def test_topics_are_read(tmp_path: Path) -> None:
    text = (
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Runtime: python3.11\n      Handler: a.b\n"
        "      Events:\n"
        "        K: {Type: SelfManagedKafka, Properties: {KafkaBootstrapServers: ['a:9092'], Topics: [t], ConsumerGroupId: g}}\n"
        "        M: {Type: MSK, Properties: {Stream: 'arn:aws:kafka:r:1:cluster/c/u', Topics: [t], StartingPosition: LATEST}}\n"
    )
    assert plan(tmp_path, text).functions[0].sources == [
        {
            "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:9092"]}}, "Topics": ["t"],
            "StartingPosition": "TRIM_HORIZON",
            "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"},
        },
        {"EventSourceArn": "arn:aws:kafka:r:1:cluster/c/u", "Topics": ["t"], "StartingPosition": "LATEST"},
    ]  # fmt: skip


def test_schedules_and_events_are_rules(tmp_path: Path) -> None:
    function = (
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Runtime: python3.11\n      Handler: a.b\n"
        "      Events:\n"
    )
    text = (
        function + "        A: {Type: Schedule, Properties: {Schedule: rate(1 hour), Enabled: false, Odd: 1}}\n"
        "        B: {Type: Schedule, Properties: {Schedule: !Sub 'cron(0 ${Hour} * * ? *)', Name: !Sub '${AWS::StackName}-b', State: DISABLED,"
        f" Description: d, Input: '{{}}', RetryPolicy: {{MaximumRetryAttempts: 1}}, DeadLetterConfig: {{Arn: '{QUEUE}'}}}}}}\n"
        "        C: {Type: EventBridgeRule, Properties: {Pattern: {source: [shop]}, InputPath: $.detail}}\n"
        "        D: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute), RoleArn: x, GroupName: g}}\n"
        "        E: {Type: ScheduleV2, Properties: {ScheduleExpression: at(2030-01-01T00:00:00), ScheduleExpressionTimezone: Asia/Tokyo,"
        " Name: e, Input: {a: 1}, FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: 5}, EndDate: '2030-01-02T00:00:00Z'}}\n"
        "        F: {Type: EventBridgeRule, Properties: {Pattern: {source: [shop]}, EventBusName: mine}}\n"
    )
    found = plan(tmp_path, text, {"Hour": "12"})
    assert found.functions[0].rules == [
        PlannedRule("shop-F-schedule-1", {"ScheduleExpression": "rate(1 hour)", "State": "DISABLED"}, {}),
        PlannedRule(
            "shop-b", {"ScheduleExpression": "cron(0 12 * * ? *)", "State": "DISABLED", "Description": "d"},
            {"Input": "{}", "RetryPolicy": {"MaximumRetryAttempts": 1}, "DeadLetterConfig": {"Arn": QUEUE}},
        ),
        PlannedRule(
            "shop-F-event-3", {"EventPattern": '{"source":["shop"]}', "State": "ENABLED"}, {"InputPath": "$.detail"}
        ),
    ]  # fmt: skip
    assert found.notes == [
        "F.Events.A.Odd is left out",
        "F.Events.D.GroupName is left out",
        "F.Events.F is of another bus than `default`: shop-F is not called",
    ]
    assert found.functions[0].schedules == [
        PlannedSchedule(
            "shop-F-schedule-4",
            {"ScheduleExpression": "rate(1 minute)", "State": "ENABLED", "FlexibleTimeWindow": {"Mode": "OFF"}}, {},
        ),
        PlannedSchedule(
            "e",
            {
                "ScheduleExpression": "at(2030-01-01T00:00:00)", "ScheduleExpressionTimezone": "Asia/Tokyo",
                "State": "ENABLED", "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5},
                "EndDate": "2030-01-02T00:00:00Z",
            },
            {"Input": '{"a":1}'},
        ),
    ]  # fmt: skip
    for event, says in (
        ("{Type: Schedule}", "F.Events.A: say its `Schedule`"),
        ("{Type: Schedule, Properties: {Schedule: x, DeadLetterConfig: {Type: SQS}}}", "say its `Arn`"),
    ):
        with pytest.raises(ManifestError, match=re.escape(says)):
            plan(tmp_path, function + f"        A: {event}\n")


def test_code_is_a_folder_a_zip_or_what_the_template_says(tmp_path: Path) -> None:
    (tmp_path / "f.zip").touch()
    assert one(tmp_path, "      CodeUri: f.zip\n").code == Files(tmp_path, artifact=tmp_path / "f.zip")
    inline = one(tmp_path, "      InlineCode: |\n        def handler(event, context): return 1\n").code
    assert isinstance(inline, Files)
    assert inline.inline == ("index.py", "def handler(event, context): return 1\n")


def test_an_image_is_named_with_what_runs_in_it(tmp_path: Path) -> None:
    image = one(
        tmp_path,
        "      PackageType: Image\n      ImageUri: !Sub h/${AWS::Region}:1\n      ImageConfig: {Command: [a.b]}\n",
    )
    assert image.code == "h/eu-west-1:1"
    assert image.configuration["ImageConfig"] == {"EntryPoint": [], "Command": ["a.b"], "WorkingDirectory": ""}
    assert not {"Runtime", "Handler"} & image.configuration.keys()


def test_the_stack_is_who_says_so_first(tmp_path: Path) -> None:
    text = "Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Runtime: r, Handler: h}}}\n"
    assert plan(tmp_path, text, stack="").functions[0].name == f"{tmp_path.name}-F"
    (tmp_path / "samconfig.toml").write_text('[default.deploy.parameters]\nstack_name = "configured"\n')
    assert plan(tmp_path, text, stack="").functions[0].name == "configured-F"
    assert plan(tmp_path, text, stack="given").functions[0].name == "given-F"
    (tmp_path / "samconfig.toml").write_text("[")
    with pytest.raises(ManifestError, match=r"samconfig.toml: "):
        plan(tmp_path, text, stack="")


def test_a_folder_has_a_manifest_or_is_a_functions(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    template, manifest = tmp_path / "template.yaml", tmp_path / "serverless.yml"
    template.write_text("of something else")
    assert find(tmp_path) is None
    template.write_text("Type: AWS::Serverless::Function")
    assert find(tmp_path) == template
    manifest.touch()
    assert find(tmp_path) == manifest
    assert find(template) == template
    (tmp_path / "function.toml").touch()
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    ("properties", "before", "told"),
    [
        ("      Timeout: soon\n", "", "F.Timeout: 'soon' is no whole number"),
        ("      Environment: {Variables: {T: !Ref Table}}\n", "", "F.Environment.Variables.T: Table is not made here"),
        ("      MemorySize: !FindInMap [A, b, c]\n", "", "F.MemorySize: Mappings has no A.b.c"),
        ("      Timeout: !If [Odd, 1, 2]\n", "", "F.Timeout: this is no condition"),
        ("      Timeout: !If [A, 1, 2]\n", "Conditions: {A: !Condition A}\n", "Conditions.A: this is no condition"),
        ("      Description: !ImportValue x\n", "", "F.Description: Fn::ImportValue is not known here"),
        ("      Description: !Select [3, [a]]\n", "", "F.Description: there is no item 3"),
        ("      CodeUri: s3://bucket/key\n", "", "F.CodeUri: code in a bucket is not fetched"),
        ("      PackageType: Jar\n", "", "F.PackageType: 'Jar' is neither Zip nor Image"),
        ("      PackageType: Image\n", "", "F: no image is built here; push it, and say its `ImageUri`"),
        (
            "      PackageType: Image\n      ImageUri: h/i\n      ImageConfig: {Command: x}\n",
            "",
            "F.ImageConfig.Command: this must be a list",
        ),
        (
            "      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 1}\n",
            "",
            "goes with AutoPublishAlias",
        ),
        ("      Events: {Q: {Type: SQS}}\n", "", "F.Events.Q: say its `Queue`"),
        ("      Events: [1]\n", "", "F.Events: this must have members"),
        ("      EventInvokeConfig: {DestinationConfig: {OnFailure: {Type: SQS}}}\n", "", "no queue or topic is made"),
        ("  G: {Type: 'AWS::Serverless::Function', Properties: {Handler: h}}\n", "", "G: say its `Runtime`"),
        ("  L: {Type: 'AWS::Serverless::LayerVersion'}\n", "", "L: say its `ContentUri`"),
        ("  G: 1\n", "", "Resources.G: this must have members"),
    ],
)
def test_what_cannot_be_understood_is_told_in_one_line(properties: str, before: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        one(tmp_path, properties, before)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_has_a_name_and_a_serverless_yml_a_stage(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("Resources: {}\n")
    with pytest.raises(ManifestError, match="a template has no stages"):
        read(path, Surroundings("prod", "eu-west-1", "000000000000", {}), {}, "")
    path.write_text("service: s\nprovider: aws\n")
    with pytest.raises(ManifestError, match="not --name"):
        read(path, Surroundings("", "eu-west-1", "000000000000", {}), {}, "stack")


def test_a_template_without_functions_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there is no AWS::Serverless::Function"):
        plan(tmp_path, "Resources: {}\n")
