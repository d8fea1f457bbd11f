"""What a manifest of the Serverless Framework's asks for, in the words of Lambda's API."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambent.client.manifests.plan import Files, ManifestError, Plan, PlannedFunction, PlannedRule, PlannedSchedule
from lambent.client.manifests.reading import read
from lambent.client.manifests.rules import is_made_for
from lambent.client.manifests.variables import Surroundings

HEAD = "service: shop\nprovider: {name: aws, runtime: python3.11}\n"
QUEUE = "arn:aws:sqs:eu-west-1:000000000000:orders"
TABLE = "arn:aws:dynamodb:eu-west-1:000000000000:table/t/stream/1"


def plan(tmp_path: Path, text: str, *, stage: str = "", **resources: str) -> Plan:
    path = tmp_path / "serverless.yml"
    path.write_text(text)
    surroundings = Surroundings(stage, "eu-west-1", "000000000000", {}, {"stage": stage} if stage else {})
    return read(path, surroundings, resources, "")


def one(tmp_path: Path, function: str, head: str = HEAD, **resources: str) -> PlannedFunction:
    [found] = plan(tmp_path, f"{head}functions: {{f: {{handler: app.handler, {function}}}}}\n", **resources).functions
    return found


def test_a_function_has_the_frameworks_defaults(tmp_path: Path) -> None:
    function = one(tmp_path, "")
    assert function.name == "shop-dev-f"
    assert function.configuration == {
        "Runtime": "python3.11", "Handler": "app.handler", "Description": "", "MemorySize": 1024, "Timeout": 6,
        "EphemeralStorage": {"Size": 512}, "Environment": {"Variables": {}}, "TracingConfig": {"Mode": "PassThrough"},
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}, "DeadLetterConfig": {"TargetArn": ""},
        "FileSystemConfigs": [],
    }  # fmt: skip
    assert (function.reserved, function.provisioned, function.alias, function.publish) == (None, None, None, True)
    assert (function.event_invoke, function.url, function.sources, function.layers) == (None, None, [], [])


def test_functions_say_more_than_the_provider_and_the_stage_is_who_asks_for_one(tmp_path: Path) -> None:
    text = (
        "service: {name: shop}\n"
        "provider:\n"
        "  name: aws\n  runtime: nodejs20.x\n  stage: ${opt:stage, 'test'}\n  memorySize: 512\n  timeout: 9\n"
        "  environment: {A: 1, B: true, C: left, D: '${sls:stage}'}\n  tags: {team: x}\n  architecture: arm64\n"
        "  tracing: {lambda: true}\n  vpc: {subnetIds: [subnet-1], securityGroupIds: [sg-1]}\n"
        "  logs: {lambda: {logFormat: JSON, applicationLogLevel: DEBUG}}\n  versionFunctions: false\n"
        "functions:\n"
        "  f: {handler: ./src/app.handler, name: own, runtime: python3.12, memorySize: '256', environment: {C: null, E: e},"
        " tags: {own: y}, tracing: PassThrough, ephemeralStorageSize: 1024, reservedConcurrency: 0, snapStart: true}\n"
        "  g: {handler: a.b}\n"
    )
    first, second = plan(tmp_path, text, stage="prod").functions
    assert (first.name, second.name) == ("own", "shop-prod-g")
    assert [each.name for each in plan(tmp_path, text).functions] == ["own", "shop-test-g"]
    settings = first.configuration
    assert (settings["Runtime"], settings["MemorySize"], settings["Timeout"]) == ("python3.12", 256, 9)
    assert settings["Handler"] == "src/app.handler"
    assert settings["Environment"] == {"Variables": {"A": "1", "B": "true", "D": "prod", "E": "e"}}
    assert (settings["TracingConfig"]["Mode"], second.configuration["TracingConfig"]["Mode"]) == (
        "PassThrough",
        "Active",
    )
    assert settings["Architectures"] == ["arm64"]
    assert settings["VpcConfig"] == {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert settings["LoggingConfig"] == {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"}
    assert settings["EphemeralStorage"] == {"Size": 1024}
    assert first.tags == {"team": "x", "own": "y"}
    assert first.reserved == 0
    assert (settings["SnapStart"], first.alias, first.publish) == ({"ApplyOn": "PublishedVersions"}, "snapstart", True)
    assert not second.publish


def test_what_becomes_of_events_that_fail(tmp_path: Path) -> None:
    text = (
        HEAD
        + "functions:\n"
        + f"  f: {{handler: a.b, onError: '{QUEUE}', maximumEventAge: 60, maximumRetryAttempts: 0,"
        + f" destinations: {{onSuccess: g, onFailure: {{type: sqs, arn: '{QUEUE}'}}}}}}\n"
        + "  g: {handler: a.c}\n"
    )
    function = plan(tmp_path, text).functions[0]
    assert function.configuration["DeadLetterConfig"] == {"TargetArn": QUEUE}
    assert function.event_invoke == {
        "MaximumEventAgeInSeconds": 60,
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {
            "OnSuccess": {"Destination": "arn:aws:lambda:eu-west-1:000000000000:function:shop-dev-g"},
            "OnFailure": {"Destination": QUEUE},
        },
    }


def test_queues_and_streams_are_read_and_what_else_calls_is_noted(tmp_path: Path) -> None:
    text = (
        HEAD + "functions:\n  f:\n    handler: a.b\n    events:\n"
        f"      - sqs: {QUEUE}\n"
        f"      - sqs: {{arn: '{QUEUE}', batchSize: 5, maximumBatchingWindow: 2, functionResponseType: ReportBatchItemFailures,"
        " enabled: false, maximumConcurrency: 4, filterPatterns: [{body: {a: [1]}}]}\n"
        f"      - stream: {{type: dynamodb, arn: '{TABLE}', startingPosition: LATEST, batchWindow: 1, parallelizationFactor: 2,"
        f" destinations: {{onFailure: '{QUEUE}'}}, bisectBatchOnFunctionError: true, consumer: true, odd: 1}}\n"
        "      - httpApi: 'GET /a'\n      - alexaSkill\n"
    )
    found = plan(tmp_path, text)
    assert found.functions[0].sources == [
        {"EventSourceArn": QUEUE},
        {
            "EventSourceArn": QUEUE, "BatchSize": 5, "MaximumBatchingWindowInSeconds": 2, "Enabled": False,
            "FunctionResponseTypes": ["ReportBatchItemFailures"], "ScalingConfig": {"MaximumConcurrency": 4},
            "FilterCriteria": {"Filters": [{"Pattern": '{"body":{"a":[1]}}'}]},
        },
        {
            "EventSourceArn": TABLE, "StartingPosition": "LATEST", "MaximumBatchingWindowInSeconds": 1,
            "ParallelizationFactor": 2, "BisectBatchOnFunctionError": True,
            "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
        },
    ]  # fmt: skip
    assert found.notes == [
        "functions.f.events[2].stream.odd is left out",
        "functions.f.events[2].stream.consumer is left out: the stream is read as by one without",
        "functions.f.events[3]: httpApi calls shop-dev-f on AWS and does not here",
        "functions.f.events[4]: alexaSkill calls shop-dev-f on AWS and does not here",
    ]


def test_topics_are_read(tmp_path: Path) -> None:
    text = HEAD + (
        "functions:\n  f:\n    handler: a.b\n    events:\n"
        "      - kafka: {bootstrapServers: ['a:9092', 'b:9092'], topic: t, batchSize: 5, consumerGroupId: g,"
        " accessConfigurations: {saslPlainAuth: arn}, filterPatterns: [{value: {a: [1]}}]}\n"
        "      - msk: {arn: !Sub 'arn:aws:kafka:${AWS::Region}:1:cluster/c/u', topic: t, startingPosition: LATEST}\n"
    )
    found = plan(tmp_path, text)
    assert found.functions[0].sources == [
        {
            "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:9092", "b:9092"]}}, "BatchSize": 5,
            "Topics": ["t"], "StartingPosition": "TRIM_HORIZON",
            "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"},
            "FilterCriteria": {"Filters": [{"Pattern": '{"value":{"a":[1]}}'}]},
        },
        {"EventSourceArn": "arn:aws:kafka:eu-west-1:1:cluster/c/u", "Topics": ["t"], "StartingPosition": "LATEST"},
    ]  # fmt: skip
    assert found.notes == [
        "functions.f.events[0].kafka.accessConfigurations is left out: connections say how brokers are logged in to"
    ]


def test_schedules_and_events_are_rules(tmp_path: Path) -> None:
    text = HEAD + (
        "functions:\n  f:\n    handler: a.b\n    events:\n"
        "      - schedule: rate(1 hour)\n"
        "      - schedule: {rate: ['cron(0 12 * * ? *)', 'rate(2 hours)'], name: noon, description: d, enabled: false,"
        " input: {a: 1}, method: eventBus, odd: 1}\n"
        f"      - eventBridge: {{pattern: {{source: [shop]}}, inputPath: $.detail, deadLetterQueueArn: '{QUEUE}',"
        " retryPolicy: {maximumEventAge: 60, maximumRetryAttempts: 1}}\n"
        "      - eventBridge: {schedule: rate(1 minute), inputTransformer: {inputPathsMap: {t: $.time}, inputTemplate: '<t>'}}\n"
        "      - schedule: {rate: rate(1 hour), timezone: Europe/Berlin, name: there, input: '{}', inputPath: $.a}\n"
        "      - schedule: at(2030-01-01T00:00:00)\n"
        "      - schedule: {rate: rate(1 hour), method: scheduler, enabled: false}\n"
        "      - eventBridge: {eventBus: mine, pattern: {source: [a]}}\n"
    )
    found = plan(tmp_path, text)
    enabled = {"State": "ENABLED"}
    noon = {"State": "DISABLED", "Description": "d"}
    assert found.functions[0].rules == [
        PlannedRule("shop-dev-f-schedule-1", {"ScheduleExpression": "rate(1 hour)", **enabled}, {}),
        PlannedRule("noon", {"ScheduleExpression": "cron(0 12 * * ? *)", **noon}, {"Input": '{"a":1}'}),
        PlannedRule("noon-2", {"ScheduleExpression": "rate(2 hours)", **noon}, {"Input": '{"a":1}'}),
        PlannedRule(
            "shop-dev-f-event-4", {"EventPattern": '{"source":["shop"]}', **enabled},
            {
                "InputPath": "$.detail", "DeadLetterConfig": {"Arn": QUEUE},
                "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 1},
            },
        ),
        PlannedRule(
            "shop-dev-f-schedule-5", {"ScheduleExpression": "rate(1 minute)", **enabled},
            {"InputTransformer": {"InputPathsMap": {"t": "$.time"}, "InputTemplate": "<t>"}},
        ),
    ]  # fmt: skip
    off = {"FlexibleTimeWindow": {"Mode": "OFF"}}
    there = {"ScheduleExpression": "rate(1 hour)", "ScheduleExpressionTimezone": "Europe/Berlin", **enabled, **off}
    once = {"ScheduleExpression": "at(2030-01-01T00:00:00)", **enabled, **off}
    assert found.functions[0].schedules == [
        PlannedSchedule("there", there, {"Input": "{}"}),
        PlannedSchedule("shop-dev-f-schedule-7", once, {}),
        PlannedSchedule(
            "shop-dev-f-schedule-8", {"ScheduleExpression": "rate(1 hour)", "State": "DISABLED", **off}, {}
        ),
    ]
    assert found.notes == [
        "functions.f.events[1].schedule.odd is left out",
        "functions.f.events[1].schedule.odd is left out",
        "functions.f.events[4].schedule: InputPath is left out: only rules have it, not schedules in a time zone",
        "functions.f.events[7].eventBridge.eventBus is another bus than `default`: shop-dev-f is not called",
    ]


def test_rules_without_names_have_names_that_fit_and_are_known_again(tmp_path: Path) -> None:
    names = {}
    for name in ("short", "x" * 63 + "1", "x" * 63 + "2"):
        text = HEAD + f"functions: {{f: {{handler: a.b, name: {name}, events: [schedule: rate(1 hour)]}}}}\n"
        [rule] = plan(tmp_path, text).functions[0].rules
        names[name] = rule.name
        assert len(rule.name) <= 64
    assert len(set(names.values())) == 3
    for name, rule_name in names.items():
        assert [each for each in names if is_made_for(rule_name, each)] == [name]
    assert not is_made_for("short-schedule", "short")
    assert not is_made_for("short-schedule-1x", "short")


def test_urls_are_as_they_are_asked_for(tmp_path: Path) -> None:
    assert one(tmp_path, "url: true").url == {"AuthType": "NONE", "InvokeMode": "BUFFERED"}
    function = one(
        tmp_path,
        "url: {authorizer: aws_iam, invokeMode: RESPONSE_STREAM, cors: {allowedOrigins: ['https://a'], maxAge: 60,"
        " allowCredentials: true}}",
    )
    assert function.url == {
        "AuthType": "AWS_IAM", "InvokeMode": "RESPONSE_STREAM",
        "Cors": {"AllowOrigins": ["https://a"], "AllowCredentials": True, "MaxAge": 60},
    }  # fmt: skip
    public = one(tmp_path, "url: {cors: true}").url
    assert public is not None
    assert public["Cors"]["AllowOrigins"] == ["*"]


def test_layers_are_the_manifests_own_or_anybodys(tmp_path: Path) -> None:
    arn = "arn:aws:lambda:eu-west-1:000000000000:layer:other:3"
    text = (
        HEAD + "layers:\n  my-own_one: {path: layer, name: mine, description: d, compatibleRuntimes: [python3.11]}\n"
        f"functions:\n  f: {{handler: a.b, layers: [!Ref MyDashownUnderscoreoneLambdaLayer, '{arn}']}}\n"
    )
    found = plan(tmp_path, text)
    [layer] = found.layers
    assert (layer.key, layer.files.root) == ("my-own_one", tmp_path / "layer")
    assert layer.request == {"LayerName": "mine", "Description": "d", "CompatibleRuntimes": ["python3.11"]}
    assert found.functions[0].layers == ["my-own_one", arn]


def test_resources_are_what_is_said_of_them(tmp_path: Path) -> None:
    text = (
        HEAD + "custom: {lambent: {resources: {Table: of-the-manifest, Other: other}}}\n"
        "functions:\n  f:\n    handler: a.b\n    environment:\n"
        "      TABLE: !Ref Table\n      OTHER: {Ref: Other}\n      QUEUE: !GetAtt [Queue, Arn]\n"
        "      SELF: !GetAtt FLambdaFunction.Arn\n      NAME: !Ref FLambdaFunction\n"
        "      SUB: !Sub ['${AWS::Partition}/${x}/${Table}/${!kept}', {x: !Ref Other}]\n"
        "      JOIN: !Join ['-', [a, !Ref 'AWS::Region']]\n"
        "resources: {Resources: {Table: {Type: 'AWS::DynamoDB::Table'}}}\nplugins: [serverless-offline, odd]\nodd: 1\n"
    )
    found = plan(tmp_path, text, **{"Table": "t", "Queue.Arn": QUEUE})
    assert found.functions[0].configuration["Environment"]["Variables"] == {
        "TABLE": "t", "OTHER": "other", "QUEUE": QUEUE, "NAME": "shop-dev-f", "JOIN": "a-eu-west-1",
        "SELF": "arn:aws:lambda:eu-west-1:000000000000:function:shop-dev-f", "SUB": "aws/other/t/${kept}",
    }  # fmt: skip
    assert found.notes == [
        "odd is left out", "resources are not made: only functions and layers are", "plugins: odd is not run",
    ]  # fmt: skip


def test_packages_are_of_the_folder_or_ready_made(tmp_path: Path) -> None:
    head = HEAD + "package: {patterns: ['!**', 'src/**'], exclude: [old]}\n"
    files = one(tmp_path, "package: {patterns: [more]}", head).code
    assert isinstance(files, Files)
    assert (files.root, files.artifact) == (tmp_path, None)
    assert files.patterns[-4:] == ("!old", "!**", "src/**", "more")
    made = one(tmp_path, "package: {artifact: dist/f.zip}", head).code
    assert isinstance(made, Files)
    assert made.artifact == tmp_path / "dist" / "f.zip"


def test_images_are_named_in_each_of_the_frameworks_ways(tmp_path: Path) -> None:
    head = (
        "service: shop\nprovider:\n  name: aws\n  runtime: python3.11\n"
        "  ecr: {images: {base: 'h/base:1', other: {uri: 'h/other:2'}}}\n"
    )
    nothing = {"EntryPoint": [], "Command": [], "WorkingDirectory": ""}
    for image, uri, config in (
        ("h/own@sha256:0", "h/own@sha256:0", {}),
        ("base", "h/base:1", {}),
        ("{name: other, command: [a.b]}", "h/other:2", {"Command": ["a.b"]}),
        (
            "{uri: h/i, entryPoint: [/e, x], workingDirectory: /w}", "h/i",
            {"EntryPoint": ["/e", "x"], "WorkingDirectory": "/w"},
        ),
    ):  # fmt: skip
        [function] = plan(tmp_path, f"{head}functions: {{f: {{image: {image}, timeout: 9}}}}\n").functions
        assert function.code == uri
        assert function.configuration["ImageConfig"] == nothing | config
        assert not {"Runtime", "Handler"} & function.configuration.keys()
        assert function.configuration["Timeout"] == 9


def test_params_are_the_stages_then_the_defaults(tmp_path: Path) -> None:
    text = (
        HEAD + "params: {default: {size: 128, who: all}, prod: {size: 512}}\n"
        "functions: {f: {handler: a.b, memorySize: '${param:size}', description: '${param:who}'}}\n"
    )
    for stage, size in (("", 128), ("prod", 512)):
        settings = plan(tmp_path, text, stage=stage).functions[0].configuration
        assert (settings["MemorySize"], settings["Description"]) == (size, "all")


def test_functions_may_be_in_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("a: {handler: a.b}\n")
    (tmp_path / "b.yml").write_text("b: {handler: b.b, name: '${self:service}-b'}\n")
    found = plan(tmp_path, HEAD + "functions: ['${file(a.yml)}', '${file(b.yml)}']\n")
    assert [each.name for each in found.functions] == ["shop-dev-a", "shop-b"]


def test_what_is_not_read_may_stand_for_what_cannot_be_had(tmp_path: Path) -> None:
    text = (
        "service: '${self:custom.name}'\ncustom: {name: shop, secret: '${ssm:/secret}'}\n"
        "provider: {name: aws, runtime: python3.11, iam: {role: '${cf:stack.role}'}}\n"
        "functions:\n  f:\n    handler: a.b\n    role: ${cf:stack.role}\n    odd: ${ssm:/x}\n"
        "    events: [{httpApi: {authorizer: '${cf:stack.id}'}}, '${file(event.yml)}']\n"
    )
    (tmp_path / "event.yml").write_text(f"sqs: {QUEUE}\n")
    found = plan(tmp_path, text)
    assert found.functions[0].name == "shop-dev-f"
    assert found.functions[0].sources == [{"EventSourceArn": QUEUE}]
    assert found.notes == [
        "functions.f.odd is left out",
        "functions.f.events[0]: httpApi calls shop-dev-f on AWS and does not here",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("just text", "a manifest says `service`, `provider` and `functions`"),
        ("service: a\n", "a manifest says `service`, `provider` and `functions`"),
        (HEAD, "functions: there is none"),
        ("service: a\nprovider: google\n", "provider.name: 'google' is another cloud"),
        ("service: a\nprovider: aws\nfunctions: {f: {handler: a.b}}\n", "functions.f: say its `runtime`"),
        (HEAD + "functions: {f: {}}\n", "functions.f: say its `handler`"),
        (HEAD + "functions: {f: {image: {command: [a]}}}\n", "functions.f.image: no image is built here"),
        (HEAD + "functions: {f: {image: {uri: {a: b}}}}\n", "functions.f.image.uri: this is no text"),
        (HEAD + "functions: {f: {image: {name: [a]}}}\n", "functions.f.image.name: this is no text"),
        (HEAD + "functions: {f: {image: {name: no}}}\n", "functions.f.image: provider.ecr.images has no no"),
        (HEAD + "functions: {f: {image: {uri: h/i, command: a}}}\n", "functions.f.image.command: this must be a list"),
        (HEAD + "functions: {f: [1]}\n", "functions.f: this must have members"),
        (HEAD + "functions: {f: {handler: a.b, timeout: soon}}\n", "functions.f.timeout: 'soon' is no whole number"),
        (
            HEAD + "functions: {f: {handler: a.b, memorySize: true}}\n",
            "functions.f.memorySize: True is no whole number",
        ),
        (
            HEAD + "functions: {f: {handler: a.b, environment: {A: [1]}}}\n",
            "functions.f.environment.A: this is no text",
        ),
        (
            HEAD + "functions: {f: {handler: a.b, environment: {A: !Ref T}}}\n",
            "functions.f.environment.A: T is not made here",
        ),
        (
            HEAD + "functions: {f: {handler: a.b, environment: {A: !ImportValue T}}}\n",
            "Fn::ImportValue is not known here",
        ),
        (
            HEAD + "functions: {f: {handler: a.b, package: {patterns: x}}}\n",
            "functions.f.package.patterns: this must be a list",
        ),
        (HEAD + "layers: {l: {}}\nfunctions: {f: {handler: a.b}}\n", "layers.l: say its `path`"),
        (
            HEAD + "functions: {f: {handler: '${self:none}'}}\n",
            "functions.f.handler: there is no value for ${self:none}",
        ),
        (HEAD + "functions: {f: {handler: a.b, events: 1}}\n", "functions.f.events: this must be a list"),
        (
            HEAD + "functions: {f: {handler: a.b, events: [{sqs: {queue: x}}]}}\n",
            "functions.f.events[0].sqs.arn: this is no text",
        ),
        (HEAD + "functions: {f: {handler: a.b, layers: x}}\n", "functions.f.layers: this must be a list"),
        (
            HEAD + "functions: {f: {handler: a.b, vpc: {subnetIds: x}}}\n",
            "functions.f.vpc.subnetIds: this must be a list",
        ),
    ],
)
def test_what_cannot_be_understood_is_told_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        plan(tmp_path, text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
