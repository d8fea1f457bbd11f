"""Which row of the operator's table leads to an event source, for whom, and which rows there may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambent.domain.destinations import Destination, resource_of
from lambent.domain.kafka_records import self_managed
from lambent.domain.names import Tenant
from lambent.infra.connections import READ_AT, SERVICES, Connection, Connections, ConnectionsError, load

OWN, OTHER = Tenant("111111111111", "us-east-1"), Tenant("222222222222", "us-east-1")
ARNS = {
    "sqs": "arn:aws:sqs:us-east-1:{}:q",
    "kinesis": "arn:aws:kinesis:us-east-1:{}:stream/s",
    "dynamodb": "arn:aws:dynamodb:us-east-1:{}:table/orders/stream/2024-01-01T00:00:00.000",
    "kafka": "arn:aws:kafka:us-east-1:{}:cluster/main/0123-4",
}


def source(service: str, tenant: Tenant) -> Destination:
    found = resource_of(ARNS[service].format(tenant.account), tuple(ARNS))
    assert found is not None
    return found


def row(endpoint: str, *, service: str = "", arn: str = "", account: str = "") -> Connection:
    return Connection(f"http://{endpoint}", "k", "s", service=service, arn=arn, account=account)


def told(table: Connections, tenant: Tenant, resource: Destination) -> str | None:
    found = table.source(tenant, resource)
    return None if found is None else found.endpoint.removeprefix("http://")


@pytest.mark.parametrize("service", ARNS)
def test_a_row_for_a_service_leads_to_the_tenants_own_account_only(service: str) -> None:
    table = Connections([row("here", service=READ_AT[service])])
    assert told(table, OWN, source(service, OWN)) == "here"
    assert told(table, OWN, source(service, OTHER)) is None
    assert told(table, OTHER, source(service, OTHER)) == "here"


@pytest.mark.parametrize("service", ARNS)
def test_a_row_for_an_arn_comes_first_and_leads_to_other_accounts_too(service: str) -> None:
    rows = [row("here", service=READ_AT[service])]
    rows += [row(tenant.account, arn=source(service, tenant).arn) for tenant in (OWN, OTHER)]
    table = Connections(rows)
    for tenant in (OWN, OTHER):
        assert told(table, OWN, source(service, tenant)) == tenant.account


def test_a_registry_is_found_by_the_host_that_images_are_named_after() -> None:
    def registry(endpoint: str, **more: str) -> Connection:
        return Connection(endpoint, service="ecr", **more)

    named = registry("https://harbor.example", registry="123.dkr.ecr.us-east-1.amazonaws.com")
    own, open_ = registry("http://one:5000", account=OWN.account), registry("http://one:5000")
    table = Connections([row("queue", service="sqs"), named, own, open_])
    assert table.registry_of(OWN, "one:5000") is own
    assert table.registry_of(OTHER, "one:5000") is open_
    assert table.registry_of(OTHER, "123.dkr.ecr.us-east-1.amazonaws.com") is named
    assert [table.registry_of(OWN, host) for host in ("harbor.example", "queue", "one")] == [None, None, None]


@pytest.mark.parametrize("service", ARNS)
def test_an_account_restricts_a_row_to_its_own_functions(service: str) -> None:
    table = Connections([
        row("by-arn", arn=source(service, OWN).arn, account=OTHER.account),
        row("theirs", service=READ_AT[service], account=OTHER.account),
        row("everyones", service=READ_AT[service]),
    ])  # fmt: skip
    assert told(table, OWN, source(service, OWN)) == "everyones"
    assert told(table, OTHER, source(service, OTHER)) == "theirs"
    assert told(table, OTHER, source(service, OWN)) == "by-arn"


def test_a_tables_stream_is_read_where_streams_are_and_not_where_the_table_is() -> None:
    assert told(Connections([row("tables", service="dynamodb")]), OWN, source("dynamodb", OWN)) is None


def test_what_has_no_row_is_nowhere() -> None:
    assert told(Connections([row("here", service="sqs")]), OWN, source("kinesis", OWN)) is None


def file(folder: Path, line: str) -> str:
    path = folder / "connections.toml"
    path.write_text(f'[[connections]]\n{line}\nendpoint = "http://h:1"\naccess_key = "k"\nsecret_key = "s"\n')
    return str(path)


@pytest.mark.parametrize(
    "line",
    [f'service = "{service}"' for service in ("sqs", "sns", "lambda", "events", "s3", "kinesis", "dynamodbstreams")]
    + [f'arn = "{arn.format(OWN.account)}"' for name, arn in ARNS.items() if name != "kafka"],
)
def test_rows_that_there_may_be(line: str, tmp_path: Path) -> None:
    table = load(file(tmp_path, line))
    for each in ARNS:
        assert told(table, OWN, source(each, OWN)) in ("h:1", None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('service = "dynamodb"', f"is none of {', '.join(SERVICES)}"),
        ('arn = "arn:aws:dynamodb:us-east-1:111111111111:table/t"', "nothing that can be told something or read"),
        ('arn = "arn:aws:kinesis:us-east-1:111111111111:s"', "nothing that can be told something or read"),
        ('arn = "arn:aws:kinesis:us-east-1:111111111111:stream/s/consumer/c:1"', "nothing that can be told"),
        ('arn = "arn:aws:kinesis:us-east-1::stream/s"', "nothing that can be told something or read"),
    ],
)
def test_rows_that_lead_nowhere_are_refused(line: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionsError, match=says):
        load(file(tmp_path, line))


@pytest.mark.parametrize("line", ['service = "kafka"', f'arn = "{ARNS["kafka"].format(OWN.account)}"'])
def test_rows_of_brokers(line: str, tmp_path: Path) -> None:
    path = tmp_path / "kafka.toml"

    def rows(text: str) -> Connections:
        path.write_text(f"[[connections]]\n{line}\n{text}\n")
        return load(str(path))

    for text in (
        'endpoint = "kafka://a:9092"', 'endpoint = "kafkas://a:9092,b:9093"\nca = "/ca.pem"',
        'endpoint = "kafka://a:9092"\nmechanism = "SCRAM-SHA-512"\naccess_key = "u"\nsecret_key = "p"',
    ):  # fmt: skip
        assert rows(text).source(OWN, source("kafka", OWN)) is not None
    for text in (
        'endpoint = "http://a:9092"', 'endpoint = "kafka://a"', 'endpoint = "kafka://a:9092,"', 'endpoint = "kafka://a:9092/x"',
        'endpoint = "kafka://a:9092"\nmechanism = "GSSAPI"',
    ):  # fmt: skip
        with pytest.raises(ConnectionsError):
            rows(text)


def test_of_other_services_a_row_has_keys_and_no_mechanism(tmp_path: Path) -> None:
    path = tmp_path / "rows.toml"
    for text in ('access_key = "k"', 'access_key = "k"\nsecret_key = "s"\nmechanism = "PLAIN"'):
        path.write_text(f'[[connections]]\nservice = "sqs"\nendpoint = "http://a"\n{text}\n')
        with pytest.raises(ConnectionsError):
            load(str(path))


def test_rows_of_registries(tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"

    def rows(text: str) -> Connections:
        path.write_text(f"[[connections]]\n{text}\n")
        return load(str(path))

    one = 'service = "ecr"\nendpoint = "https://one:5000"\n'
    for text in ("", 'access_key = "u"\nsecret_key = "p"', 'ca = "/ca.pem"'):
        assert rows(one + text).registry_of(OWN, "one:5000") is not None
    for text in (one + 'access_key = "u"', one + 'secret_key = "p"', one.replace("5000", "5000/v2"),
                 'service = "sqs"\nendpoint = "http://q"\naccess_key = "k"\nsecret_key = "s"\nregistry = "one"'):  # fmt: skip
        with pytest.raises(ConnectionsError):
            rows(text)


def test_brokers_without_an_arn_are_those_that_a_row_names() -> None:
    rows = (
        Connection("kafka://a:9092,b:9092", service="kafka", account=OWN.account),
        Connection("kafka://c:9092", service="kafka"),
    )
    table = Connections(rows)
    for servers, found in ((["a:9092"], rows[0]), (["b:9092", "a:9092"], rows[0]), (["c:9092"], rows[1])):
        assert table.source(OWN, self_managed(OWN, servers)) is found
    for servers in (["d:9092"], ["a:9092", "c:9092"], ["a:9093"]):
        assert table.source(OWN, self_managed(OWN, servers)) is None
    assert table.source(OTHER, self_managed(OTHER, ["a:9092"])) is None
