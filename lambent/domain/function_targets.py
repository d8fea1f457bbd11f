"""Functions that rules and schedules tell, and the queues that are told what those could not be: which ARNs may stand
for them. Pure."""

from __future__ import annotations

from lambent.domain.destinations import resource_of
from lambent.domain.errors import AwsError
from lambent.domain.names import Tenant, parse


def no_function(arn: str, tenant: Tenant) -> str | None:
    """Why an ARN is no function of the tenant's; None: it is one's."""
    function = resource_of(arn, ("lambda",))
    if function is None or not function.resource.startswith("function:"):
        return f"{arn} is not a function's ARN: only functions are targets here."
    if (function.account, function.region) != tenant:
        return f"{arn} is a function of another account or region."
    try:
        parse(arn, None, tenant)
    except AwsError as error:
        return error.message
    return None


def no_letter_queue(arn: str) -> str | None:
    """Why an ARN is no queue for dead letters; None: it is one's."""
    queue = resource_of(arn, ("sqs",))
    return "it is not the ARN of a standard SQS queue." if queue is None or queue.ordered else None
