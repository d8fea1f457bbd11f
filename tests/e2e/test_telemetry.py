"""One trace an invocation, metrics under CloudWatch's and OpenTelemetry's names, received by a real collector."""

from __future__ import annotations

import json
import queue
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.conftest import free_port, service
from tests.e2e.harness import Cluster, eventually, zipped
from tests.e2e.reading import ACCOUNT, make_queue

CODE = "import os\ndef handler(event, context):\n    if event.get('fail'):\n        raise ValueError('no')\n    return os.environ['_X_AMZN_TRACE_ID']\n"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """An OTLP collector that keeps spans by name."""

    def __init__(self) -> None:
        self.spans: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.metrics: set[str] = set()

    def Export(self, request: Any, context: Any) -> Any:
        if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest):
            self.metrics |= {m.name for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}
            return metrics_service_pb2.ExportMetricsServiceResponse()
        for resource in request.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put((service, span))
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    made = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"127.0.0.1:{port}"
    server.stop(0)


def test_a_trace_runs_from_the_door_to_the_handler(own_cluster: Any, collector: tuple[Collector, str]) -> None:
    collecting, address = collector
    cluster: Cluster = own_cluster(
        "--no-examples", LAMBENT_TELEMETRY_OTLP_ENDPOINT=f"grpc://{address}", LAMBENT_TELEMETRY_SAMPLE="1"
    )
    cluster.create("traced", zipped({"app.py": CODE}))
    client = cluster.client()

    def add_header(request: Any, **_: Any) -> None:
        request.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"

    client.meta.events.register("before-sign.lambda.Invoke", add_header)
    answer = client.invoke(FunctionName="traced")
    seen = json.loads(answer["Payload"].read())
    spans = dict(collecting.spans.get(timeout=30) for _ in range(2))
    door, handler = spans["lambent-frontend"], spans["lambent-worker"]
    assert door.trace_id.hex() == handler.trace_id.hex() == TRACE
    assert door.parent_span_id.hex() == PARENT
    assert handler.parent_span_id == door.span_id
    seen, _, ran = seen.partition(";Lineage=")
    assert seen == f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={door.span_id.hex()};Sampled=1"
    assert ran.endswith(":1"), "the function ran once in this chain"
    attributes = {a.key: a.value for a in door.attributes}
    assert attributes["faas.invocation_id"].string_value == answer["ResponseMetadata"]["RequestId"]
    assert attributes["faas.coldstart"].bool_value is True
    assert attributes["cloud.resource_id"].string_value.endswith(":function:traced:$LATEST")
    # A trace that begins here has X-Ray's id, the time included.
    client.meta.events.unregister("before-sign.lambda.Invoke", add_header)
    first = json.loads(client.invoke(FunctionName="traced")["Payload"].read())
    begun, _ = (collecting.spans.get(timeout=30)[1].trace_id.hex() for _ in range(2))
    assert first.startswith(f"Root=1-{begun[:8]}-{begun[8:]};")
    assert int(begun[:8], 16) > 1_700_000_000
    cluster.stop()
    assert {
        "aws.lambda.invocations",
        "aws.lambda.duration",
        "faas.invocations",
        "faas.coldstarts",
    } <= collecting.metrics


def test_a_trace_links_the_acceptance_of_an_event_with_every_attempt(
    own_cluster: Any, collector: tuple[Collector, str]
) -> None:
    collecting, address = collector
    cluster: Cluster = own_cluster(
        "--no-examples", LAMBENT_TELEMETRY_OTLP_ENDPOINT=f"grpc://{address}", LAMBENT_LIMITS_ASYNC_RETRY_SECONDS="0.1"
    )
    cluster.create("later", zipped({"app.py": CODE}))
    client = cluster.client()

    def trace(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=1"

    client.meta.events.register("before-sign.lambda.Invoke", trace)
    client.invoke(FunctionName="later", InvocationType="Event", Payload=b'{"fail": true}')
    # The acceptance, and for each of three attempts the poller's span and the worker's.
    spans = [collecting.spans.get(timeout=30) for _ in range(7)]
    assert {span.trace_id.hex() for _, span in spans} == {TRACE}
    [accepted] = [span for service, span in spans if service == "lambent-frontend"]
    assert accepted.parent_span_id.hex() == PARENT
    attempts = [span for service, span in spans if service == "lambent-poller"]
    assert {span.parent_span_id for span in attempts} == {accepted.span_id}
    handlers = [span for service, span in spans if service == "lambent-worker"]
    assert {span.parent_span_id for span in handlers} == {span.span_id for span in attempts}
    assert len(attempts) == len(handlers) == 3
    cluster.stop()
    names = {"aws.lambda.asynceventsreceived", "aws.lambda.asynceventsdropped", "aws.lambda.asynceventage"}
    assert names <= collecting.metrics


def test_a_batch_goes_on_with_the_trace_of_its_messages_or_is_linked_to_each(
    own_cluster: Any, collector: tuple[Collector, str], moto: str, tmp_path: Path
) -> None:
    collecting, address = collector
    file = tmp_path / "connections.toml"
    file.write_text(f'[[connections]]\nservice = "sqs"\nendpoint = "{moto}"\naccess_key = "k"\nsecret_key = "s"\n')
    cluster: Cluster = own_cluster(
        "--no-examples", LAMBENT_TELEMETRY_OTLP_ENDPOINT=f"grpc://{address}", LAMBENT_QUEUE_CONNECTIONS=str(file),
        LAMBENT_ACCOUNT=ACCOUNT, LAMBENT_TELEMETRY_SAMPLE="1",
    )  # fmt: skip
    cluster.create("traced", zipped({"app.py": CODE}))
    queue_arn, sqs, client = make_queue(moto, "traced"), service(moto, "sqs"), cluster.client()
    uuid = client.create_event_source_mapping(
        FunctionName="traced", EventSourceArn=queue_arn, Enabled=False, BatchSize=10
    )["UUID"]  # fmt: skip

    def state() -> str:
        return str(client.get_event_source_mapping(UUID=uuid)["State"])

    def run(*parents: str) -> Any:
        """The span of the batch that messages with these parents make."""
        eventually(lambda: state() == "Disabled")
        for parent in parents:
            header = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={parent};Sampled=1"
            sqs.send_message(
                QueueUrl=sqs.get_queue_url(QueueName="traced")["QueueUrl"], MessageBody="m",
                MessageSystemAttributes={"AWSTraceHeader": {"StringValue": header, "DataType": "String"}},
            )  # fmt: skip
        client.update_event_source_mapping(UUID=uuid, Enabled=True)
        spans = dict(collecting.spans.get(timeout=30) for _ in range(2))
        eventually(lambda: state() == "Enabled")
        client.update_event_source_mapping(UUID=uuid, Enabled=False)
        return spans["lambent-poller"]

    one = run(PARENT, PARENT)
    assert (one.trace_id.hex(), one.parent_span_id.hex(), list(one.links)) == (TRACE, PARENT, [])
    attributes = {a.key: a.value for a in one.attributes}
    assert attributes["messaging.batch.message_count"].int_value == 2
    assert attributes["messaging.system"].string_value == "aws_sqs"
    assert attributes["messaging.destination.name"].string_value == "traced"
    several = run(PARENT, "00f067aa0ba902b8")
    assert several.trace_id.hex() != TRACE
    assert {(link.trace_id.hex(), link.span_id.hex()) for link in several.links} == {
        (TRACE, PARENT), (TRACE, "00f067aa0ba902b8"),
    }  # fmt: skip


def test_prometheus_reads_the_counts(own_cluster: Any) -> None:
    port = free_port(4)
    cluster: Cluster = own_cluster("--no-examples", LAMBENT_TELEMETRY_PROMETHEUS=f"127.0.0.1:{port}")
    cluster.create("counted", zipped({"app.py": CODE}))
    for event in (b"{}", b"{}", b'{"fail": 1}'):
        cluster.client().invoke(FunctionName="counted", Payload=event)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    values = {
        line.rpartition(" ")[0].partition("{")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if 'counted"' in line and "_bucket" not in line
    }
    assert values["aws_lambda_invocations_total"] == 3
    assert values["aws_lambda_errors_total"] == 1
    assert values["faas_coldstarts_total"] == 1
    with urllib.request.urlopen(f"http://127.0.0.1:{port + 1}/metrics") as answer:
        assert "lambent_decisions_total{" in answer.read().decode()


def test_nothing_more_listens_by_default(cluster: Cluster) -> None:
    """Beside the two doors, only the Runtime APIs of environments that live, on the loopback interface."""
    pids = [cluster.pid(service) for service in ("frontend", "scheduler", "worker", "poller")]
    sockets = {link.readlink() for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and Path(f"socket:[{columns[9]}]") in sockets:
                listening.add((columns[1].rpartition(":")[0], int(columns[1].rpartition(":")[2], 16)))
    doors = {int(cluster.http.rpartition(":")[2]), int(cluster.grpc.rpartition(":")[2])}
    assert doors <= {port for _, port in listening}
    loopback = "0100007F"  # as the kernel writes 127.0.0.1
    assert {address for address, port in listening if port not in doors} <= {loopback}


def test_our_own_logs_are_json_with_request_ids(own_cluster: Any) -> None:
    cluster: Cluster = own_cluster("--no-examples")
    lines = [
        json.loads(line) for path in (cluster.data / "run").glob("*.log") for line in path.read_text().splitlines()
    ]
    assert lines
    assert all({"time", "level", "service", "message"} <= line.keys() for line in lines)
