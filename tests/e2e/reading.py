"""A cluster that reads moto's queues and streams, and what tests of its event source mappings share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import free_port, service
from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import Cluster, zipped

# Whose resources moto's are: a row for a service leads to a tenant's own only.
ACCOUNT = "123456789012"
FUNCTIONS = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function"
QUEUES = f"arn:aws:sqs:us-east-1:{ACCOUNT}"
STREAMS = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream"
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/orders"
CODE = zipped({"app.py": "def handler(event, context):\n    return event\n"})
INVALID = (400, "InvalidParameterValueException")
# Everything that a new mapping of a queue is answered with where nothing is set.
BARE = {
    "UUID", "EventSourceMappingArn", "BatchSize", "MaximumBatchingWindowInSeconds", "EventSourceArn", "FunctionArn",
    "FunctionResponseTypes", "LastModified", "State", "StateTransitionReason",
}  # fmt: skip


@contextmanager
def reading_cluster(moto: str, folder: Path, *more: str) -> Iterator[Cluster]:
    """Of two accounts; where a queue and a stream are that are called away, nobody listens. `folder`: for its tables.
    `more`: rows of connections."""
    connections, keys = folder / "connections.toml", folder / "keys.toml"
    rows = [f'service = "sqs"\nendpoint = "{moto}"\naccount = "{account}"' for account in (ACCOUNT, "111111111111")]
    rows += [
        f'service = "{name}"\nendpoint = "{moto}"\naccount = "{ACCOUNT}"' for name in ("kinesis", "dynamodbstreams")
    ]
    rows.append(f'arn = "{QUEUES}:shared"\nendpoint = "{moto}"')
    for away in (f"{QUEUES}:away", f"{STREAMS}/away"):
        rows.append(f'arn = "{away}"\nendpoint = "http://127.0.0.1:{free_port()}"')
    rows += more
    connections.write_text("".join(f'[[connections]]\n{row}\naccess_key = "k"\nsecret_key = "s"\n' for row in rows))
    others = [(OTHER_KEY, "111111111111"), ("LAMBENTTHIRD", "222222222222")]
    keys.write_text(
        "".join(
            f'[[access_keys]]\nid = "{key}"\nsecret = "{OTHER_SECRET}"\naccount = "{account}"\n'
            for key, account in others
        )
    )
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as data:
        cluster = Cluster(
            Path(data) / "data",
            "--no-examples",
            "--access-keys",
            str(keys),
            LAMBENT_ACCOUNT=ACCOUNT,
            LAMBENT_QUEUE_CONNECTIONS=str(connections),
        ).start()
        try:
            for name in ("f", "g"):
                cluster.create(name, CODE, Timeout=20)
            yield cluster
        finally:
            cluster.stop()


def make_queue(moto: str, name: str, **attributes: str) -> str:
    sqs = service(moto, "sqs")
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}
