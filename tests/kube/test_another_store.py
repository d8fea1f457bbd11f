"""A release beside the first, upon a store that is not its own: by TLS, as a user of few rights, under user ids that the
platform chooses, as OpenShift does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import eventually, printed
from tests.kube.release import Release, run
from tests.kube.test_faults import NAP

USER = 1_000_660_000  # as OpenShift deals them out, with group 0
PASSWORD = "a-secret-of-its-own"
# What docs/howto/redis.md says that is needed.
RIGHTS = "~lambent:* &lambent:* +@all -@admin -@dangerous +info +config|get +keys +restore"
SERVER = """
import os, sys
from lambent.local.redis_server import find_server
found = str(find_server())
os.execv(found, [found, *sys.argv[1:]])
"""
# That server cannot speak TLS itself.
TERMINATOR = """
import asyncio, ssl
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def serve(reader, writer):
    there, back = await asyncio.open_connection("127.0.0.1", 6379)
    await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(serve, "0.0.0.0", 6380, ssl=context) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def store(image: str) -> str:
    """A server, what ends TLS before it, and their Service."""
    server = [
        "--port", "6379", "--bind", "127.0.0.1", "--dir", "/data", "--appendonly", "yes",
        "--maxmemory-policy", "noeviction", "--save", "",
        "--user", "default", "off", "--user", "lambent", "on", f">{PASSWORD}", *RIGHTS.split(),
    ]  # fmt: skip
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "tls", "secret": {"secretName": "store-tls"}}]
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "tls", "mountPath": "/tls"}]
    containers = [
        {"name": name, "image": image, "command": ["python", "-c", source, *arguments], "volumeMounts": mounts}
        for name, source, arguments in (("server", SERVER, server), ("tls", TERMINATOR, []))
    ]
    labels = {"app": "store"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "store", "labels": labels},
        "spec": {"containers": containers, "volumes": volumes, "terminationGracePeriodSeconds": 0},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "store"},
        "spec": {"selector": labels, "ports": [{"port": 6380}]},
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, service]})


@pytest.fixture
def other(release: Release, tmp_path: Path) -> Iterator[Release]:
    space = "lambent-other"
    whoever = {"runAsUser": USER, "runAsGroup": 0, "fsGroup": USER}
    context = [f"podSecurityContext.{name}={number}" for name, number in whoever.items()]
    made = Release(
        "other", space, release.version, *context,
        "redis.enabled=false", "externalRedis.host=store", "externalRedis.port=6380", "externalRedis.username=lambent",
        "externalRedis.database=0", "externalRedis.existingSecret=store", "externalRedis.tls.enabled=true",
        "externalRedis.tls.existingSecret=store-tls", "externalRedis.tls.existingSecretKey=tls.crt",
        "workers.isolation=restricted", "networkPolicy.enabled=true",
    )  # fmt: skip
    run("kubectl", "delete", "namespace", space, "--ignore-not-found", "--wait", timeout=180)
    run("kubectl", "create", "namespace", space)
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=store", "-addext", "subjectAltName=DNS:store"),
    )
    made.kubectl("create", "secret", "tls", "store-tls", f"--cert={certificate}", f"--key={key}")
    made.kubectl("create", "secret", "generic", "store", f"--from-literal=password={PASSWORD}")
    made.kubectl("apply", "-f", "-", stdin=store(f"lambent.local/lambent-control:{release.version}"))
    made.kubectl("wait", "--for=condition=Ready", "pod/store", "--timeout=120s")
    made.install()
    yield made
    made.close()
    run("kubectl", "delete", "namespace", space, "--wait=false")


def test_a_store_of_somebody_elses_serves_a_release_whatever_user_it_runs_as(other: Release) -> None:
    other.create("there", NAP)
    client = other.client(retries=3)
    assert json.load(client.invoke(FunctionName="there", Payload=b'{"n": 5}')["Payload"]) == 5
    assert client.invoke(FunctionName="there", InvocationType="Event", Payload=b'{"n": 6}')["StatusCode"] == 202
    logs = other.client("logs", retries=3)
    eventually(lambda: printed(logs, "/aws/lambda/there", '"ran 6"'), 60)
    frontend = ("exec", f"deploy/{other.fullname}-frontend", "--")
    findings = json.loads(other.kubectl(*frontend, "lambent", "doctor", "--output", "json"))
    assert not [each for each in findings if each["level"] == "problem"], findings
    assert other.kubectl(*frontend, "id", "-u").strip() == str(USER)
    file = "/tmp/all.backup"
    other.kubectl(*frontend, "sh", "-c", f"lambent backup {file} && lambent restore {file} --replace")
    assert json.load(client.invoke(FunctionName="there", Payload=b'{"n": 7}')["Payload"]) == 7
