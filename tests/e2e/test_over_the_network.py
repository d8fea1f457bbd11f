"""The cluster as it runs on several machines: processes that reach each other over TCP with certificates, packages and
logs in Redis, a worker that reaches no store."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from lambent.infra.authority import make_authority
from tests.conftest import free_port
from tests.e2e.harness import Cluster, eventually, printed, zipped
from tests.integration.test_worker_store import write

APP = zipped(
    {
        "app.py": "import json\ndef handler(event, context):\n    print('got', json.dumps(event))\n    return event\n",
        "big.bin": "x" * 3_000_000,
    }
)


def test_functions_run_and_are_heard_without_a_shared_folder(own_cluster: Any, tmp_path: Path) -> None:
    authority = make_authority()
    tls = write(tmp_path / "tls", authority)
    ports = free_port(3)
    scheduler, worker, store = (f"127.0.0.1:{ports + number}" for number in range(3))
    cluster: Cluster = own_cluster(
        "--no-examples",
        LAMBENT_STORAGE_CODE="redis",
        LAMBENT_STORAGE_LOGS="redis",
        LAMBENT_INTERNAL_SCHEDULER=scheduler,
        LAMBENT_INTERNAL_WORKER=worker,
        LAMBENT_INTERNAL_STORE=store,
        LAMBENT_INTERNAL_STORE_LISTEN=store,
        LAMBENT_INTERNAL_TLS=str(tls),
    )
    cluster.create("echo", APP, Layers=[])
    client = cluster.client()
    for number in range(3):
        write(tls, authority if number < 2 else make_authority())  # rotated under the running cluster
        answer = client.invoke(FunctionName="echo", Payload=json.dumps({"n": number}))
        assert json.load(answer["Payload"]) == {"n": number}
    client.invoke(FunctionName="echo", InvocationType="Event", Payload=b'{"n": "later"}')
    messages = eventually(lambda: _complete(cluster))
    assert sorted(messages) == [f'got {{"n": {each}}}\n' for each in ('"later"', 0, 1, 2)]
    assert not any((cluster.data / "code").rglob("*.zip"))
    assert not any((cluster.data / "logs").rglob("*.jsonl"))
    streams = cluster.client("logs").describe_log_streams(logGroupName="/aws/lambda/echo")["logStreams"]
    assert sum(stream["storedBytes"] for stream in streams) > 0
    with socket.create_connection(("127.0.0.1", ports + 1)) as stranger, stranger.makefile("rb") as answer:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in answer.read()


def _complete(cluster: Cluster) -> list[str]:
    """What the function has printed; nothing until it is all there."""
    messages = printed(cluster.client("logs"), "/aws/lambda/echo", "got")
    return messages if len(messages) == 4 else []
