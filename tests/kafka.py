"""Brokers of Kafka for tests: librdkafka's mock cluster, which speaks the protocol in this process, and a real broker
where TEST_KAFKA names a folder with its jars (org.apache.kafka:kafka_2.13 and all that it needs, as Maven's
dependency:copy-dependencies leaves them) and there is a Java to run it."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.conftest import free_port

JARS = Path(os.environ.get("TEST_KAFKA", "")).resolve()
# Partitions of every topic, the mock's number.
PARTITIONS = 4
# Who a real one lets in.
USER, PASSWORD = "reader", "s3cret"
_LOOKS = 30  # at a broker that starts, two seconds each


class Brokers:
    """A cluster, and who writes to it."""

    def __init__(
        self, servers: str, producer: Producer, *, real: bool, secure: str = "", login: str = "", ca: str = ""
    ) -> None:
        """`secure`: where a real one wants TLS and a login; `login`: where a login alone. `ca`: a file."""
        self.servers = servers
        self.real = real
        self.secure = secure
        self.login = login
        self.ca = ca
        self._producer = producer

    def topic(self, name: str) -> str:
        """Make one; the mock makes those that are asked for."""
        if self.real:
            admin = AdminClient({"bootstrap.servers": self.servers})
            [made] = admin.create_topics([NewTopic(name, PARTITIONS, 1)]).values()
            made.result(30)
        else:
            self._producer.list_topics(name, 10)
        return name

    def put(
        self, topic: str, value: bytes | str | None, partition: int = 0, key: bytes | None = None, **headers: bytes
    ) -> None:
        """A record, which the brokers have."""
        self._producer.produce(topic, value, key, partition, headers=list(headers.items()) or None)
        assert self._producer.flush(20) == 0


@contextmanager
def mock_brokers() -> Iterator[Brokers]:
    """Those in this process."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0})
    [broker] = producer.list_topics(timeout=10).brokers.values()
    yield Brokers(f"{broker.host}:{broker.port}", producer, real=False)


@contextmanager
def real_brokers(folder: Path) -> Iterator[Brokers]:
    """One of Kafka's own, with its data in a folder."""
    port, controller, secure, login = free_port(), free_port(), free_port(), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.pem"],
        cwd=folder, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (folder / "both.pem").write_text((folder / "key.pem").read_text() + (folder / "ca.pem").read_text())
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    (folder / "server.properties").write_text(
        f"process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://127.0.0.1:{secure},"
        f"LOGIN://127.0.0.1:{login}\n"
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure},LOGIN://127.0.0.1:{login}\n"
        "controller.listener.names=CONTROLLER\nlistener.security.protocol.map="
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,LOGIN:SASL_PLAINTEXT\n"
        f"listener.name.secure.ssl.keystore.type=PEM\nlistener.name.secure.ssl.keystore.location={folder}/both.pem\n"
        "listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512\n"
        f"listener.name.secure.scram-sha-512.sasl.jaas.config={scram}\n"
        "listener.name.login.sasl.enabled.mechanisms=PLAIN\n"
        f"listener.name.login.plain.sasl.jaas.config={plain}\n"
        f"log.dirs={folder}/data\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n"
        "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
        "auto.create.topics.enable=false\ngroup.initial.rebalance.delay.ms=0\n"
    )
    java = ["java", "-Xmx512m", "-cp", f"{JARS}/*"]
    id_ = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    format_ = [*java, "kafka.tools.StorageTool", "format", "-t", id_, "-c", "server.properties"]
    format_ += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]
    subprocess.run(format_, cwd=folder, check=True, capture_output=True, timeout=60)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", "server.properties"], cwd=folder, stdout=log, stderr=log)
    try:
        servers = f"127.0.0.1:{port}"
        producer = Producer({"bootstrap.servers": servers, "log_level": 0})
        for _ in range(_LOOKS):
            try:
                producer.list_topics(timeout=2)
                break
            except KafkaException:
                assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
        else:
            raise AssertionError("Kafka does not start")
        yield Brokers(
            servers, producer, real=True, secure=f"127.0.0.1:{secure}", login=f"127.0.0.1:{login}",
            ca=str(folder / "ca.pem"),
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def brokers_of(kind: str, folder: Path) -> Iterator[Brokers]:
    """The mock's, or Kafka's own with their data in a folder."""
    with mock_brokers() if kind == "mock" else real_brokers(folder) as made:
        yield made
