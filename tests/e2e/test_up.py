"""`lambent up` from the outside: what it says, how it ends, what it keeps."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import free_port
from tests.e2e.effects import PACKAGE, effects
from tests.e2e.harness import Cluster, descendants, handles, processes_that_name, run, status_of, zipped


def test_the_first_start_proves_that_it_lives(cluster: Cluster) -> None:
    said = cluster.output
    assert 'hello answered {"greeting": "Hello, world!"}: cold in ' in said
    assert "isolation: " in said
    assert f"export AWS_ENDPOINT_URL={cluster.url}" in said
    assert "aws lambda invoke --function-name hello" in said


def test_ctrl_c_lets_running_invocations_end_and_the_next_start_finds_everything(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    with effects() as told:
        variables = {"PORT": str(told.port)}
        cluster.create("slow", PACKAGE, Timeout=20, Environment={"Variables": variables})
        cluster.client().invoke(FunctionName="slow", Payload=b'{"n": 1}')
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(
                lambda: cluster.client().invoke(FunctionName="slow", Payload=b'{"n": 2, "s": 1.5}')["Payload"].read()
            )
            told.wait(2)
            cluster.stop(signal.SIGINT)
            assert json.loads(running.result(timeout=20)) == {"n": 2, "s": 1.5}
        assert processes_that_name(str(cluster.data)) == []
        again: Cluster = own_cluster("--no-examples")
        kept = again.client().get_function_configuration(FunctionName="slow")
        assert (kept["State"], kept["Environment"]) == ("Active", {"Variables": variables})
        assert again.client().invoke(FunctionName="slow", Payload=b"{}")["Payload"].read() == b"{}"


def test_secrets_are_not_readable_in_the_data_folder(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    cluster.create(
        "secretive",
        zipped({"app.py": "def handler(e, c): return 1\n"}),
        Environment={"Variables": {"TOKEN": "hunter2-in-the-clear"}},
    )
    cluster.client().invoke(FunctionName="secretive")
    cluster.stop()
    kept = [path for path in cluster.data.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if b"hunter2-in-the-clear" in path.read_bytes()] == []


def up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LAMBENT_", "AWS_"))}
    return run(sys.executable, "-m", "lambent.cli.main", "up", *arguments, env=clean | environment, timeout=60)


def one_line(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3, done.stderr
    for text in says:
        assert text in done.stderr


def test_two_starts_on_one_folder_get_one_clear_line(cluster: Cluster) -> None:
    done = up("--data", str(cluster.data), "--http", f"127.0.0.1:{free_port()}", "--grpc", f"127.0.0.1:{free_port()}")
    one_line(done, f"data folder {cluster.data} is in use by a running cluster (process ", "--data")
    assert cluster.client().list_functions()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_taken_port_is_said_with_the_flag_that_changes_it(cluster: Cluster, short_tmp: Path) -> None:
    one_line(up("--data", str(short_tmp), "--http", cluster.http), f"cannot listen on {cluster.http}", "--http")
    both = f"127.0.0.1:{free_port()}"
    one_line(up("--data", str(short_tmp), "--http", both, "--grpc", both), f"cannot listen on {both}", "--grpc")


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--root-credentials", "nocolon"], {}, "root_credentials cannot be"),
        (["--account", "12"], {}, "account cannot be '12'"),
        (["--redis-url", "redis://127.0.0.1:1/0"], {}, "cannot be reached"),
        ([], {"LAMBENT_WORKER_ISOLATION": "perfect"}, "worker.isolation cannot be 'perfect'"),
        ([], {"LAMBENT_WORKER_ISOLATION": "process", "LAMBENT_WORKER_MINIMUM_ISOLATION": "namespaces"}, "isolation"),
        ([], {"LAMBENT_WORKER_UNREACHABLE": "nonsense"}, "is neither HOST:PORT nor an address nor a network"),
        ([], {"LAMBENT_INTERNAL_TLS": "/nowhere"}, "cannot use the certificates in /nowhere"),
        (["--access-keys", "/nowhere/keys.toml"], {}, "cannot use access keys of /nowhere/keys.toml"),
        (["--config", "/nowhere/lambent.toml"], {}, "cannot read /nowhere/lambent.toml"),
    ],
    ids=["credentials", "account", "redis", "level", "minimum", "unreachable", "tls", "keys", "config"],
)
def test_what_cannot_be_is_one_line_and_nothing_is_left_running(
    arguments: list[str], environment: dict[str, str], says: str, short_tmp: Path
) -> None:
    ports = ["--http", f"127.0.0.1:{free_port()}", "--grpc", f"127.0.0.1:{free_port()}"]
    one_line(up("--data", str(short_tmp), *ports, *arguments, **environment), says)
    assert processes_that_name(str(short_tmp)) == []


@pytest.mark.parametrize("principal", ["bogus", "arn:aws:iam::222222222222:user/ada", "arn:aws:s3:::b"])
def test_a_key_is_of_a_principal_of_its_account(principal: str, short_tmp: Path) -> None:
    keys = short_tmp / "keys.toml"
    entry = f'id = "ONE"\nsecret = "long-enough"\naccount = "111111111111"\nprincipal = "{principal}"\n'
    keys.write_text("[[access_keys]]\n" + entry)
    ports = ["--http", f"127.0.0.1:{free_port()}", "--grpc", f"127.0.0.1:{free_port()}"]
    said = f"needs a principal of its account, arn:aws:iam::111111111111:user/NAME, say, not {principal}"
    one_line(up("--data", str(short_tmp / "data"), "--access-keys", str(keys), *ports), said)


@pytest.mark.skipif(os.geteuid() != 0, reason="who goes before others has to be allowed to")
def test_the_platform_goes_before_functions(cluster: Cluster) -> None:
    code = "import os\ndef handler(e, c): return os.getpriority(os.PRIO_PROCESS, 0)\n"
    cluster.create("ordinary", zipped({"app.py": code}))
    assert cluster.client().invoke(FunctionName="ordinary")["Payload"].read() == b"0"
    for name in ("frontend", "scheduler", "worker", "poller"):
        assert os.getpriority(os.PRIO_PROCESS, cluster.pid(name)) < 0
        assert os.getsid(cluster.pid(name)) == cluster.pid(name)  # not of the terminal, whose Ctrl-C is not for it


def test_another_redis_can_be_used(own_cluster: Any, redis_url: str) -> None:
    cluster: Cluster = own_cluster("--no-examples", "--redis-url", redis_url)
    cluster.create("elsewhere", zipped({"app.py": "def handler(e, c): return 1\n"}))
    assert cluster.client().invoke(FunctionName="elsewhere")["Payload"].read() == b"1"


def test_idle_environments_are_reaped_and_only_configured_regions_are_served(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster(
        "--no-examples", "--regions", "us-east-1, eu-west-1", LAMBENT_TIMING_KEEP_ALIVE_SECONDS="2",
        LAMBENT_TIMING_LEASE_HOLD_SECONDS="0.1",
    )  # fmt: skip
    code = "import os\ndef handler(event, context):\n    return os.getpid()\n"
    cluster.create("brief", zipped({"app.py": code}))
    cluster.client().invoke(FunctionName="brief")
    guests = handles(_guests(cluster))
    assert guests
    for process in guests:
        assert select.select([process], [], [], 20)[0], "an idle environment was not let go"
        os.close(process)
    with pytest.raises(ClientError) as caught:
        cluster.client(region="ap-south-1").list_functions()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert cluster.client(region="eu-west-1").list_functions()["Functions"] == []


def _guests(cluster: Cluster) -> set[int]:
    """The worker's processes that run as a user of a function's own."""
    uids = {pid: status_of(pid, "Uid").partition("\t")[0] for pid in descendants(cluster.pid("worker"))}
    return {pid for pid, uid in uids.items() if uid and int(uid) >= 200_000}
