"""`lambent invoke`: run a function and print what it returned."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from lambent.cli.connection import Connection, connected
from lambent.cli.output import output_option, print_json
from lambent.client import Client, InvokeResult, LambentError


@click.command("invoke")
@click.argument("name")
@click.option("--payload", default="{}", show_default=True, help="JSON text, @FILE, or - for standard input.")
@click.option("--qualifier", help="Version or alias.")
@click.option("--tenant-id", help="Tenant that it is for, of a function with tenant isolation.")
@click.option("--log", "log_tail", is_flag=True, help="Print the end of the invocation's log to standard error.")
@click.option(
    "--each-line", is_flag=True, help="Run it for each line of the payload, many at once; each answer is a line."
)
@click.option("--async", "later", is_flag=True, help="Queue an event and do not wait; prints its request id.")
@click.option(
    "--dedup-token", help="With --async: queue nothing if an event with this token was queued a short while ago."
)
@click.option("--not-before", help="With --async: when to run at the soonest, epoch seconds or 2030-01-31T08:00:00Z.")
@click.option("--wait", is_flag=True, help="With --async: wait until the event has ended; exit code 3 if given up.")
@output_option
@connected
def command(
    connection: Connection, name: str, payload: str, qualifier: str | None, tenant_id: str | None, log_tail: bool,
    each_line: bool, later: bool, dedup_token: str | None, not_before: str | None, wait: bool, output: str,
) -> None:  # fmt: skip
    """Run a function. Its answer goes to standard output; exit code 3 if the function failed.

    With --each-line answers come as they end, each behind the number of its line and a tab; --output json makes each a
    document of one line. What failed goes to standard error.
    """
    if each_line and (later or log_tail):
        raise click.UsageError("--each-line waits for all answers and shows no log; leave out --async and --log")
    if later and log_tail:
        raise click.UsageError("--log waits for the invocation, --async does not; see `lambent logs --request-id`")
    if wait and not later:
        raise click.UsageError("--wait is for --async; without it `lambent invoke` waits anyway")
    if not later and (dedup_token is not None or not_before is not None):
        raise click.UsageError("--dedup-token and --not-before are for --async")
    with connection.open() as client:
        if each_line:
            _run_each(client, name, payload, qualifier, tenant_id, output)
            return
        if later:
            request_id = client.invoke_async(
                name, _payload(payload), qualifier=qualifier, dedup_token=dedup_token, not_before=not_before,
                tenant_id=tenant_id,
            )  # fmt: skip
            _tell_event(client, name, request_id, wait, output)
            return
        result = client.invoke(name, _payload(payload), qualifier=qualifier, log_tail=log_tail, tenant_id=tenant_id)
    if output == "json":
        print_json(_document(result) | {"logTail": result.log_tail})
    else:
        click.echo(result.payload)
        if result.log_tail is not None:
            sys.stderr.write(result.log_tail)
    if result.error is not None:
        raise click.exceptions.Exit(3)


def _document(result: InvokeResult) -> dict[str, object]:
    return {
        "payload": result.payload.decode(errors="replace"),
        "error": result.error,
        "executedVersion": result.executed_version,
        "requestId": result.request_id,
        "elapsedSeconds": round(result.elapsed, 6),
    }


def _run_each(client: Client, name: str, given: str, qualifier: str | None, tenant_id: str | None, output: str) -> None:
    """Run a function for each line that is not blank."""
    numbers: list[int] = []

    def payloads() -> Iterator[bytes]:
        for number, line in enumerate(_lines(given), 1):
            if line.strip():
                numbers.append(number)
                yield line.strip()

    answers = client.invoke_many(name, payloads(), qualifier=qualifier, tenant_id=tenant_id)
    failed = sum(not _tell(numbers[place], answer, output) for place, answer in answers)
    if failed:
        click.echo(f"{failed} of {len(numbers)} failed", err=True)
        raise click.exceptions.Exit(3)


def _tell(line: int, answer: InvokeResult | LambentError, output: str) -> bool:
    """Print what came of a line; whether that is well."""
    if isinstance(answer, LambentError):
        told: dict[str, object] = {"refused": {"name": answer.name, "message": answer.message, "reason": answer.reason}}
        text, well = str(answer).encode(), False
    else:
        told, text, well = _document(answer), answer.payload, answer.error is None
    if output == "json":
        click.echo(msgspec.json.encode({"line": line} | told))
    else:
        click.echo(b"%d\t%b" % (line, text), err=not well)
    return well


def _lines(given: str) -> Iterable[bytes]:
    if given == "-":
        return sys.stdin.buffer
    return _payload(given).splitlines()


def _tell_event(client: Client, name: str, request_id: str, wait: bool, output: str) -> None:
    if output == "table":
        click.echo(request_id)
    ended = client.wait_for_event(name, request_id) if wait else None
    if output == "json":
        given_up = None if ended is None else {"reason": ended.event.reason, "detail": ended.event.detail}
        print_json({"requestId": request_id} | ({"givenUp": given_up} if wait else {}))
    if ended is not None:
        sys.stderr.write(f"given up after {ended.event.attempts} attempts: {ended.event.reason} {ended.event.detail}\n")
        raise click.exceptions.Exit(3)


def _payload(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if given.startswith("@"):
        try:
            return Path(given[1:]).read_bytes()
        except OSError as error:
            raise click.UsageError(f"cannot read {given[1:]}: {error.strerror}") from None
    return given.encode()
