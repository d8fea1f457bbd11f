"""`lambent backup` of a cluster that goes on, and `lambent restore` into a new one: what was kept is there, and runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.e2e.effects import PACKAGE, effects
from tests.e2e.harness import Cluster, error_of, run, zipped

HELLO = zipped({"app.py": "import os\ndef handler(event, context):\n    return os.environ['SAYS']\n"})


def moved(cluster: Cluster, *arguments: str) -> tuple[int, str]:
    done = cluster.lambent(*arguments)
    return done.returncode, done.stderr


def test_what_was_kept_is_there_again_on_another_machine(own_cluster: Any, tmp_path: Path) -> None:
    first: Cluster = own_cluster("--no-examples", data="first")
    file = tmp_path / "b.backup"
    with effects() as told:
        first.create("says", HELLO, Environment={"Variables": {"SAYS": "sealed"}})
        client = first.client()
        layer = client.publish_layer_version(LayerName="lib", Content={"ZipFile": zipped({"python/lib.py": "A = 1\n"})})
        assert layer["Version"] == 1
        assert client.publish_version(FunctionName="says")["Version"] == "1"
        client.create_alias(FunctionName="says", Name="live", FunctionVersion="1")
        client.put_function_concurrency(FunctionName="says", ReservedConcurrentExecutions=7)
        first.create("tells", PACKAGE, Environment={"Variables": {"PORT": str(told.port)}}, Timeout=20)
        assert first.lambent("queue", "pause", "tells").returncode == 0
        client.invoke(FunctionName="tells", InvocationType="Event", Payload=json.dumps({"n": 1}))
        code, said = moved(first, "backup", str(file), "--keys", "--data", str(first.data))
        assert code == 0, said
        assert file.stat().st_mode & 0o777 == 0o600
        first.stop()

        data = first.data.parent / "second"
        done = run("lambent", "restore", str(file), "--data", str(data), env=first.environment)
        assert done.returncode == 0, done.stderr
        second: Cluster = own_cluster("--no-examples", data="second")
        client = second.client()
        assert client.invoke(FunctionName="says:live")["Payload"].read() == b'"sealed"'
        assert client.get_function(FunctionName="says")["Concurrency"] == {"ReservedConcurrentExecutions": 7}
        assert client.list_layers()["Layers"][0]["LayerName"] == "lib"
        assert client.get_account_settings()["AccountUsage"]["FunctionCount"] == 2
        assert second.lambent("queue", "resume", "tells").returncode == 0
        told.wait(1)


def test_what_stands_against_it_is_said_and_nothing_is_changed(own_cluster: Any, tmp_path: Path) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    cluster.create("f", HELLO, Environment={"Variables": {"SAYS": "x"}})
    here = ("--data", str(cluster.data))
    file, cut, other = tmp_path / "b", tmp_path / "cut", tmp_path / "other"
    assert moved(cluster, "backup", str(file), *here)[0] == 0
    cut.write_bytes(file.read_bytes()[:-20])
    other.write_bytes(b"something else")
    code, said = moved(cluster, "restore", str(file), *here)
    assert (code, "is in use by a running cluster" in said) == (1, True)
    cluster.stop()

    for wrong, why in (
        ((str(file), *here), "the store is not empty"),
        ((str(cut), *here, "--replace"), "cut off or damaged"),
        ((str(other), *here), "no backup of Lambent's"),
        ((str(file), "--data", str(tmp_path / "fresh")), "sealed with a key that is not in"),
        ((str(file), "--data", str(tmp_path / "fresh"), "--replace"), "sealed with a key that is not in"),
    ):
        code, said = moved(cluster, "restore", *wrong)
        assert (code, why in said) == (1, True), said
        assert said.count("\n") <= 2
    code, said = moved(cluster, "backup", str(tmp_path / "b2"), "--data", str(tmp_path / "mistyped"))
    assert (code, "nothing is kept in" in said, (tmp_path / "mistyped").exists()) == (1, True, False), said
    code, said = moved(cluster, "backup", str(tmp_path / "no" / "where"), *here)
    assert (code, "No such file" in said) == (1, True), said

    piped = run("sh", "-c", f"lambent restore - --replace --data {cluster.data} < {file}", env=cluster.environment)
    assert piped.returncode == 0, piped.stderr
    cluster.start()
    assert cluster.client().invoke(FunctionName="f")["Payload"].read() == b'"x"'
    assert error_of(cluster.client().get_function, FunctionName="g")[1] == "ResourceNotFoundException"
    shutil.rmtree(tmp_path / "fresh")
