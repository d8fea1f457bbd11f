"""Where a process is looked at from outside: /metrics for Prometheus, /livez and /readyz for Kubernetes. Served only
where the settings name an address.

/readyz says whether the process can do its part now, with the reason if it cannot; /livez that its loop turns.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lambent.domain.clock import Clock
from lambent.infra.http import HttpServer
from lambent.infra.http_messages import HttpRequest, HttpResponse, PlainService
from lambent.infra.lifecycle import StartError

_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


def port_after(address: str, offset: int) -> tuple[str, int] | None:
    """`address` (HOST:PORT, empty for none) moved on by `offset` ports: each process of a machine has its own."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) + offset


class OperationsPort:
    """Serves the process's metrics and its state on one address."""

    def __init__(self, address: tuple[str, int] | None, clock: Clock, unready: Callable[[], str | None]) -> None:
        """`address`: None to serve nothing. `unready`: why nothing is to be sent here now; None where all is well."""
        self._clock = clock
        self._address = address
        self._unready = unready
        self._server: HttpServer | None = None

    async def start(self) -> None:
        """Listen. Raises StartError where the port is taken."""
        if self._address is not None:
            self._server = HttpServer(PlainService(self._handle, 0), clock=self._clock)
            try:
                await self._server.start(*self._address)
            except OSError as error:
                host, port = self._address
                raise StartError(
                    f"cannot serve metrics on {host}:{port}: {error.strerror or error}; "
                    "choose another telemetry.prometheus"
                ) from error

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            await self._server.close()

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        match request.raw_path:
            case b"/metrics":
                return HttpResponse(200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], generate_latest())
            case b"/livez":
                return HttpResponse(200, list(_TEXT), b"ok\n")
            case b"/readyz":
                reason = self._unready()
                return HttpResponse(200 if reason is None else 503, list(_TEXT), f"{reason or 'ok'}\n".encode())
        return HttpResponse(404)
