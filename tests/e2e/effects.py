"""What functions did, told to the test outside the platform: they send it over the network."""

from __future__ import annotations

import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from lambent.infra.clock import SystemClock
from tests.e2e.harness import zipped

# With which a function's code begins that tells: "REQUEST-ID WHAT VERSION", to the port in its variable PORT.
TELL = """
import base64, json, os, socket, time
def tell(context, what):
    with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 10) as there:
        there.sendall(f"{context.aws_request_id} {what} {context.function_version}".encode())
        there.shutdown(socket.SHUT_WR)
        there.recv(1)
"""
# Tells its event's `n`; then sleeps, then fails if it is told to.
TELLS = (
    TELL
    + """
def handler(event, context):
    tell(context, event.get("n", 0))
    time.sleep(event.get("s", 0))
    if event.get("fail"):
        raise ValueError("no")
    return event
"""
)
PACKAGE = zipped({"app.py": TELLS})


class Effects:
    """Everything that was told, with the time at which it was."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.told: list[tuple[str, str, str, float]] = []  # request id, n, version, monotonic seconds
        self._news = threading.Condition()

    def add(self, line: str) -> None:
        request_id, number, version = line.split()
        with self._news:
            self.told.append((request_id, number, version, SystemClock().monotonic()))
            self._news.notify_all()

    def wait(self, count: int, seconds: float = 60.0, **chosen: str) -> list[tuple[str, str, str, float]]:
        """Wait until so many different things (`n`) were told, or one request told so often (`request_id`)."""
        with self._news:
            enough = self._news.wait_for(lambda: self._count(**chosen) >= count, seconds)
            assert enough, f"{self._count(**chosen)} of {count} after {seconds} s"
            return self.of(**chosen)

    def settle(self, request_ids: set[str], quiet: float) -> None:
        """Wait until all of these requests have told something, or nobody has told anything for `quiet` seconds."""
        missing, seen = set(request_ids), 0
        with self._news:
            while missing:
                missing.difference_update(each[0] for each in self.told[seen:])
                seen = len(self.told)
                if missing and not self._news.wait_for(lambda: len(self.told) > seen, quiet):  # noqa: B023
                    return

    def of(self, request_id: str | None = None) -> list[tuple[str, str, str, float]]:
        """What was told, by one request or by all."""
        return [each for each in self.told if request_id in (None, each[0])]

    def _count(self, request_id: str | None = None) -> int:
        return len(self.of(request_id)) if request_id else len({number for _, number, _, _ in self.told})

    @property
    def duplicates(self) -> int:
        """How often a request told something again."""
        return sum(times - 1 for times in Counter(each[0] for each in self.told).values())


@contextmanager
def effects() -> Iterator[Effects]:
    """A server for functions to tell."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            made.add(self.rfile.read().decode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 1024

    with Server(("127.0.0.1", 0), Handler) as server:
        made = Effects(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()
