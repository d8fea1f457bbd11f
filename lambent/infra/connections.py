"""Where the resources are that ARNs name: a table that the operator writes, of AWS-compatible endpoints and the keys to
use there. What no row matches is built in.

```toml
[[connections]]
service = "sqs"                        # or arn = "arn:aws:sqs:eu-west-1:123456789012:orders", for one resource
endpoint = "https://sqs.eu-west-1.amazonaws.com"
access_key = "AKIA..."
secret_key = "..."
account = "000000000000"               # only for functions of this account; left out: of every account

[[connections]]
service = "kafka"                      # or arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/main/0123-4"
endpoint = "kafka://one:9092,two:9092" # kafkas:// with TLS, and `ca` for a file of the authorities that are trusted
access_key = "user"                    # with `mechanism` PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; left out: no login
secret_key = "..."
mechanism = "SCRAM-SHA-512"

[[connections]]
service = "ecr"                        # a registry of container images
endpoint = "https://registry.example.com:5000"
registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com" # as ImageUris call it; left out: as the endpoint does
access_key = "user"                    # of Amazon's own: AWS's keys; left out: nobody, for what everybody may read
secret_key = "..."
```
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from lambent.domain.destinations import ON_FAILURE, Destination, resource_of
from lambent.domain.event_sources import DYNAMODB, KINESIS, QUEUE, SOURCES, names_stream
from lambent.domain.kafka_records import KAFKA, own_servers
from lambent.domain.names import Tenant
from lambent.infra.sigv4_signing import Signer

# What event sources are read at, by the service that their ARNs name. AWS has the streams of tables elsewhere than the
# tables themselves.
READ_AT: Mapping[str, str] = {QUEUE: "sqs", KINESIS: "kinesis", DYNAMODB: "dynamodbstreams", KAFKA: KAFKA}
REGISTRY = "ecr"
# What a row may name as its service: whoever can be told something, and whatever can be read.
SERVICES = tuple(dict.fromkeys([*ON_FAILURE, *READ_AT.values(), REGISTRY]))
_ENDPOINT = re.compile(r"https?://[^/\s]+")
_BROKERS = re.compile(r"kafkas?://[^/\s,:]+:\d{1,5}(,[^/\s,:]+:\d{1,5})*")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row."""

    endpoint: str
    access_key: str = ""
    secret_key: str = ""
    service: str = ""
    arn: str = ""
    account: str = ""
    region: str = ""  # that requests are signed for; empty: the ARN's, else the function's
    mechanism: str = ""  # of Kafka: how it is logged in; empty: not at all
    ca: str = ""  # of Kafka and registries: a file of the authorities that are trusted; empty: the system's
    tokens: str = ""  # of registries: where passwords are asked for as of ECR; empty: at AWS, for its own
    registry: str = ""  # of registries: HOST[:PORT] as images' names have it; empty: the endpoint's

    @property
    def servers(self) -> tuple[str, ...]:
        """HOST:PORT of each of Kafka's."""
        return tuple(self.endpoint.partition("://")[2].split(","))

    @property
    def registry_host(self) -> str:
        """HOST[:PORT] that the images of a registry are named after."""
        return self.registry or urlsplit(self.endpoint).netloc

    def signer(self, region: str, service: str) -> Signer:
        """Signs requests to a service there. `region`: to sign for where the row says none."""
        return Signer(self.access_key, self.secret_key, self.region or region, service)

    def __repr__(self) -> str:
        return f"Connection({self.arn or self.service} at {self.endpoint})"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    connections: list[Connection] = []


class ConnectionsError(Exception):
    """The table cannot be used; the text is one line with a hint."""


class Connections:
    """The table.

    A cluster of Kafka that its owner runs is found by its bootstrap servers, a registry by its host: functions come to
    no others than the operator's rows name.
    """

    def __init__(self, rows: Sequence[Connection]) -> None:
        self._rows = tuple(rows)

    def find(self, tenant: Tenant, destination: Destination) -> Connection | None:
        """Where a destination is for a tenant's functions: a row for its ARN before one for its service. None: built
        in."""
        return self._of_arn(tenant, destination) or self.of_service(tenant, destination.service)

    def source(self, tenant: Tenant, source: Destination) -> Connection | None:
        """Where an event source is that a tenant's functions read: a row for its ARN before one for its service, as
        READ_AT calls it. A row for a service leads to the tenant's own resources only: reading takes away what another
        account has there. None: nowhere."""
        servers = set(own_servers(source))
        if servers:
            kafka = (row for row in self._of(tenant) if row.service == KAFKA)
            return next((row for row in kafka if servers <= set(row.servers)), None)
        found = self._of_arn(tenant, source)
        if found is not None or source.account != tenant.account:
            return found
        return self.of_service(tenant, READ_AT.get(source.service, source.service))

    def of_service(self, tenant: Tenant, service: str) -> Connection | None:
        """Where a service is for a tenant's functions. None: built in."""
        return next((row for row in self._of(tenant) if row.service == service), None)

    def registry_of(self, tenant: Tenant, host: str) -> Connection | None:
        """Where the registry is that images of a tenant's functions are named after. None: nowhere."""
        registries = (row for row in self._of(tenant) if row.service == REGISTRY)
        return next((row for row in registries if row.registry_host == host), None)

    def _of_arn(self, tenant: Tenant, resource: Destination) -> Connection | None:
        return next((row for row in self._of(tenant) if row.arn == resource.arn), None)

    def _of(self, tenant: Tenant) -> list[Connection]:
        return [row for row in self._rows if row.account in ("", tenant.account)]


def load(path: str) -> Connections:
    """Read the table; no path is an empty one. Raises ConnectionsError."""
    if not path:
        return Connections(())
    try:
        rows = msgspec.convert(tomllib.loads(Path(path).read_text()), _File).connections
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConnectionsError(f"cannot use connections of {path}: {error}") from error
    for row in rows:
        if bool(row.service) == bool(row.arn):
            raise ConnectionsError(f"a connection of {path} needs either service or arn: {row}")
        if row.service and row.service not in SERVICES:
            raise ConnectionsError(f"service {row.service} in {path} is none of {', '.join(SERVICES)}")
        if row.arn and not _of_use(row.arn):
            raise ConnectionsError(f"arn {row.arn} in {path} is of nothing that can be told something or read")
        _check(row, path)
    return Connections(rows)


def _check(row: Connection, path: str) -> None:
    kafka = row.service == KAFKA or row.arn.startswith(f"arn:aws:{KAFKA}:")
    if kafka and not _BROKERS.fullmatch(row.endpoint):
        raise ConnectionsError(f"endpoint {row.endpoint} in {path} must be kafka(s)://HOST:PORT[,HOST:PORT...]")
    if not kafka and not _ENDPOINT.fullmatch(row.endpoint):
        raise ConnectionsError(f"endpoint {row.endpoint} in {path} must be http(s)://HOST[:PORT], without a path")
    registry = row.service == REGISTRY
    nobody = registry and not (row.access_key or row.secret_key)
    if not (kafka or nobody) and not (row.access_key and row.secret_key):
        raise ConnectionsError(f"a connection of {path} needs access_key and secret_key: {row}")
    if (row.registry or row.tokens) and not registry:
        raise ConnectionsError(f"registry and tokens in {path} are of service {REGISTRY} alone: {row}")
    if row.tokens and (nobody or not _ENDPOINT.fullmatch(row.tokens)):
        raise ConnectionsError(f"tokens {row.tokens} in {path} must be http(s)://HOST[:PORT], asked with AWS's keys")
    if (row.mechanism and not kafka) or row.mechanism not in ("", *MECHANISMS):
        raise ConnectionsError(f"mechanism {row.mechanism} in {path} is none of {', '.join(MECHANISMS)}, of Kafka")


def _of_use(arn: str) -> bool:
    """Whether an ARN names something that can be told something or read."""
    resource = resource_of(arn, (*ON_FAILURE, *SOURCES))
    return resource is not None and (resource.service in ON_FAILURE or names_stream(resource))
