"""Where functions are told that services are."""

from __future__ import annotations

from lambent.domain.names import Tenant
from lambent.infra.connections import Connection, Connections
from services.worker.endpoints import Endpoints

ROWS = [
    Connection("http://one", "k", "s", service="sqs", account="111111111111"),
    Connection("http://all", "k", "s", service="sqs"),
    Connection("http://bucket", "k", "s", arn="arn:aws:s3:::bucket"),
    Connection("http://elsewhere", "k", "s", service="lambda"),
]
ENDPOINTS = Endpoints("http://api", Connections(ROWS))
OURS = dict.fromkeys(
    [
        f"AWS_ENDPOINT_URL_{name}"
        for name in ("LAMBDA", "CLOUDWATCH_LOGS", "APPLICATION_AUTO_SCALING", "STS", "EVENTBRIDGE", "SCHEDULER")
    ],
    "http://api",
)


def test_each_account_is_told_of_its_own_connections_and_of_this_cluster() -> None:
    for account, endpoint in (("111111111111", "http://one"), ("222222222222", "http://all")):
        found = ENDPOINTS.variables(Tenant(account, "us-east-1"), {"AWS_ENDPOINT_URL_S3": "http://mine"})
        assert found == {**OURS, "AWS_ENDPOINT_URL_SQS": endpoint}


def test_a_function_that_says_where_every_service_is_is_told_of_none() -> None:
    assert ENDPOINTS.variables(Tenant("1", "r"), {"AWS_ENDPOINT_URL": "http://mine"}) == {}


def test_a_bus_that_a_connection_leads_to_is_not_this_clusters() -> None:
    endpoints = Endpoints("http://api", Connections([Connection("http://bus", "k", "s", service="events")]))
    assert endpoints.variables(Tenant("1", "r"), {}) == {**OURS, "AWS_ENDPOINT_URL_EVENTBRIDGE": "http://bus"}


def test_functions_are_told_where_streams_are_read() -> None:
    rows = [
        Connection("http://streams", "k", "s", service="kinesis"),
        Connection("http://tables", "k", "s", service="dynamodbstreams", account="111111111111"),
    ]
    endpoints = Endpoints("http://api", Connections(rows))
    told = {**OURS, "AWS_ENDPOINT_URL_KINESIS": "http://streams"}
    assert endpoints.variables(Tenant("222222222222", "us-east-1"), {}) == told
    told["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"] = "http://tables"
    assert endpoints.variables(Tenant("111111111111", "us-east-1"), {}) == told
