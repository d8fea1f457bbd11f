"""HashiCorp's AWS provider, unmodified, with what the how-to shows.

Where there is no Terraform, or no file that says where its providers are (TF_CLI_CONFIG_FILE), this is skipped: the
provider alone is some hundred megabytes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import service
from tests.e2e.harness import Cluster, code_blocks, run, zipped
from tests.e2e.reading import ACCOUNT, CODE, make_queue, reading_cluster
from tests.kafka import Brokers, mock_brokers

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "terraform.md"


pytestmark = pytest.mark.skipif(
    shutil.which("terraform") is None or not Path(os.environ.get("TF_CLI_CONFIG_FILE", "-")).is_file(),
    reason="no Terraform with a provider",
)


def terraform(cluster: Cluster, folder: Path, *arguments: str) -> str:
    done = run("terraform", f"-chdir={folder}", *arguments, "-no-color", env=cluster.environment, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_how_to_declares_is_made_kept_changed_and_removed(cluster: Cluster, tmp_path: Path) -> None:
    [declared] = code_blocks(PAGE.read_text(), "terraform")

    def declare(text: str, says: str) -> None:
        (tmp_path / "main.tf").write_text(text)
        (tmp_path / "greet.zip").write_bytes(zipped({"app.py": f"def handler(event, context):\n    return {says!r}\n"}))

    def unchanged() -> bool:
        return "No changes." in terraform(cluster, tmp_path, "plan")

    client = cluster.client()
    declare(declared, "first")
    terraform(cluster, tmp_path, "init")
    terraform(cluster, tmp_path, "apply", "-auto-approve")
    assert unchanged()
    assert client.invoke(FunctionName="greet", Qualifier="live")["Payload"].read() == b'"first"'
    web = client.get_function_url_config(FunctionName="greet", Qualifier="live")
    assert (web["AuthType"], web["Cors"]["AllowOrigins"]) == ("AWS_IAM", ["https://www.example.com"])
    events = cluster.client("events")
    [target] = events.list_targets_by_rule(Rule="morning")["Targets"]
    assert target["InputTransformer"] == {"InputPathsMap": {"when": "$.time"}, "InputTemplate": '{"when": <when>}'}
    scheduler = cluster.client("scheduler")
    assert scheduler.get_schedule(Name="evening")["Target"]["Input"] == '{"name":"evening"}'
    changed = (
        declared.replace('team = "x"', 'stage = "y"')
        .replace('"Europe/Berlin"', '"Asia/Tokyo"')
        .replace("cron(0 6 ", "cron(0 7 ")
        .replace("executions = 2", "executions = 3")
    )
    changed = changed.replace("max_age       = 60", 'max_age       = 0\n    expose_headers = ["x-a"]')
    changed = re.sub(r"(  publish .*\n)", r"\1  memory_size = 256\n  reserved_concurrent_executions = 10\n", changed)
    declare(changed, "second")
    terraform(cluster, tmp_path, "apply", "-auto-approve")
    assert unchanged()
    assert client.invoke(FunctionName="greet", Qualifier="live")["Payload"].read() == b'"second"'
    function = client.get_function(FunctionName="greet")
    assert (function["Tags"], function["Concurrency"]) == ({"stage": "y"}, {"ReservedConcurrentExecutions": 10})
    assert events.describe_rule(Name="morning")["ScheduleExpression"] == "cron(0 7 * * ? *)"
    assert scheduler.get_schedule(Name="evening")["ScheduleExpressionTimezone"] == "Asia/Tokyo"
    terraform(cluster, tmp_path, "destroy", "-auto-approve")
    assert "evening" not in {each["Name"] for each in scheduler.list_schedules()["Schedules"]}
    assert "morning" not in {each["Name"] for each in events.list_rules()["Rules"]}
    assert "greet" not in {each["FunctionName"] for each in client.list_functions()["Functions"]}


@pytest.fixture
def mock() -> Iterator[Brokers]:
    with mock_brokers() as made:
        yield made


def test_event_sources_are_declared_as_their_how_to_says(moto: str, mock: Brokers, tmp_path: Path) -> None:
    provider, _, _ = code_blocks(PAGE.read_text(), "terraform")[0].partition("resource ")
    declared, of_kafka = code_blocks((ROOT / "docs" / "howto" / "event-sources.md").read_text(), "terraform")
    folder = tmp_path / "connections"
    folder.mkdir()
    declared = declared.replace("000000000000", ACCOUNT)
    make_queue(moto, "orders")
    service(moto, "kinesis").create_stream(StreamName="clicks", ShardCount=1)
    declared += of_kafka.replace("kafka.example.com:9092", mock.servers)
    mock.topic("payments")
    with reading_cluster(moto, folder, f'service = "kafka"\nendpoint = "kafka://{mock.servers}"') as cluster:
        for name in ("orders", "clicks", "payments"):
            cluster.create(name, CODE, Timeout=20)
        (tmp_path / "main.tf").write_text(provider + declared)
        terraform(cluster, tmp_path, "init")
        terraform(cluster, tmp_path, "apply", "-auto-approve")
        assert "No changes." in terraform(cluster, tmp_path, "plan")
        changed = declared.replace("= 10 }", "= 5 }\n  enabled = false").replace(
            "factor         = 2", "factor         = 1"
        )
        (tmp_path / "main.tf").write_text(provider + changed)
        terraform(cluster, tmp_path, "apply", "-auto-approve")
        assert "No changes." in terraform(cluster, tmp_path, "plan")
        listed = cluster.client().list_event_source_mappings()["EventSourceMappings"]
        assert {each["State"] for each in listed} == {"Enabled", "Disabled"}
        terraform(cluster, tmp_path, "destroy", "-auto-approve")
        assert not cluster.client().list_event_source_mappings()["EventSourceMappings"]
