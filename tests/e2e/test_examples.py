"""The examples, deployed by our command line and used; and the README, run as it stands."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ROOT, Cluster, code_blocks, zipped


def deploy(cluster: Cluster, example: str) -> None:
    done = cluster.lambent("deploy", f"examples/{example}")
    assert done.returncode == 0, done.stderr


def invoke(cluster: Cluster, name: str, event: dict[str, Any]) -> Any:
    answer = cluster.client().invoke(FunctionName=name, Payload=json.dumps(event))
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.loads(answer["Payload"].read())


def test_a_json_api_keeps_its_notes_while_it_is_warm(cluster: Cluster) -> None:
    deploy(cluster, "json_api")
    assert invoke(cluster, "json_api", {"path": "/"}) == {"statusCode": 200, "body": {"service": "notes", "notes": 0}}
    assert invoke(cluster, "json_api", {"method": "PUT", "path": "/notes/a", "body": "text"})["statusCode"] == 201
    assert invoke(cluster, "json_api", {"path": "/notes/a"})["body"] == {"id": "a", "body": "text"}
    assert invoke(cluster, "json_api", {"path": "/notes/b"})["statusCode"] == 404


def test_powertools_work_unchanged(cluster: Cluster) -> None:
    deploy(cluster, "powertools")
    event = {
        "version": "2.0", "routeKey": "$default", "rawPath": "/orders/17", "rawQueryString": "", "headers": {},
        "requestContext": {"http": {"method": "GET", "path": "/orders/17"}, "stage": "$default"}, "isBase64Encoded": False,
    }  # fmt: skip
    answer = cluster.client().invoke(FunctionName="powertools", Payload=json.dumps(event), LogType="Tail")
    document = json.loads(answer["Payload"].read())
    assert (document["statusCode"], json.loads(document["body"])) == (200, {"orderId": "17", "state": "shipped"})
    lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
    [logged] = [json.loads(line) for line in lines if line.startswith("{")]
    assert logged["message"] == "order asked for"
    assert logged["function_name"] == "powertools"
    assert logged["function_request_id"] == answer["ResponseMetadata"]["RequestId"]
    assert logged["cold_start"] is True


def png(width: int, height: int) -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + bytes((x * 255 // width, y * 255 // height, 90)[i] for x in range(width) for i in range(3))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def test_a_thumbnailer_brings_its_dependency_in_the_package(cluster: Cluster) -> None:
    deploy(cluster, "thumbnailer")
    answer = invoke(cluster, "thumbnailer", {"image": base64.b64encode(png(300, 150)).decode(), "size": 60})
    assert (answer["before"], answer["after"]) == ([300, 150], [60, 30])
    assert base64.b64decode(answer["image"]).startswith(b"\x89PNG")


def test_everything_the_readme_shows_for_a_running_cluster_works(cluster: Cluster, tmp_path: Path) -> None:
    """Each block after the first two commands, which the suite and the other tests run."""
    first, *blocks = code_blocks((ROOT / "README.md").read_text(), "sh")
    assert "make up" in first
    assert "make test" in first
    for block in blocks:
        if "helm" not in block:  # tests/kube
            cluster.shell(block.replace("/tmp/hello.zip", str(tmp_path / "hello.zip")).replace("--follow", "--limit 5"))
    answer = cluster.client().invoke(FunctionName="greet", Payload=b'{"name": "you"}')
    assert json.loads(answer["Payload"].read()) == {"greeting": "Hello, you!"}
    assert invoke(cluster, "shop-dev-offer", {"thing": "pear"}) == {"thing": "pear", "price": 4}
    for name in ("shop-dev-offer", "shop-dev-order"):  # others count what is reserved
        cluster.client().delete_function(FunctionName=name)


def test_the_tutorial_can_be_followed(cluster: Cluster, tmp_path: Path) -> None:
    blocks = code_blocks((ROOT / "docs/tutorial/first-function.md").read_text(), "sh")
    said = [cluster.shell(block.replace("/tmp/tally", str(tmp_path / "tally"))) for block in blocks]
    assert '"count":2' in said[2].replace(" ", "")
    assert '"count":4' in said[2].replace(" ", "")
    assert "deleted tally" in said[-1]


def test_the_page_on_concurrency_can_be_followed(cluster: Cluster) -> None:
    cluster.create("greet-kept", zipped({"app.py": (ROOT / "examples/hello/app.py").read_bytes()}))
    reserve, provision, ask = code_blocks((ROOT / "docs/howto/concurrency.md").read_text(), "sh")
    said = [cluster.shell(block.replace("greet", "greet-kept")) for block in (reserve, provision, ask)]
    assert '"ReservedConcurrentExecutions": 20' in said[0]
    assert '"RequestedProvisionedConcurrentExecutions": 5' in said[1]
    assert "greet-kept:live" in said[2]
    cluster.client().delete_function(FunctionName="greet-kept")


def test_the_page_on_auto_scaling_can_be_followed(cluster: Cluster) -> None:
    cluster.create("greet-scaled", zipped({"app.py": (ROOT / "examples/hello/app.py").read_bytes()}))
    client = cluster.client()
    client.publish_version(FunctionName="greet-scaled")
    client.create_alias(FunctionName="greet-scaled", Name="live", FunctionVersion="1")
    blocks = code_blocks((ROOT / "docs/howto/auto-scaling.md").read_text(), "sh")
    said = [cluster.shell(block.replace("greet", "greet-scaled")) for block in blocks]
    assert "scalable-target/" in said[0]
    assert "AlarmHigh" in said[1]
    assert "minimum capacity was set to 2" in said[3]
    client.delete_function(FunctionName="greet-scaled")


def test_the_page_on_runtimes_can_be_followed(cluster: Cluster, tmp_path: Path) -> None:
    script, *_ = code_blocks((ROOT / "docs/howto/runtimes.md").read_text(), "sh")
    assert '{"shell": {"a": 1}}' in cluster.shell(script.replace("/tmp/shell", str(tmp_path / "shell")))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_the_documentation_lead_somewhere(page: Path) -> None:
    import re

    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
