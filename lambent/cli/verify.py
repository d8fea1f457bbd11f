"""`lambent verify`: proves that a cluster works, from outside, with a function that it makes and removes again.

`helm test` runs it beside an installation.
"""

from __future__ import annotations

import asyncio
import secrets as random_source
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import msgspec

from lambent.cli.connection import Connection, connected, fail, settings
from lambent.client import Client, NotFound, Throttled
from lambent.client.deploying import deploy
from lambent.client.packaging import FunctionFile, zipped
from lambent.infra.queue import durability
from lambent.infra.redis_client import StoreUnreachable, connect, primaries, reach

_CODE = b"""\
def handler(event, context):
    print("verified", event["token"])
    return {"token": event["token"]}
"""
# Events are run at once where there is room, and workers send logs on a little after they were written.
_EVENT_SECONDS = 60.0
_PAUSE = 0.25
# A pod that has just started may be let through to the store a moment later, once its network's policies know it.
_STORE_SECONDS = 10.0

Say = Callable[[str], None]


class Unproven(Exception):
    """Something did not do what it is there for; the text is one line."""


@click.command("verify")
@click.option("--runtime", default="python3.11", show_default=True, help="Runtime of the function.")
@connected
def command(connection: Connection, runtime: str) -> None:
    """Create a function, invoke it both ways, see that a limit holds, look at the store, and remove what was made.

    The store is looked at where the setting redis_url says which it is.
    """
    name = f"lambent-verify-{random_source.token_hex(4)}"
    try:
        with connection.open() as client, _function(client, name, runtime):
            invokes(client, name, click.echo)
            queues(client, name, click.echo)
            throttles(client, name, click.echo)
        click.echo(f"removed {name}")
        if url := settings().settings.cluster.redis_url:
            asyncio.run(keeps(url, click.echo))
    except Unproven as error:
        fail(str(error))


@contextmanager
def _function(client: Client, name: str, runtime: str) -> Iterator[None]:
    """A function that is gone afterwards, whatever happens."""
    wanted = FunctionFile(name=name, runtime=runtime, handler="app.handler", description="Made by `lambent verify`.")
    try:
        deploy(client, Path(), wanted, zipped({"app.py": _CODE}), lambda _: None)
        click.echo(f"created {name}")
        yield
    finally:
        with suppress(NotFound):  # where creating it is what failed
            client.delete_function(name)


def invokes(client: Client, name: str, say: Say) -> None:
    """A synchronous invocation answers what the function returned. Raises Unproven."""
    token = random_source.token_hex(8)
    answer = client.invoke(name, {"token": token})
    if answer.error is not None or msgspec.json.decode(answer.payload) != {"token": token}:
        raise Unproven(f"the function answered {answer.payload[:200]!r} and not what it was given")
    say(f"invoked {name} in {answer.elapsed * 1000:.1f} ms")


def queues(client: Client, name: str, say: Say) -> None:
    """An event is run, and what the function wrote on it can be read. Raises Unproven."""
    token = random_source.token_hex(8)
    request_id = client.invoke_async(name, {"token": token})
    deadline = time.perf_counter() + _EVENT_SECONDS
    while not any(token in line.message for line in client.logs(name, request_id=request_id)):
        if time.perf_counter() > deadline:
            raise Unproven(f"after {_EVENT_SECONDS:g} s {_fate(client, name, request_id)}")
        time.sleep(_PAUSE)
    say(f"queued an event for {name}, and read what came of it")


def _fate(client: Client, name: str, request_id: str) -> str:
    try:
        event = client.get_event(name, request_id).event
    except NotFound:
        return f"event {request_id} has run, and what it wrote is not in the log"
    return f"event {request_id} is {event.state} after {event.attempts} attempts {event.reason} {event.detail}".rstrip()


def throttles(client: Client, name: str, say: Say) -> None:
    """With no concurrency reserved, an invocation is refused; without the reservation it is not. Raises Unproven."""
    client.reserve_concurrency(name, 0)
    try:
        client.invoke(name, {"token": ""})
    except Throttled as error:
        say(f"refused with {error.name} ({error.reason})")
    else:
        raise Unproven("an invocation ran, although its function's concurrency was reserved as 0")
    client.reserve_concurrency(name, None)
    client.invoke(name, {"token": ""}).raise_for_error()


async def keeps(url: str, say: Say, patience: float = _STORE_SECONDS) -> None:
    """The store answers, and its servers keep what they are given. `patience`: seconds. Raises Unproven."""
    client = connect(url)
    try:
        await reach(client, url, patience)  # a cluster's client knows its nodes then
        for node, where in primaries(client).items():
            store = f"the store {node}".strip()
            found = await durability.look(client, where)
            if found is None:
                say(f"{store} does not say how durable it is")
                continue
            line, wrong = durability.verdict(found)
            if wrong:
                raise Unproven(f"{store} is not safe: {'; '.join(wrong)}")
            say(line)
    except StoreUnreachable as error:
        raise Unproven(str(error)) from error
    finally:
        await client.aclose()
