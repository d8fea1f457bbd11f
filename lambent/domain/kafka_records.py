"""Apache Kafka's topics as event sources: what stands for a cluster that has no ARN, and records as the function's
event has them.

Source: https://docs.aws.amazon.com/lambda/latest/dg/with-kafka.html and kafka-on-failure.html there
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence

from lambent.domain.batch_events import Frame
from lambent.domain.destinations import Destination
from lambent.domain.names import Tenant
from lambent.domain.stream_records import StreamRecord

KAFKA = "kafka"
# The one member of SelfManagedEventSource's Endpoints.
ENDPOINTS = "KAFKA_BOOTSTRAP_SERVERS"
# What the resource of a cluster that has no ARN begins with; its bootstrap servers follow.
_SELF_MANAGED = "self-managed/"


def self_managed(tenant: Tenant, servers: Sequence[str]) -> Destination:
    """What stands for a cluster that its owner runs. `servers`: HOST:PORT each."""
    resource = _SELF_MANAGED + ",".join(servers)
    arn = f"arn:aws:{KAFKA}:{tenant.region}:{tenant.account}:{resource}"
    return Destination(arn, KAFKA, tenant.region, tenant.account, resource)


def own_servers(source: Destination) -> tuple[str, ...]:
    """The bootstrap servers of such a cluster; none where the source is anything else."""
    if source.service != KAFKA or not source.resource.startswith(_SELF_MANAGED):
        return ()
    return tuple(source.resource.removeprefix(_SELF_MANAGED).split(","))


def partition_name(topic: str, number: int) -> str:
    """What an event, and everything here, calls a partition."""
    return f"{topic}-{number}"


def frame(source: Destination, servers: str, partition: str) -> Frame:
    """What stands around the records of an event. `servers`: HOST:PORT,... of the cluster."""
    own = own_servers(source)
    about = {"eventSource": "SelfManagedKafka"} if own else {"eventSource": "aws:kafka", "eventSourceArn": source.arn}
    head = json.dumps({**about, "bootstrapServers": servers}, separators=(",", ":"))
    return Frame(f'{head[:-1]},"records":{{{json.dumps(partition)}:['.encode(), b"]}")


def kafka_record(
    topic: str, partition: int, offset: int, milliseconds: int, kind: str, key: bytes | None, value: bytes | None,
    headers: Iterable[tuple[str, bytes]], now: float,
) -> StreamRecord:  # fmt: skip
    """A record of a partition. `milliseconds`: since 1970; negative: it says no time, and came now. `kind`: of that
    time, as Kafka calls it. `now`: epoch seconds."""
    document: dict[str, object] = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": milliseconds,
        "timestampType": kind,
    }
    for name, content in (("key", key), ("value", value)):
        if content is not None:
            document[name] = base64.b64encode(content).decode()
    # Java's bytes have a sign.
    document["headers"] = [{name: [each - 256 if each > 127 else each for each in text]} for name, text in headers]
    arrived = now if milliseconds < 0 else milliseconds / 1000
    return StreamRecord(str(offset), "" if key is None else base64.b64encode(key).decode(), arrived, document)
