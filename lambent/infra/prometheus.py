"""A process's /metrics, for Prometheus to scrape. Served only where the settings name an address."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from lambent.domain.clock import Clock
from lambent.infra.http import HttpServer
from lambent.infra.http_messages import HttpRequest, HttpResponse, PlainService
from lambent.infra.lifecycle import StartError


def port_after(address: str, offset: int) -> tuple[str, int] | None:
    """`address` (HOST:PORT, empty for none) moved on by `offset` ports: each process of a machine has its own."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) + offset


class PrometheusServer:
    """Serves the process's metrics on one address."""

    def __init__(self, address: tuple[str, int] | None, clock: Clock) -> None:
        """None: serve nothing."""
        self._clock = clock
        self._address = address
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

    @staticmethod
    async def _handle(request: HttpRequest) -> HttpResponse:
        if request.raw_path != b"/metrics":
            return HttpResponse(404)
        return HttpResponse(200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], generate_latest())
