"""Members of AWS's requests that this version does not serve, each with what its user is told. Read by the operations
and by the generated API page: what would change a function's behaviour is refused, never silently dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.message import Message

from lambent.domain.errors import invalid_parameter

# Member (as AWS spells it) → why it is refused when it is sent with a value.
UNSERVED: Mapping[str, str] = {
    "PublishTo": "managed instances are not served",
    "CodeSigningConfigArn": "code signing is not served yet",
    "CapacityProviderConfig": "managed instances are not served",
    "DurableConfig": "durable executions are not served",
    "SourceKMSKeyArn": "encrypted packages are not served yet",
    "DurableExecutionName": "durable executions are not served",
}
_SOURCES = "only SQS queues, Kinesis and DynamoDB streams, and Kafka's topics are event sources here"
# The same of event source mappings, some of whose members are served where functions have them.
UNSERVED_OF_EVENT_SOURCES: Mapping[str, str] = {
    "DocumentDBEventSourceConfig": _SOURCES,
    "KMSKeyArn": "filters encrypted with a key of your own are not served yet",
    "LoggingConfig": "logs of event source mappings are not served yet",
    "ProvisionedPollerConfig": "provisioned pollers are not served yet",
}


def refuse_unserved(request: Message, unserved: Mapping[str, str] = UNSERVED) -> None:
    """Raise InvalidParameterValueException for the first member with a value that is not served."""
    for name, value in sent(request):
        reason = unserved.get(name)
        if reason is not None and not means_nothing(value):
            raise invalid_parameter(f"{name}: {reason}.")


def sent(request: Message) -> Iterator[tuple[str, object]]:
    """The members that a request carries, by AWS's names."""
    for descriptor, value in request.ListFields():
        yield descriptor.json_name, value


def means_nothing(value: object) -> bool:
    """False, zero, an empty list, or a message whose every member is empty: what tools send for "not wanted"."""
    if isinstance(value, Message):
        return all(means_nothing(member) for _, member in value.ListFields())
    return not value
