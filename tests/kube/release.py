"""A release of the chart on the cluster of KUBECONFIG, installed as a user installs it, and ways to talk to it."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from lambent.infra.clock import SystemClock
from tests.e2e.harness import eventually, over_and_over

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "lambent"
ROLE = "arn:aws:iam::000000000000:role/any"
NOW = SystemClock().monotonic


def run(*command: str, timeout: float = 180.0, check: bool = True, stdin: str | None = None) -> str:
    """A command's standard output; what it said if it failed."""
    done = subprocess.run(command, timeout=timeout, capture_output=True, text=True, check=False, input=stdin)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}\n{done.stdout.strip()}")
    return done.stdout


def report(line: str) -> None:
    """Say a figure that no test asserts."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"\n{line}\n")


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod says so."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))


def _flagged(flag: str, values: Iterable[str]) -> list[str]:
    return [part for each in values for part in (flag, each)]


class Release:
    """One release."""

    def __init__(self, name: str, namespace: str, version: str, *values: str) -> None:
        """`version`: the images' tag. `values`: further `--set` arguments of every installation and upgrade."""
        self.name = name
        self.namespace = namespace
        self.version = version
        self.values = values
        self._forwards: list[subprocess.Popen[bytes]] = []
        self._endpoints: dict[int, str] = {}

    # Helm and kubectl

    def arguments(self, *values: str, **documents: Any) -> list[str]:
        """What every installation and upgrade is told. `documents`: values that are more than a text, with dots as
        double underscores."""
        said = (
            "image.repository=lambent.local/lambent-control",
            f"image.tag={self.version}",
            "workers.image.repository=lambent.local/lambent-worker",
            f"workers.image.tag={self.version}",
            "drainSeconds=30",
            "workers.idleSeconds=10",
            "settings.timing.keep_alive_seconds=30",
            *self.values,
            *values,
        )
        given = [f"{name.replace('__', '.')}={json.dumps(each)}" for name, each in documents.items()]
        return [*_flagged("--set", said), *_flagged("--set-json", given)]

    def install(self) -> None:
        """`helm install --wait`, and the first worker."""
        self.helm(
            "install", self.name, str(CHART), "--create-namespace", "--wait", "--timeout", "180s", *self.arguments()
        )
        eventually(lambda: self.ready("worker"), 120)

    def upgrade(self, *values: str, **documents: Any) -> None:
        """`helm upgrade --wait` with further values, as in `arguments`; returns once nothing is left of before."""
        arguments = self.arguments(*values, **documents)
        self.helm("upgrade", self.name, str(CHART), "--wait", "--timeout", "240s", *arguments)
        # A frontend that is on its way out may still be asked, and answers by the values of before.
        eventually(lambda: not any("deletionTimestamp" in pod["metadata"] for pod in self._all("frontend")), 120)

    def helm(self, *arguments: str, timeout: float = 300.0) -> str:
        """A command of helm's in the namespace."""
        return run("helm", "-n", self.namespace, *arguments, timeout=timeout)

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None, timeout: float = 180.0) -> str:
        """A command of kubectl's in the namespace."""
        return run("kubectl", "-n", self.namespace, *arguments, check=check, stdin=stdin, timeout=timeout)

    def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json", *arguments))["items"]
        return found

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component that are not on their way out."""
        return [pod for pod in self._all(component) if "deletionTimestamp" not in pod["metadata"]]

    def _all(self, component: str) -> list[dict[str, Any]]:
        return self.get("pods", "-l", f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}")

    def ready(self, component: str) -> list[str]:
        """Names of its pods that are ready."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if is_ready(pod)]

    def settled(self, component: str, gone: set[str]) -> None:
        """Wait until pods of these names are gone and the component's others are ready."""
        eventually(lambda: not gone & {pod["metadata"]["name"] for pod in self.pods(component)}, 240)
        eventually(lambda: self.pods(component) and len(self.ready(component)) == len(self.pods(component)), 120)

    def kill(self, pod: str) -> None:
        """End a pod at once, as a crash would."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def leader(self) -> str:
        """The pod of the scheduler that leads."""
        holder = self.kubectl("get", "lease", f"{self.fullname}-scheduler", "-o", "jsonpath={.spec.holderIdentity}")
        return holder.partition("_")[0]

    @property
    def fullname(self) -> str:
        """What names begin with."""
        return self.name if "lambent" in self.name else f"{self.name}-lambent"

    # Its API

    def endpoint(self, port: int) -> str:
        """HOST:PORT of the frontends' Service: its address where this machine reaches that, else through kubectl."""
        found = self._endpoints.get(port)
        if found is None:
            service = f"{self.fullname}-frontend"
            address = self.kubectl("get", "service", service, "-o", "jsonpath={.spec.clusterIP}")
            try:
                socket.create_connection((address, port), 3).close()
                found = f"{address}:{port}"
            except OSError:
                found = self._forward(service, port)
            self._endpoints[port] = found
        return found

    def forwarded(self, service: str, port: int) -> int:
        """A port here that leads to a Service."""
        return int(self._forward(service, port).rpartition(":")[2])

    def _forward(self, service: str, port: int) -> str:
        command = ["kubectl", "-n", self.namespace, "port-forward", f"service/{service}", f":{port}"]
        forward = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._forwards.append(forward)
        assert forward.stdout is not None
        match = re.search(rb"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert match is not None
        return f"127.0.0.1:{match[1].decode()}"

    def close(self) -> None:
        """End what was started here."""
        for forward in self._forwards:
            forward.terminate()
            forward.wait()

    def credentials(self) -> tuple[str, str]:
        """The first access key, as NOTES says."""
        data = json.loads(self.kubectl("get", "secret", f"{self.fullname}-credentials", "-o", "json"))["data"]
        key, secret = (base64.b64decode(data[name]).decode() for name in ("access-key-id", "secret-access-key"))
        return key, secret

    def environment(self) -> dict[str, str]:
        """What a shell needs for the aws command."""
        key, secret = self.credentials()
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{self.endpoint(9001)}",
        }

    def client(self, service: str = "lambda", retries: int = 0, connect_seconds: float = 60.0) -> Any:
        """A boto3 client; without retries it shows every failure. `connect_seconds`: that a connection may take."""
        key, secret = self.credentials()
        return boto3.client(
            service,
            endpoint_url=f"http://{self.endpoint(9001)}",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(
                retries={"total_max_attempts": retries + 1},
                read_timeout=60,
                connect_timeout=connect_seconds,
                max_pool_connections=64,
            ),
        )

    def create(self, name: str, package: bytes, **configuration: Any) -> None:
        """A function, once it can be invoked."""
        client = self.client(retries=3)
        wanted = {"Runtime": "python3.11", "Handler": "app.handler", "Role": ROLE, "Timeout": 60} | configuration
        client.create_function(FunctionName=name, Code={"ZipFile": package}, **wanted)
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 200})


class Load:
    """Steady invocations from several threads, each failure kept."""

    def __init__(self, release: Release, name: str, threads: int, payload: bytes = b"{}") -> None:
        self._clients = [release.client() for _ in range(threads)]
        self._name = name
        self._payload = payload
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest = 0.0  # seconds

    def _call(self, client: Any) -> None:
        began = NOW()
        try:
            answer = client.invoke(FunctionName=self._name, Payload=self._payload)
            self.answers[answer["Payload"].read().decode()] += 1
            if "FunctionError" in answer:
                self.failures.append(f"{answer['FunctionError']}")
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        self.slowest = max(self.slowest, NOW() - began)

    @contextmanager
    def running(self) -> Iterator[Load]:
        """The load, from its first answers on."""
        with over_and_over(*(partial(self._call, client) for client in self._clients)):
            eventually(lambda: sum(self.answers.values()) >= len(self._clients), 60)
            yield self
