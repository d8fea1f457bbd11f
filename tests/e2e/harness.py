"""A whole cluster, started as a user starts it, and ways to talk to it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambent.infra.clock import SystemClock
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "LAMBENTROOT", "the-root-secret-of-the-tests"
ROLE = "arn:aws:iam::000000000000:role/any"
START_SECONDS = 60.0
T = TypeVar("T")
_now = SystemClock().monotonic


def run(
    *command: str, env: dict[str, str] | None = None, timeout: float = 120.0, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A command to its end, its output as text."""
    return subprocess.run(
        command, env=env, timeout=timeout, capture_output=True, text=True, check=False, cwd=ROOT, input=stdin
    )


class Cluster:
    """`lambent up` in a process of its own."""

    def __init__(self, data: Path, *arguments: str, **settings: str) -> None:
        self.data = data
        self.root = ROOT  # the repository whose code runs
        self.http, self.grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.http}"
        self.arguments = arguments
        self.settings = settings
        self.output = ""
        self.process: subprocess.Popen[str] | None = None
        self.others: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a shell has after the printed `export` lines."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LAMBENT_", "AWS_"))}
        return clean | {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "LAMBENT_GRPC": self.grpc,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def command(self) -> list[str]:
        """What starts it."""
        return [
            sys.executable, "-m", "lambent.cli.main", "up", "--http", self.http, "--grpc", self.grpc, "--data",
            str(self.data), "--root-credentials", f"{KEY}:{SECRET}", *self.arguments,
        ]  # fmt: skip

    def start(self) -> Cluster:
        """Start, and wait until it says that it is up."""
        environment = {k: v for k, v in self.environment.items() if not k.startswith(("AWS_", "LAMBENT_"))}
        self.process = subprocess.Popen(
            self.command(), env=environment | self.settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.root,
        )  # fmt: skip
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C stops it"):
                self.output = "".join(lines)
                return self
        self.process.communicate()  # what it held open is not to be blamed on the next test
        self.process = None
        raise AssertionError("the cluster did not come up:\n" + "".join(lines) + self.logs())

    def logs(self) -> str:
        """The processes' own logs, for failures."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in (self.data / "run").glob("*.log"))

    def stop(self, number: int = signal.SIGINT) -> str:
        """Ctrl-C; answers what it said since it was up."""
        for other in self.others:
            other.terminate()
            other.wait(timeout=60)
        self.others.clear()
        if self.process is None:
            return ""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        self.process = None
        return said

    def another_frontend(self, settings: Mapping[str, str] | None = None, root: Path | None = None) -> str:
        """One more frontend of this cluster; answers the URL of its REST door. It ends with the cluster. `settings`,
        `root`: as in `another`."""
        http, grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        doors = {f'"{self.http}"': f'"{http}"', f'"{self.grpc}"': f'"{grpc}"'}
        self.another("frontend", {**doors, **(settings or {})}, root)
        return f"http://{http}"

    def another(self, service: str, settings: Mapping[str, str] | None = None, root: Path | None = None) -> None:
        """One more process of a service, which ends with the cluster. `settings`: what to replace in the settings.
        `root`: the repository whose code runs; None: the cluster's."""
        text = (self.data / "run" / "settings.toml").read_text()
        for before, after in (settings or {}).items():
            text = text.replace(before, after)
        file = self.data / "run" / f"settings-{service}-{len(self.others)}.toml"
        file.write_text(text)
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "lambent.entry", service, "--config", str(file), "--ready-fd", str(writing)]
        with (file.with_suffix(".log")).open("wb") as log:
            self.others.append(
                subprocess.Popen(command, pass_fds=[writing], stderr=log, stdout=log, cwd=root or self.root)
            )
        os.close(writing)
        with os.fdopen(reading) as said:
            line = said.readline()
        assert '"ready"' in line, line

    def another_worker(self, settings: Mapping[str, str] | None = None, root: Path | None = None) -> None:
        """One more worker, with a socket and users of its own. `settings`, `root`: as in `another`."""
        socket = f"unix:{self.data}/run/worker-{len(self.others)}.sock"
        apart = {'\nworker = ""': f'\nworker = "{socket}"', "uid_base = 200000": "uid_base = 210000"}
        self.another("worker", {**(settings or {}), **apart}, root)

    def pid(self, service: str) -> int:
        """Process id of one service."""
        assert self.process is not None
        wanted = f"lambent.entry {service} " if service != "redis" else "redis.sock"
        children = {pid for pid in children_of(self.process.pid) if wanted in command_of(pid).replace("\0", " ")}
        assert len(children) == 1, f"{service}: {children}"
        return children.pop()

    def client(
        self,
        service: str = "lambda",
        *,
        key: str = KEY,
        secret: str = SECRET,
        region: str = "us-east-1",
        retries: int = 0,
        validation: bool = True,
        url: str | None = None,
    ) -> Any:
        """A boto3 client. `url`: of another door than the first frontend's. `validation`: whether it looks at parameters itself before it sends them."""
        return boto3.client(
            service,
            endpoint_url=url or self.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=region,
            config=Config(
                retries={"total_max_attempts": retries + 1},
                read_timeout=60,
                max_pool_connections=64,
                parameter_validation=validation,
            ),
        )

    def aws(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The AWS command line."""
        return run("aws", *arguments, env=self.environment)

    def lambent(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Our command line."""
        return run(sys.executable, "-m", "lambent.cli.main", *arguments, env=self.environment, stdin=stdin)

    def shell(self, script: str) -> str:
        """What a script prints that a reader of the documentation runs, at this cluster's addresses and with its keys."""
        script = "\n".join(line for line in script.splitlines() if not line.startswith("export "))
        script = script.replace("127.0.0.1:9001", self.http).replace("127.0.0.1:9002", self.grpc)
        done = run("bash", "-euo", "pipefail", "-c", script, env=self.environment)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def deploy(self, example: str, **configuration: Any) -> str:
        """An example as a function of its own name, Active."""
        folder = ROOT / "examples" / example
        return self.create(
            example, zipped({path.name: path.read_bytes() for path in folder.glob("*.py")}), **configuration
        )

    def create(self, name: str, package: bytes, **configuration: Any) -> str:
        """A function from a package, Active."""
        client = self.client()
        client.create_function(
            **{
                "FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "app.handler",
                "Code": {"ZipFile": package},
            } | configuration
        )  # fmt: skip
        client.get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
        )
        return name

    def update(self, name: str, **configuration: Any) -> None:
        """Change a function's configuration, to the end of the change."""
        self.client().update_function_configuration(FunctionName=name, **configuration)
        self.updated(name)

    def updated(self, name: str) -> None:
        """Wait until a function's update is Successful."""
        waiter = self.client().get_waiter("function_updated_v2")
        waiter.wait(FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200})


def eventually(check: Callable[[], T], seconds: float = 30.0) -> T:
    """Wait until `check` answers something true, and answer that."""
    until = _now() + seconds
    while not (answer := check()):
        if _now() > until:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.05)
    return answer


def error_of(call: Any, **arguments: Any) -> tuple[int, str, str]:
    """The error that a boto3 call is answered with: status, name, text."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def printed(logs: Any, group: str, pattern: str = "") -> list[str]:
    """Messages of a log group, by a client for `logs`. A group comes with its first line, and lines a moment after they
    were made: until then there are none."""
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, filterPattern=pattern)
    try:
        return [event["message"] for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


def command_of(pid: int) -> str:
    """A process's command line, its words separated by NULs; empty if it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def status_of(pid: int, field: str) -> str:
    """A field of /proc/PID/status; empty if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:")), "")


def processes() -> list[int]:
    """Every process of this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def children_of(pid: int) -> set[int]:
    """The processes that a process started."""
    return {child for child in processes() if status_of(child, "PPid") == str(pid)}


def descendants(pid: int) -> set[int]:
    """All processes below a process."""
    children = children_of(pid)
    return children.union(*(descendants(child) for child in children))


def handles(pids: Iterable[int]) -> list[int]:
    """Descriptors of those processes that have not ended yet; readable once they have."""
    opened = []
    for pid in pids:
        with suppress(ProcessLookupError):
            opened.append(os.pidfd_open(pid))
    return opened


@contextmanager
def over_and_over(*calls: Callable[[], Any]) -> Iterator[list[Future[None]]]:
    """Each call again and again in a thread of its own until the block is left, however that is; what one raised is raised then."""
    stop = threading.Event()

    def repeat(call: Callable[[], Any]) -> None:
        while not stop.is_set():
            call()

    with ThreadPoolExecutor(len(calls)) as threads:
        going = [threads.submit(repeat, call) for call in calls]
        try:
            yield going
        finally:
            stop.set()
    for each in going:
        each.result()


def processes_that_name(text: str) -> list[int]:
    """Processes with a text in their command line."""
    return [pid for pid in processes() if text in command_of(pid)]


def archived(file: Path) -> dict[str, str]:
    """The parts of a bundle by their names within its folder."""
    with tarfile.open(file) as archive:
        members = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive.getmembers()}
        return {name: content.read().decode() for name, content in members.items() if content is not None}


def zipped(files: dict[str, bytes | str]) -> bytes:
    """A package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """The most of these spans that overlap."""
    running = most = 0
    for _, step in sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans]):
        running += step
        most = max(most, running)
    return most


def code_blocks(markdown: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", markdown, re.DOTALL)
