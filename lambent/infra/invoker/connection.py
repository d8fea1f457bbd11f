"""One process's whole way to run functions: lease pool, lease stream, worker links and invoker, wired and started."""

from __future__ import annotations

import asyncio
import random

from lambent.domain.clock import Clock
from lambent.infra.certificates import Certificates
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.port import FunctionStore
from lambent.infra.invoker.invoker import ASK_SECONDS, BACKGROUND_ASK_SECONDS, Invoker
from lambent.infra.invoker.leases import LeaseStream
from lambent.infra.invoker.pool import LeasePool
from lambent.infra.invoker.worker_links import WorkerLinks
from lambent.infra.layout import Layout
from lambent.infra.lifecycle import StartError
from lambent.infra.secrets import SecretBox
from lambent.infra.settings import Settings
from lambent.infra.telemetry import Telemetry, by_reason

# How long a process waits for the scheduler at its start; without it nothing could be admitted.
SCHEDULER_SECONDS = 20.0


def scheduler_address(settings: Settings, layout: Layout) -> str:
    """Where the schedulers are, separated by commas."""
    return settings.internal.scheduler or layout.scheduler_addresses(settings.cluster.schedulers)


class InvokerConnection:
    """Invoker and lease stream of one process. To be made in a running loop."""

    def __init__(
        self,
        caller_id: str,
        settings: Settings,
        layout: Layout,
        store: FunctionStore,
        secrets: SecretBox,
        telemetry: Telemetry,
        clock: Clock,
        rng: random.Random,
        certificates: Certificates | None,
        *,
        background: bool = False,
    ) -> None:
        """`caller_id`: unique among live callers. `certificates`: None for no TLS. `background`: nobody waits for its
        invocations, which are held to `queue.share`."""
        pool = LeasePool(settings.timing.lease_hold_seconds, settings.timing.alarm_period_seconds)
        self._address, token = scheduler_address(settings, layout), layout.cluster_token()
        self.leases = LeaseStream(
            self._address, token, caller_id, pool, clock, rng, certificates, background=background
        )
        self._links = WorkerLinks(caller_id, token, certificates)
        ask_seconds = BACKGROUND_ASK_SECONDS if background else ASK_SECONDS
        self.invoker = Invoker(pool, self.leases, self._links, clock, ask_seconds=ask_seconds)
        # Given before the stream starts: a scheduler is told every limit before anything is asked of it.
        self.settings_link = SettingsLink(store, secrets, self.leases)
        telemetry.observe("lambent.leases", lambda: by_reason(self.invoker.counters, "how"))

    async def start(self) -> None:
        """Reach the scheduler. Raises StartError."""
        self.leases.start()
        try:
            await asyncio.wait_for(self.leases.connected.wait(), SCHEDULER_SECONDS)
        except TimeoutError:
            raise StartError(f"the scheduler at {self._address} cannot be reached; is it running?") from None

    async def close(self) -> None:
        """Give every lease back and hang up."""
        await self.leases.close()
        await self._links.close()
