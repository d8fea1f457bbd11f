"""Where the SDKs in a function find services that are not AWS's own: variables that every SDK of AWS reads.

Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from lambent.domain.names import Tenant
from lambent.infra.connections import Connections

_EVERY_SERVICE = "AWS_ENDPOINT_URL"
# Services that the cluster's own API serves, and those that connections may name, as the variables call them: a
# connection for one of both leads there.
_OURS = ("LAMBDA", "CLOUDWATCH_LOGS", "APPLICATION_AUTO_SCALING", "STS", "EVENTBRIDGE", "SCHEDULER")
_CONNECTED = {
    "sqs": "SQS", "sns": "SNS", "events": "EVENTBRIDGE", "s3": "S3", "kinesis": "KINESIS",
    "dynamodbstreams": "DYNAMODB_STREAMS",
}  # fmt: skip


class Endpoints:
    """The endpoints of one cluster, for each tenant's functions."""

    def __init__(self, url: str, connections: Connections) -> None:
        """`url`: the cluster's REST API as functions reach it."""
        self._url = url
        self._connections = connections
        self._of = lru_cache(maxsize=1024)(self._found)

    def variables(self, tenant: Tenant, own: Mapping[str, str]) -> Mapping[str, str]:
        """What a function finds that has variables of its `own`: nothing, if these say where every service is."""
        return {} if _EVERY_SERVICE in own else self._of(tenant)

    def _found(self, tenant: Tenant) -> Mapping[str, str]:
        found = {f"{_EVERY_SERVICE}_{name}": self._url for name in _OURS}
        for service, name in _CONNECTED.items():
            connection = self._connections.of_service(tenant, service)
            if connection is not None:
                found[f"{_EVERY_SERVICE}_{name}"] = connection.endpoint
        return found
