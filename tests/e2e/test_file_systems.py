"""File systems that functions mount, through boto3."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import registry
from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import ROOT, Cluster, code_blocks, error_of, eventually, run, zipped
from tests.images import function

ARN = "arn:aws:elasticfilesystem:us-east-1:{}:access-point/fsap-0123456789abcdef{}"
MODELS, SHARED = ARN.format("000000000000", 0), ARN.format("000000000000", 1)
GROUP = 4321
SOURCE = """\
import os, stat
def handler(event, context):
    try:
        for path in event.get("append", []):
            with open(path, "a") as file:
                file.write("x")
        if "make" in event:
            os.makedirs(event["make"])
        if "list" in event:
            return os.listdir(event["list"])
        if "read" in event:
            return open(event["read"]).read()
        return {"mnt": sorted(os.listdir("/mnt")), "root": sorted(os.listdir("/")), "user": os.getuid(),
                "lambent": sorted(os.listdir("/run/lambent")) if os.path.isdir("/run/lambent") else []}
    except OSError as error:
        return type(error).__name__
"""


def mounting(own_cluster: Any, tmp_path: Path, **settings: str) -> tuple[Cluster, Path]:
    """A cluster with a folder that everybody may read, and one whose group may write there; answers the latter."""
    tmp_path.chmod(0o755)
    models, shared = tmp_path / "models", tmp_path / "shared"
    for folder in (models, shared):
        folder.mkdir()
        folder.chmod(0o755)
    (models / "weights").write_text("some")
    (models / "weights").chmod(0o644)
    if os.getuid() == 0:
        os.chown(shared, -1, GROUP)
    shared.chmod(0o775)
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[access_keys]]\nid = "{OTHER_KEY}"\nsecret = "{OTHER_SECRET}"\naccount = "111111111111"\n')
    named = f"{MODELS}={models}, {SHARED}={shared}"
    cluster = own_cluster("--no-examples", LAMBENT_FILE_SYSTEMS=named, LAMBENT_ACCESS_KEYS=str(keys), **settings)
    return cluster, shared


def answer(cluster: Cluster, name: str, **event: Any) -> Any:
    return json.loads(cluster.client().invoke(FunctionName=name, Payload=json.dumps(event))["Payload"].read())


def test_functions_share_what_they_write(own_cluster: Any, tmp_path: Path) -> None:
    cluster, shared = mounting(own_cluster, tmp_path)
    mount = {"Arn": SHARED, "LocalMountPath": "/mnt/shared"}
    for name in ("one", "two"):
        cluster.create(name, zipped({"app.py": SOURCE}), FileSystemConfigs=[mount])
    client = cluster.client()
    assert client.get_function_configuration(FunctionName="one")["FileSystemConfigs"] == [mount]
    found = answer(cluster, "one", append=["/mnt/shared/file"], make="/mnt/shared/a/b")
    assert (found["mnt"], "mnt" in found["root"]) == (["shared"], True)
    other = answer(cluster, "two", append=["/mnt/shared/file", "/mnt/shared/a/b/deep"])
    assert found["user"] != other["user"]
    assert answer(cluster, "one", read="/mnt/shared/file") == "xx"
    assert answer(cluster, "one", append=["/mnt/shared/a/b/deep"], read="/mnt/shared/a/b/deep") == "xx"
    assert (shared / "file").stat().st_gid == GROUP
    # Nothing else of the worker is to be seen or written to, by others neither.
    assert set(found["lambent"]) <= {"guest", "mounted", "packages"}
    cluster.create("copied", zipped({"app.py": SOURCE}), SnapStart={"ApplyOn": "PublishedVersions"}, Publish=True)
    eventually(lambda: client.get_function(FunctionName="copied", Qualifier="1")["Configuration"]["State"] == "Active")
    cluster.create("without", zipped({"app.py": SOURCE}))
    for name in ("copied:1", "without"):
        for folder in ("mounted", "packages"):
            assert answer(cluster, name, list=f"/run/lambent/{folder}") in ([], "FileNotFoundError", "PermissionError")
    for place in ("/mnt/new", "/mnt/shared/../new", "/run/lambent/mounted/0/new", "/run/lambent/mounted/new"):
        assert answer(cluster, "one", append=[place]) in ("OSError", "PermissionError", "FileNotFoundError")
    # What may be read and not written, may be read.
    client.update_function_configuration(
        FunctionName="two", FileSystemConfigs=[{"Arn": MODELS, "LocalMountPath": "/mnt/models"}]
    )
    cluster.updated("two")
    assert answer(cluster, "two", read="/mnt/models/weights") == "some"
    assert answer(cluster, "two", append=["/mnt/models/weights"]) == "PermissionError"
    assert answer(cluster, "two")["mnt"] == ["models"]
    client.update_function_configuration(FunctionName="two", FileSystemConfigs=[])
    cluster.updated("two")
    assert "FileSystemConfigs" not in client.get_function_configuration(FunctionName="two")
    assert answer(cluster, "two")["mnt"] == []
    client.update_function_configuration(FunctionName="one", Description="another")
    cluster.updated("one")
    assert answer(cluster, "one", read="/mnt/shared/file") == "xx"


def test_the_page_is_run_as_it_stands(own_cluster: Any, tmp_path: Path) -> None:
    block, _ = code_blocks((ROOT / "docs/howto/file-systems.md").read_text(), "sh")
    cluster, _ = mounting(own_cluster, tmp_path)
    cluster.create("hello", zipped({"app.py": SOURCE}))
    *lines, last = block.strip().split("\naws ")
    for line, seen in (("\naws ".join(lines), ["models"]), (f"aws {last}", [])):
        done = run("bash", "-ec", line, env=cluster.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        cluster.updated("hello")
        assert answer(cluster, "hello")["mnt"] == seen


def test_a_manifest_asks_for_one(own_cluster: Any, tmp_path: Path) -> None:
    cluster, _ = mounting(own_cluster, tmp_path)
    service = tmp_path / "service"
    service.mkdir()
    (service / "app.py").write_text(SOURCE)
    manifest = "service: shop\nprovider: {name: aws, runtime: python3.11}\nfunctions:\n  f:\n    handler: app.handler\n"
    mount = f"    fileSystemConfig: {{arn: '{SHARED}', localMountPath: /mnt/shared}}\n"
    for text, action, seen in ((manifest + mount, "created", ["shared"]), (manifest + mount, "unchanged", ["shared"]),
                               (manifest, "updated", [])):  # fmt: skip
        (service / "serverless.yml").write_text(text)
        done = cluster.lambent("deploy", str(service), "--output", "json")
        assert done.returncode == 0, done.stderr
        assert [each["action"] for each in json.loads(done.stdout)["functions"]] == [action]
        assert answer(cluster, "shop-dev-f")["mnt"] == seen


def test_what_there_is_not_is_refused(own_cluster: Any, tmp_path: Path) -> None:
    cluster, _ = mounting(own_cluster, tmp_path)
    client = cluster.client()
    package = {"ZipFile": zipped({"app.py": SOURCE})}
    base: dict[str, Any] = {
        "FunctionName": "none", "Runtime": "python3.11", "Handler": "app.handler", "Code": package,
        "Role": "arn:aws:iam::000000000000:role/r",
    }  # fmt: skip
    for arn, path, more, name, text in (
        (ARN.format("000000000000", 9), "/mnt/x", {}, "InvalidParameterValueException", "does not exist"),
        (ARN.format("111111111111", 0), "/mnt/x", {}, "InvalidParameterValueException", "does not exist"),
        (SHARED, "/mnt/..", {}, "InvalidParameterValueException", "is no folder below /mnt"),
        (SHARED, "/tmp/x", {}, "ValidationException", "localMountPath"),
        ("arn:aws:s3:::bucket", "/mnt/x", {}, "ValidationException", "arn"),
        (
            SHARED,
            "/mnt/x",
            {"SnapStart": {"ApplyOn": "PublishedVersions"}},
            "InvalidParameterValueException",
            "SnapStart",
        ),
    ):
        found = error_of(
            client.create_function, **base, FileSystemConfigs=[{"Arn": arn, "LocalMountPath": path}], **more
        )
        assert (found[:2], text in found[2]) == ((400, name), True), found
    others = cluster.client(key=OTHER_KEY, secret=OTHER_SECRET)
    base["Role"] = "arn:aws:iam::111111111111:role/r"
    found = error_of(others.create_function, **base, FileSystemConfigs=[{"Arn": SHARED, "LocalMountPath": "/mnt/x"}])
    assert "does not exist" in found[2]


@pytest.mark.parametrize("level", ["user-namespace", "landlock"])
def test_levels_of_isolation_that_mount(own_cluster: Any, tmp_path: Path, level: str) -> None:
    cluster, _ = mounting(own_cluster, tmp_path, LAMBENT_WORKER_ISOLATION=level)
    cluster.create(
        "level", zipped({"app.py": SOURCE}), FileSystemConfigs=[{"Arn": SHARED, "LocalMountPath": "/mnt/shared"}]
    )
    if level == "landlock":
        assert answer(cluster, "level")["errorType"] == "Runtime.Unavailable"
    else:
        assert answer(cluster, "level", append=["/mnt/shared/file"])["mnt"] == ["shared"]
        assert answer(cluster, "level", read="/mnt/shared/file") == "x"
        assert answer(cluster, "level", list="/run/lambent/mounted") == []


def test_an_image_has_one_too(own_cluster: Any, tmp_path: Path) -> None:
    with registry.twin() as shelf:
        shelf.push("shop/mounts:v1", function(SOURCE))
        rows = tmp_path / "connections.toml"
        rows.write_text(f'[[connections]]\nservice = "ecr"\nendpoint = "http://{shelf.host}"\n')
        cluster, _ = mounting(own_cluster, tmp_path, LAMBENT_QUEUE_CONNECTIONS=str(rows))
        client = cluster.client()
        client.create_function(
            FunctionName="mounts", PackageType="Image", Role="arn:aws:iam::000000000000:role/r",
            Code={"ImageUri": f"{shelf.host}/shop/mounts:v1"}, Timeout=10,
            FileSystemConfigs=[{"Arn": SHARED, "LocalMountPath": "/mnt/shared"}],
        )  # fmt: skip
        client.get_waiter("function_active_v2").wait(FunctionName="mounts", WaiterConfig={"Delay": 0.05})
        assert answer(cluster, "mounts", append=["/mnt/shared/file"])["mnt"] == ["shared"]
        assert answer(cluster, "mounts", read="/mnt/shared/file") == "x"
