"""`lambent queue`: look into the queue of asynchronous events, and steer it."""

from __future__ import annotations

from datetime import datetime

import click
from google.protobuf.timestamp_pb2 import Timestamp

from lambent.cli.connection import Connection, connected
from lambent.cli.minutes import Minutes
from lambent.cli.output import document, output_option, print_json, print_table
from lambent.v1 import queue_service_pb2 as pb

STATES = ("waiting", "delayed", "running", "given_up")


@click.group("queue")
def command() -> None:
    """Look into the queue of asynchronous events, and steer it.

    NAME is a function, or @ARN for the deliveries to a destination.
    """


@command.command("list")
@output_option
@connected
def list_queues(connection: Connection, output: str) -> None:
    """Every queue that has anything, is paused or has a priority: how much waits, is delayed, runs, was given up."""
    with connection.open() as client:
        queues = client.list_queues()
    if output == "json":
        print_json([document(queue, zeros=True) for queue in queues])
        return
    print_table(
        ["QUEUE", "WAITING", "OLDEST", "DELAYED", "NEXT ATTEMPT", "RUNNING", "GIVEN UP", "PRIORITY", ""],
        [
            [
                q.function_name, str(q.waiting),
                f"{q.oldest_age_seconds:.1f} s" if q.HasField("oldest_age_seconds") else "-", str(q.delayed),
                _time(q.next_attempt) if q.HasField("next_attempt") else "-", str(q.running), str(q.given_up),
                str(q.priority), "paused" if q.paused else "",
            ]
            for q in queues
        ],
    )  # fmt: skip


@command.command("events")
@click.argument("name")
@click.option("--state", type=click.Choice(STATES), default="given_up", show_default=True, help="Which of them.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@output_option
@connected
def events(connection: Connection, name: str, state: str, limit: int, output: str) -> None:
    """Events of a function, with what stood against them."""
    with connection.open() as client:
        found = client.list_events(name, state=state, max_items=limit)
    if output == "json":
        print_json([document(event) for event in found])
        return
    print_table(
        ["REQUEST", "ACCEPTED", "GIVEN UP" if state == "given_up" else "UNTIL", "RUNS", "REASON", "DETAIL", "BYTES"],
        [
            [
                e.request_id, _time(e.accepted), _time(e.time) if e.HasField("time") else "-", str(e.attempts),
                e.reason or "-", e.detail or e.holder or "-", str(e.payload_bytes),
            ]
            for e in found
        ],
    )  # fmt: skip


@command.command("peek")
@click.argument("name")
@click.argument("request_id")
@output_option
@connected
def peek(connection: Connection, name: str, request_id: str, output: str) -> None:
    """One event with its payload, and what the function answered last."""
    with connection.open() as client:
        found = client.get_event(name, request_id)
    shown = document(found.event) | {"Payload": found.payload.decode(errors="replace")}
    if found.HasField("response"):
        shown["Response"] = found.response.decode(errors="replace")
    if output == "json":
        print_json(shown)
    else:
        print_table(["FIELD", "VALUE"], [[key, str(value)] for key, value in shown.items()])


@command.command("pause")
@click.argument("name")
@connected
def pause(connection: Connection, name: str) -> None:
    """Run no more events of a function; they are accepted and wait."""
    with connection.open() as client:
        client.pause_queue(name)
    click.echo(f"paused {name}")


@command.command("resume")
@click.argument("name")
@connected
def resume(connection: Connection, name: str) -> None:
    """Run events of a function again."""
    with connection.open() as client:
        was_paused = client.resume_queue(name)
    click.echo(f"resumed {name}" if was_paused else f"{name} was not paused")


@command.command("priority", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("priority", type=click.IntRange(-10, 10))
@connected
def priority(connection: Connection, name: str, priority: int) -> None:
    """Run events of a function before those of others, or after.

    PRIORITY is from -10 to 10, and 0 unless it is set. Where functions compete for a poller, ten more means ten times
    as many events; none waits for ever.
    """
    with connection.open() as client:
        client.set_queue_priority(name, priority)
    click.echo(f"{name} has priority {priority}")


@command.command("purge")
@click.argument("name")
@click.option("--state", type=click.Choice(["waiting", "given_up"]), required=True, help="What is forgotten.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connected
def purge(connection: Connection, name: str, state: str, yes: bool) -> None:
    """Forget events of a function, for good; those that run are left."""
    if not yes:
        click.confirm(f"Forget all events of {name} that are {state}?", abort=True)
    with connection.open() as client:
        click.echo(f"{client.purge_queue(name, state)} forgotten")


@command.command("redrive")
@click.argument("name")
@click.option("--request-id", help="Only this one.")
@click.option("--since", type=Minutes(), help="Only what was given up in the last so many minutes.")
@click.option("--until", type=Minutes(), help="Only what was given up before the last so many minutes.")
@click.option("--reason", help="Only what was given up for this reason, RetriesExhausted, say.")
@click.option("--error", help="Only what has this in its detail: the type of an error, say.")
@connected
def redrive(
    connection: Connection, name: str, request_id: str | None, since: datetime | None, until: datetime | None,
    reason: str | None, error: str | None,
) -> None:  # fmt: skip
    """Queue events again that were given up, as if they were new; without options all of a function's."""
    request = pb.RedriveQueueRequest(function_name=name, request_id=request_id, reason=reason, detail=error)
    for moment, bound in ((since, request.since), (until, request.until)):
        if moment is not None:
            bound.FromDatetime(moment)
    with connection.open() as client:
        click.echo(f"{client.redrive_queue(request)} queued again")


def _time(stamp: Timestamp) -> str:
    return stamp.ToDatetime().isoformat(sep=" ", timespec="milliseconds")
