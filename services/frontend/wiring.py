"""The frontend's compose root."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from lambent.domain.principals import AccessKey, KeyRing
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.code_store import DirectoryCodeStore
from lambent.infra.config import Settings
from lambent.infra.http import HttpServer
from lambent.infra.invoker.invoker import Invoker
from lambent.infra.invoker.leases import LeaseStream
from lambent.infra.invoker.pool import LeasePool
from lambent.infra.invoker.worker_links import WorkerLinks
from lambent.infra.layout import layout
from lambent.infra.lifecycle import Service, StartError
from lambent.infra.log_store import DirectoryLogStore
from lambent.infra.prometheus import PrometheusServer, port_after
from lambent.infra.redis_client import connect
from lambent.infra.secrets import SecretBox
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Telemetry, by_reason
from services.frontend.code_urls import CodeUrls
from services.frontend.directory import FunctionDirectory
from services.frontend.operations.functions import FunctionOperations
from services.frontend.operations.invocations import InvocationOperations
from services.frontend.operations.logs import LogOperations
from services.frontend.operations.settling import Settler
from services.frontend.store.redis_store import RedisFunctionStore
from services.frontend.telemetry import FrontendTelemetry

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
# How long the frontend waits for the scheduler at its start; without it nothing could be admitted.
SCHEDULER_SECONDS = 20.0


class _KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of the access-keys file."""

    id: str
    secret: str
    account: str
    principal: str = ""


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The access-keys file: [[access_keys]] tables."""

    access_keys: list[_KeyEntry] = []


def make(settings: Settings) -> Service:
    """The service."""
    return FrontendService(settings)


def key_ring(settings: Settings) -> KeyRing:
    """Root credentials first, then the file's keys. Raises StartError."""
    cluster = settings.cluster
    root_id, _, root_secret = cluster.root_credentials.partition(":")
    keys = [AccessKey(root_id, root_secret, cluster.account, f"arn:aws:iam::{cluster.account}:root")]
    if cluster.access_keys:
        try:
            document = tomllib.loads(Path(cluster.access_keys).read_text())
            entries = msgspec.convert(document, _KeyFile).access_keys
        except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise StartError(f"cannot use access keys of {cluster.access_keys}: {error}") from error
        for entry in entries:
            if len(entry.account) != 12 or not entry.account.isdecimal() or len(entry.secret) < 8:
                raise StartError(
                    f"access key {entry.id} in {cluster.access_keys} needs an account of twelve digits "
                    "and a secret of at least 8 characters"
                )
            principal = entry.principal or f"arn:aws:iam::{entry.account}:user/{entry.id}"
            keys.append(AccessKey(entry.id, entry.secret, entry.account, principal))
    return KeyRing(keys)


class FrontendService:
    """One frontend."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = layout(settings.cluster.data)
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._rng = random.Random()
        self._tasks = TaskOwner("frontend")
        self._started = False

    async def start(self) -> Mapping[str, str]:
        """Connect to store and scheduler, then listen."""
        settings, cluster = self._settings, self._settings.cluster
        ring = key_ring(settings)
        caller_id = f"frontend-{self._ids.token(6)}"
        self._redis, self._blocking = connect(cluster.redis_url), connect(cluster.redis_url, blocking=True)
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise StartError(f"Redis at {cluster.redis_url} cannot be reached ({error}); check redis_url") from error
        master = self._layout.master_key()
        store = RedisFunctionStore(self._redis, self._blocking)
        code = DirectoryCodeStore(self._layout.code)
        secrets = SecretBox(master)
        pool = LeasePool(settings.timing.lease_hold_seconds)
        address = settings.internal.scheduler or f"unix:{self._layout.run}/scheduler.sock"
        self._leases = LeaseStream(address, caller_id, pool, self._clock, self._rng)
        self._links = WorkerLinks(caller_id, self._layout.cluster_token())
        self._invoker = Invoker(pool, self._leases, self._links, self._clock)
        self._directory = FunctionDirectory(store, secrets, self._leases)
        self._settler = Settler(store, code, self._directory, settings.limits, self._clock, self._ids)
        self._telemetry = Telemetry(
            "frontend",
            otlp_endpoint=settings.telemetry.otlp_endpoint,
            prometheus=bool(settings.telemetry.prometheus),
            instance=caller_id,
        )
        self._counts = FrontendTelemetry(
            self._telemetry, self._clock, self._ids, self._rng, settings.telemetry.sample
        )
        self._telemetry.observe("lambent.leases", lambda: by_reason(self._invoker.counters, "how"))
        url_key = hmac.new(master, b"package-urls", hashlib.sha256).digest()
        urls = CodeUrls(code, url_key, f"http://{cluster.http}", settings.limits.package_url_seconds, self._clock)
        operations = {
            "lambent.v1.FunctionService": FunctionOperations(
                store=store, code=code, directory=self._directory, settler=self._settler, secrets=secrets, urls=urls,
                limits=settings.limits, clock=self._clock, ids=self._ids,
            ),
            "lambent.v1.InvocationService": InvocationOperations(
                directory=self._directory, settler=self._settler, invoker=self._invoker, telemetry=self._counts,
                limits=settings.limits,
            ),
            "lambent.v1.LogService": LogOperations(store, DirectoryLogStore(self._layout.logs, "reader")),
        }  # fmt: skip
        del operations, ring, HttpServer
        self._prometheus = PrometheusServer(port_after(settings.telemetry.prometheus, 0))
        self._leases.start()
        self._started = True
        self._tasks.start("flush metrics", self._flush())
        await self._prometheus.start()
        try:
            await asyncio.wait_for(self._leases.connected.wait(), SCHEDULER_SECONDS)
        except TimeoutError:
            raise StartError(f"the scheduler at {address} cannot be reached; is it running?") from None
        return {"http": cluster.http, "grpc": cluster.grpc}

    async def stop(self) -> None:
        """Take nothing new, let running invocations end, hang up."""

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self._counts.flush()
