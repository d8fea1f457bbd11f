"""Whole services by `lambent deploy`, from their serverless.yml."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import service
from tests.e2e.harness import ROOT, Cluster, code_blocks, error_of, eventually, printed
from tests.e2e.reading import make_queue, reading_cluster

ORDERS = ("--resource", "Orders=orders-table")


@pytest.fixture(scope="module")
def reading(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with reading_cluster(moto, tmp_path_factory.mktemp("manifests")) as cluster:
        yield cluster


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The example, to be changed."""
    return Path(shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop"))


def deployed(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = cluster.lambent("deploy", *arguments, "--output", "json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def invoke(cluster: Cluster, name: str, event: Any = None, **arguments: Any) -> Any:
    answer = cluster.client().invoke(FunctionName=name, Payload=json.dumps(event or {}), **arguments)
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.loads(answer["Payload"].read())


def test_a_service_is_there_with_all_that_its_manifest_says(reading: Cluster, shop: Path) -> None:
    done = reading.lambent("deploy", str(shop), "--stage", "one", *ORDERS)
    assert done.returncode == 0, done.stderr
    assert "note: resources are not made" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["shop,", "stage", "one:"]
    assert [row[:3] for row in rows[2:]] == [["shop-one-offer", "created", "1"], ["shop-one-order", "created", "1"]]
    client = reading.client()
    assert invoke(reading, "shop-one-offer", {"thing": "pear"}) == {"thing": "pear", "price": 4}
    address = urllib.request.Request(f"http://{reading.http}/?thing=apple", headers={"Host": rows[2][3].split("/")[2]})
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert json.load(answer) == {"thing": "apple", "price": 3}
    found = invoke(reading, "shop-one-order", Qualifier="provisioned")
    assert found == {"table": "orders-table", "stage": "one", "version": "1"}
    assert client.get_function(FunctionName="shop-one-offer")["Concurrency"] == {"ReservedConcurrentExecutions": 10}
    which = {"FunctionName": "shop-one-order", "Qualifier": "provisioned"}
    assert client.get_provisioned_concurrency_config(**which)["RequestedProvisionedConcurrentExecutions"] == 1
    events = client.get_function_event_invoke_config(**which)
    assert events["MaximumRetryAttempts"] == 1
    assert events["DestinationConfig"]["OnFailure"]["Destination"].endswith(":function:shop-one-offer")


def test_the_page_can_be_followed(reading: Cluster) -> None:
    [block] = code_blocks((ROOT / "docs/howto/manifests.md").read_text(), "sh")
    said = reading.shell(block)
    assert '"price": 4' in said
    assert "shop, stage prod" in said
    assert reading.client().get_function(FunctionName="shop-prod-offer")["Concurrency"] == {
        "ReservedConcurrentExecutions": 100
    }


def test_what_has_not_changed_is_left_alone_and_what_has_is_changed(reading: Cluster, shop: Path) -> None:
    client, name = reading.client(), "shop-two-offer"
    two = (str(shop), "--stage", "two", *ORDERS)
    assert [each["action"] for each in deployed(reading, *two)["functions"]] == ["created", "created"]
    before = client.get_function_configuration(FunctionName=name)
    again = deployed(reading, *two)
    assert [each["action"] for each in again["functions"]] == ["unchanged", "unchanged"]
    after = client.get_function_configuration(FunctionName=name)
    assert (after["RevisionId"], after["Layers"]) == (before["RevisionId"], before["Layers"])
    manifest = shop / "serverless.yml"
    text = manifest.read_text().replace("memorySize: 256", "memorySize: 128").replace("    STAGE: ${sls:stage}\n", "")
    text = text.replace("    layers: [!Ref PricesLambdaLayer]\n", "    tags: {team: fruit}\n")
    text = text.replace("    reservedConcurrency: ${self:custom.most.${sls:stage}, 10}\n", "")
    text = text.replace(
        "    maximumRetryAttempts: 1\n    destinations: { onFailure: offer }\n", "    onError: !Ref Failed\n"
    )
    text = text.replace("provisionedConcurrency: 1", "provisionedConcurrency: 2")
    manifest.write_text(text)
    (shop / "src" / "order.py").write_text("def handler(event, context):\n    return context.function_version\n")
    failed = make_queue_arn("failed")
    done = deployed(reading, *two, "--resource", f"Failed={failed}")
    assert [(each["action"], each["version"]) for each in done["functions"]] == [("updated", "2"), ("updated", "2")]
    changed = client.get_function(FunctionName=name)
    assert changed["Configuration"]["MemorySize"] == 128
    assert changed["Configuration"]["Environment"]["Variables"] == {"TABLE": "orders-table"}
    assert not changed["Configuration"].get("Layers")
    assert "Concurrency" not in changed
    assert changed["Tags"] == {"team": "fruit"}
    which = {"FunctionName": "shop-two-order", "Qualifier": "provisioned"}
    assert client.get_function_configuration(FunctionName="shop-two-order")["DeadLetterConfig"] == {"TargetArn": failed}
    assert client.get_provisioned_concurrency_config(**which)["RequestedProvisionedConcurrentExecutions"] == 2
    assert error_of(client.get_function_event_invoke_config, **which)[1] == "ResourceNotFoundException"
    assert invoke(reading, "shop-two-order", Qualifier="provisioned") == "2"


def make_queue_arn(name: str) -> str:
    """Of a queue that events that failed would go to; nothing is sent there."""
    return f"arn:aws:sqs:us-east-1:123456789012:{name}"


TEMPLATE = """
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Parameters:
  Greeting: {Type: String, Default: hello}
Globals:
  Function: {Runtime: python3.11, Timeout: 10, Environment: {Variables: {GREETING: !Ref Greeting}}}
Resources:
  Said:
    Type: AWS::Serverless::LayerVersion
    Properties: {LayerName: said, ContentUri: layer}
  Greet:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src
      Handler: app.handler
      Layers: [!Ref Said]
      AutoPublishAlias: live
      FunctionUrlConfig: {AuthType: NONE}
      Events: {Page: {Type: HttpApi}}
  Inline:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      Environment: {Variables: {NEXT: !GetAtt Greet.Arn}}
      InlineCode: |
        import os
        def handler(event, context):
            return os.environ["NEXT"].rpartition(":")[2]
"""


def test_a_template_of_sams_is_deployed_and_deployed_again(reading: Cluster, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE)
    for folder, name, text in (
        (
            "src",
            "app.py",
            "import os, said\ndef handler(event, context):\n    return os.environ['GREETING'] + said.MARK\n",
        ),
        ("layer/python", "said.py", "MARK = '!'\n"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(text)
    done = deployed(reading, str(tmp_path), "--name", "sam")
    assert [(each["key"], each["action"]) for each in done["functions"]] == [
        ("Greet", "created"),
        ("Inline", "created"),
    ]
    assert done["notes"] == ["Greet.Events.Page: HttpApi calls sam-Greet on AWS and does not here"]
    assert invoke(reading, "sam-Greet", Qualifier="live") == "hello!"
    assert invoke(reading, "sam-Inline") == "sam-Greet"
    again = deployed(reading, str(template), "--name", "sam", "--param", "Greeting=welcome")
    assert [(each["action"], each["version"]) for each in again["functions"]] == [("updated", "2"), ("updated", None)]
    assert invoke(reading, "sam-Greet", Qualifier="live") == "welcome!"
    assert again["functions"][0]["url"] == done["functions"][0]["url"]


def test_a_function_has_the_rules_of_its_manifest(reading: Cluster, tmp_path: Path) -> None:
    manifest = tmp_path / "serverless.yml"
    head = "service: ruled\nprovider: {name: aws, runtime: python3.11}\nfunctions:\n  told:\n    handler: app.handler\n"
    events = (
        "    events:\n      - eventBridge: {pattern: {source: [a-manifest]}, inputPath: $.detail}\n"
        "      - schedule: {rate: rate(1 day), input: {a: 1}}\n      - schedule: {rate: 'cron(0 2 * * ? *)', name: nightly-told}\n"
        "      - schedule: {rate: 'cron(0 9 * * ? *)', timezone: Europe/Berlin}\n"
    )
    manifest.write_text(head + events)
    (tmp_path / "app.py").write_text("def handler(event, context):\n    print('told', event['of'])\n")
    deployed(reading, str(manifest))
    client = reading.client("events")
    arn = reading.client().get_function(FunctionName="ruled-dev-told")["Configuration"]["FunctionArn"]

    def names(qualifier: str = "") -> list[str]:
        listed: list[str] = client.list_rule_names_by_target(TargetArn=f"{arn}{qualifier}")["RuleNames"]
        return listed

    assert names() == ["nightly-told", "ruled-dev-told-event-1", "ruled-dev-told-schedule-2"]
    client.put_events(Entries=[{"Source": "a-manifest", "DetailType": "d", "Detail": '{"of": "pears"}'}])
    eventually(lambda: "told pears" in "".join(printed(reading.client("logs"), "/aws/lambda/ruled-dev-told")))
    scheduler = reading.client("scheduler")
    [schedule] = scheduler.list_schedules(NamePrefix="ruled-dev-told")["Schedules"]
    assert (schedule["Name"], schedule["Target"]["Arn"]) == ("ruled-dev-told-schedule-4", arn)
    deployed(reading, str(manifest))
    assert scheduler.get_schedule(Name=schedule["Name"])["ScheduleExpressionTimezone"] == "Europe/Berlin"
    fewer = events.replace("      - schedule: {rate: rate(1 day), input: {a: 1}}\n", "").replace("0 2", "0 3")
    manifest.write_text(head + "    provisionedConcurrency: 1\n" + fewer)
    deployed(reading, str(manifest))
    assert names() == []
    assert names(":provisioned") == ["nightly-told", "ruled-dev-told-event-1"]
    assert client.describe_rule(Name="nightly-told")["ScheduleExpression"] == "cron(0 3 * * ? *)"
    left = [rule["Name"] for rule in client.list_rules(NamePrefix="ruled-dev-told")["Rules"]]
    assert left == ["ruled-dev-told-event-1"]
    [schedule] = scheduler.list_schedules(NamePrefix="ruled-dev-told")["Schedules"]
    assert (schedule["Name"], schedule["Target"]["Arn"]) == ("ruled-dev-told-schedule-3", f"{arn}:provisioned")


def test_a_queue_is_read_as_the_manifest_says(reading: Cluster, moto: str, tmp_path: Path) -> None:
    arn = make_queue(moto, "of-a-manifest")
    manifest = tmp_path / "serverless.yml"
    text = (
        "service: queues\nprovider: {name: aws, runtime: python3.11}\n"
        "functions:\n  reader:\n    handler: app.handler\n    events:\n"
        "      - sqs: {arn: !GetAtt Orders.Arn, batchSize: 3, functionResponseType: ReportBatchItemFailures}\n"
    )
    manifest.write_text(text)
    (tmp_path / "app.py").write_text("def handler(event, context):\n    print('read', event['Records'][0]['body'])\n")
    orders = ("--resource", f"Orders.Arn={arn}")
    deployed(reading, str(manifest), *orders)
    client = reading.client()
    [mapping] = client.list_event_source_mappings(FunctionName="queues-dev-reader")["EventSourceMappings"]
    assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (3, ["ReportBatchItemFailures"])
    sqs = service(moto, "sqs")
    url = sqs.get_queue_url(QueueName="of-a-manifest")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="apples")
    eventually(lambda: "read apples" in "".join(printed(reading.client("logs"), "/aws/lambda/queues-dev-reader")))
    manifest.write_text(text.replace("batchSize: 3", "batchSize: 4, enabled: false"))
    deployed(reading, str(manifest), *orders)
    [changed] = client.list_event_source_mappings(FunctionName="queues-dev-reader")["EventSourceMappings"]
    assert (changed["UUID"], changed["BatchSize"]) == (mapping["UUID"], 4)
    eventually(lambda: client.get_event_source_mapping(UUID=mapping["UUID"])["State"] == "Disabled")
    deployed(reading, str(manifest), *orders)
    assert client.get_event_source_mapping(UUID=mapping["UUID"])["State"] == "Disabled"
    # With another qualifier it is the same mapping: two would share what comes.
    provisioned = text.replace("    events:", "    provisionedConcurrency: 1\n    events:")
    for now, ending, configs in ((provisioned, ":provisioned", 1), (text, ":queues-dev-reader", 0)):
        manifest.write_text(now)
        deployed(reading, str(manifest), *orders)
        [mapped] = client.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
        assert mapped["UUID"] == mapping["UUID"]
        assert mapped["FunctionArn"].endswith(ending)
        listed = client.list_provisioned_concurrency_configs(FunctionName="queues-dev-reader")
        assert len(listed["ProvisionedConcurrencyConfigs"]) == configs


@pytest.mark.parametrize(
    ("change", "arguments", "told"),
    [
        ({}, (), "functions.offer.environment.TABLE: Orders is not made here"),
        ({"256": "little"}, ORDERS, "functions.offer.memorySize: 'little' is no whole number"),
        ({"256": "7"}, ORDERS, "Member must have value greater than or equal to 128"),
        ({"timeout: 20": "url: {cors: {maxAge: long}}"}, ORDERS, "shop-bad-order: Failed to parse MaxAge field"),
        ({"path: layer": "path: nowhere"}, ORDERS, "nowhere is not a folder"),
        ({"service: shop": "service: ["}, ORDERS, "serverless.yml, line"),
        ({}, (*ORDERS, "--runtime", "python3.12"), "--stage, --param and --resource go with it"),
        ({}, ("--resource", "Orders"), "--resource takes NAME=VALUE, not 'Orders'"),
    ],
)
def test_what_cannot_be_deployed_is_told_in_a_line(
    reading: Cluster, shop: Path, change: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    manifest = shop / "serverless.yml"
    for before, after in change.items():
        manifest.write_text(manifest.read_text().replace(before, after))
    done = reading.lambent("deploy", str(shop), "--stage", "bad", *arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_manifest_takes_no_stage(reading: Cluster) -> None:
    done = reading.lambent("deploy", "examples/hello", "--stage", "prod")
    assert done.returncode == 2
    assert "examples/hello has none" in done.stderr
