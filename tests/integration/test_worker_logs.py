"""Logs in JSON form: what the platform and the function write, and what levels leave out."""

from __future__ import annotations

import json

import pytest

from tests.integration.test_worker_cluster import Cluster


@pytest.fixture
def cluster(every_way: Cluster) -> Cluster:
    return every_way


async def test_the_json_log(cluster: Cluster) -> None:
    source = (
        "import logging\n"
        "def handler(event, context):\n"
        "    logging.warning('careful')\n"
        "    logging.info('no')\n"
        "    1 / 0\n"
    )
    identity = await cluster.deploy(source, log_format="JSON", application_log_level="WARN")
    answer = await cluster.invoke(identity, request_id="r-1")
    lines = [json.loads(line) for line in answer.tail.splitlines()]
    assert [line.get("type", line.get("level")) for line in lines] == [
        "platform.start",
        "WARNING",
        "ERROR",
        "platform.runtimeDone",
        "platform.report",
    ]
    assert (lines[1]["message"], lines[1]["requestId"]) == ("careful", "r-1")
    assert lines[2]["errorType"] == "ZeroDivisionError"
    for line in lines[3:]:
        assert (line["record"]["status"], line["record"]["errorType"]) == ("error", "ZeroDivisionError")
    assert lines[4]["record"]["metrics"]["memorySizeMB"] == 128


async def test_levels_leave_lines_out_of_a_json_log(cluster: Cluster) -> None:
    source = (
        "import logging\n"
        "log = logging.getLogger()\n"
        "def handler(event, context):\n"
        "    print('printed')\n"
        "    log.info('ordinary')\n"
        "    log.error('bad')\n"
    )
    levels = {"log_format": "JSON", "application_log_level": "ERROR", "system_log_level": "WARN"}
    identity = await cluster.deploy(source, **levels)
    await cluster.invoke(identity)
    lines = [json.loads(line) for line in cluster.log_lines()]
    assert [line.get("message") for line in lines] == ["bad"]


async def test_a_level_brings_lines_into_a_json_log(cluster: Cluster) -> None:
    source = "def handler(event, context):\n    return {'n': 1 / event}\n"
    kinds = ["platform.start", "platform.runtimeDone", "platform.report"]
    for level, well in (("DEBUG", kinds), ("INFO", [kinds[0], kinds[2]]), ("WARN", [])):
        identity = await cluster.deploy(
            source, log_format="JSON", system_log_level=level, application_log_level="FATAL"
        )
        for event, expected in ((1, well), (0, kinds if level != "WARN" else kinds[1:])):
            before = len(cluster.log_lines())
            await cluster.invoke(identity, event)
            told = [json.loads(line) for line in cluster.log_lines()[before:]]
            assert [each["type"] for each in told if each["type"] != "platform.initStart"] == expected
            for each in told:
                if each["type"] == "platform.runtimeDone":
                    assert each["record"]["status"] == ("success" if event else "error")
                    assert each["record"]["metrics"]["producedBytes"] > 8


async def test_a_tenant_of_the_callers_is_in_the_json_log(cluster: Cluster) -> None:
    source = (
        "import logging\n"
        "def handler(event, context):\n"
        "    logging.getLogger().warning('careful')\n"
        "    return context.tenant_id if event else 1 / 0\n"
    )
    for tenant_id, shown in (("blue", "blue"), ("", None)):
        identity = await cluster.deploy(source, log_format="JSON", system_log_level="DEBUG", tenant_id=tenant_id)
        before = len(cluster.log_lines())
        assert (await cluster.invoke(identity, 1)).json == shown
        await cluster.invoke(identity, 0)
        lines = [json.loads(line) for line in cluster.log_lines()[before:]]
        assert {"WARNING", "ERROR", "platform.report", "platform.runtimeDone"} <= {
            line.get("type", line.get("level")) for line in lines
        }
        assert {line.get("record", line).get("tenantId") for line in lines} == {shown}
