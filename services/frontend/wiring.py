"""The frontend's compose root."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
from collections.abc import Mapping
from types import ModuleType

from google.protobuf.descriptor import ServiceDescriptor

from lambent.domain import file_systems, networks
from lambent.domain.errors import AwsError
from lambent.domain.file_systems import FileSystems
from lambent.domain.networks import Networks
from lambent.infra.certificates import certificates
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.connections import ConnectionsError
from lambent.infra.connections import load as load_connections
from lambent.infra.due import redis_store as due_store
from lambent.infra.event_sources.redis_store import RedisEventSourceStore
from lambent.infra.functions.attached import RedisAttachedFunctions
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.redis_store import RedisFunctionStore, RedisUrlIndex
from lambent.infra.functions.use_recorder import UseRecorder, telling_seconds
from lambent.infra.functions.waking import Waker
from lambent.infra.http import HttpServer
from lambent.infra.http_messages import HttpLimits
from lambent.infra.invocation_telemetry import InvocationTelemetry
from lambent.infra.invoker.connection import InvokerConnection, scheduler_address
from lambent.infra.layout import layout
from lambent.infra.lifecycle import Service, StartError
from lambent.infra.operations_port import OperationsPort, port_after
from lambent.infra.queue import durability
from lambent.infra.queue.redis_inspector import RedisInspector
from lambent.infra.queue.redis_queue import redis_queue
from lambent.infra.redaction import without_password
from lambent.infra.redis_client import START_SECONDS, StoreUnreachable, connect, reach
from lambent.infra.registries import Registries
from lambent.infra.rule_targets import RuleTargets
from lambent.infra.secrets import SecretBox
from lambent.infra.session_credentials import SessionKeys
from lambent.infra.settings import Settings
from lambent.infra.sigv4 import Verifier
from lambent.infra.stores import code_store, log_store
from lambent.infra.tasks import TaskOwner
from lambent.infra.telemetry import Telemetry
from lambent.infra.telling import Teller
from lambent.v1 import (
    account_service_pb2,
    alias_service_pb2,
    concurrency_service_pb2,
    event_invoke_service_pb2,
    event_source_service_pb2,
    function_service_pb2,
    function_url_service_pb2,
    identity_service_pb2,
    insight_service_pb2,
    invocation_service_pb2,
    layer_service_pb2,
    log_group_service_pb2,
    log_service_pb2,
    permission_service_pb2,
    queue_service_pb2,
    recursion_service_pb2,
    rule_service_pb2,
    runtime_management_service_pb2,
    scaling_service_pb2,
    schedule_service_pb2,
    tag_service_pb2,
    version_service_pb2,
)
from services.frontend import code_urls
from services.frontend.buckets import Buckets
from services.frontend.code_urls import CodeUrls
from services.frontend.events import EventAcceptor
from services.frontend.images import Images
from services.frontend.key_ring import key_ring
from services.frontend.layers.redis_store import RedisLayerStore
from services.frontend.operations.account import AccountOperations
from services.frontend.operations.aliases import AliasOperations
from services.frontend.operations.bus_events import BusEvents
from services.frontend.operations.concurrency import ConcurrencyOperations
from services.frontend.operations.configuration import Offer, runtimes
from services.frontend.operations.editing import Editor
from services.frontend.operations.event_invoke_configs import EventInvokeConfigOperations
from services.frontend.operations.event_source_mappings import EventSourceOperations
from services.frontend.operations.function_urls import FunctionUrlOperations
from services.frontend.operations.functions import FunctionOperations
from services.frontend.operations.identity import IdentityOperations
from services.frontend.operations.insight import InsightOperations
from services.frontend.operations.invocations import InvocationOperations
from services.frontend.operations.layers import LayerAttacher, LayerOperations
from services.frontend.operations.log_groups import LogGroupOperations
from services.frontend.operations.logs import LogOperations
from services.frontend.operations.lookups import Lookups
from services.frontend.operations.permissions import Guests, PermissionOperations
from services.frontend.operations.provisioner import Provisioner
from services.frontend.operations.queue import QueueOperations
from services.frontend.operations.recursion import RecursionOperations
from services.frontend.operations.rules import RuleOperations
from services.frontend.operations.runtime_management import RuntimeManagementOperations
from services.frontend.operations.scaling import ScalingOperations
from services.frontend.operations.schedules import ScheduleOperations
from services.frontend.operations.settling import Settler
from services.frontend.operations.snapshots import SnapshotMaker
from services.frontend.operations.tags import TagOperations
from services.frontend.operations.uploads import Uploads
from services.frontend.operations.versions import Publisher, VersionOperations
from services.frontend.provisioned_statuses import SchedulerStatuses
from services.frontend.reclaiming import Reclaimer
from services.frontend.request_counts import RequestCounts, UrlCounts
from services.frontend.scaling.redis_store import RedisScalingStore
from services.frontend.scaling.scaler import Scaler
from services.frontend.scaling.settings import ScalingSettings
from services.frontend.scheduler_calls import SchedulerCalls
from services.frontend.transport.dispatch import Dispatch
from services.frontend.transport.grpc_door import GrpcDoor
from services.frontend.transport.json_door import JsonDoor
from services.frontend.transport.named_door import HttpDoors
from services.frontend.transport.query_door import QueryDoor
from services.frontend.transport.rest_door import RestDoor
from services.frontend.transport.store_door import StoreDoor
from services.frontend.transport.url_door import UrlDoor
from services.frontend.url_finder import UrlFinder

_log = logging.getLogger(__name__)


def make(settings: Settings) -> Service:
    """The service."""
    return FrontendService(settings)


class FrontendService:
    """One frontend."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            self._offer = Offer(
                settings.limits,
                runtimes(settings.cluster.runtimes),
                Networks(networks.parse(settings.vpc.subnets), networks.parse(settings.vpc.security_groups)),
                FileSystems(file_systems.parse(settings.cluster.file_systems)),
            )
            self._connections = load_connections(settings.queue.connections)
        except (ValueError, ConnectionsError) as error:
            raise StartError(str(error)) from None
        self._layout = layout(settings.cluster.data)
        self._clock, self._ids, self._rng = SystemClock(), SystemIds(), random.Random()
        self._id = f"frontend-{self._ids.token(6)}"
        self._tasks = TaskOwner("frontend")
        cluster = settings.cluster
        self._redis, self._blocking = connect(cluster.redis_url), connect(cluster.redis_url, blocking=True)
        self._store = RedisFunctionStore(self._redis, self._blocking)
        self._url_index = RedisUrlIndex(self._redis)
        self._attached = RedisAttachedFunctions(self._redis)
        self._code = code_store(settings, self._layout)
        self._telemetry = Telemetry(
            "frontend",
            otlp_endpoint=settings.telemetry.otlp_endpoint,
            prometheus=bool(settings.telemetry.prometheus),
            instance=self._id,
        )
        self._counts = InvocationTelemetry(
            self._telemetry, self._clock, self._ids, self._rng, settings.telemetry.sample, "http"
        )
        self._requests = RequestCounts(self._telemetry)
        self._operations = OperationsPort(port_after(settings.telemetry.prometheus, 0), self._clock, self._unready)
        self._certificates = certificates(settings.internal.tls)
        self._stopping = False
        self._connection: InvokerConnection | None = None
        self._rest: HttpServer | None = None
        self._grpc: GrpcDoor | None = None
        self._store_door: StoreDoor | None = None

    async def start(self) -> Mapping[str, str]:
        """Connect to store and scheduler, then listen on both doors."""
        settings, cluster = self._settings, self._settings.cluster
        keys = key_ring(settings)
        try:
            await reach(self._redis, cluster.redis_url, START_SECONDS)
        except StoreUnreachable as error:
            raise StartError(str(error)) from error
        self._secrets = SecretBox(self._layout.master_key())
        connection = self._connection = InvokerConnection(
            self._id, settings, self._layout, self._store, self._secrets, self._telemetry, self._clock, self._rng,
            self._certificates,
        )  # fmt: skip
        token = self._layout.cluster_token()
        self._scheduler_calls = SchedulerCalls(scheduler_address(settings, self._layout), token, self._certificates)
        queue = self._queue = redis_queue(self._redis, self._clock, self._id, settings.queue)
        self._events = EventAcceptor(
            queue, self._telemetry, settings.queue.accept_seconds, settings.queue.dedup_seconds
        )
        try:
            await self._events.start()
        except AwsError as error:
            url = without_password(cluster.redis_url)
            raise StartError(f"Redis at {url} does not answer ({error.message})") from error
        await durability.report(self._redis)
        dispatch = self._dispatch(connection)
        # Whoever is told of a connection has asked for it by now.
        await connection.start()
        regions = [region.strip() for region in cluster.regions.split(",") if region.strip()] or None

        sessions = SessionKeys(self._layout.session_key(), powerless=settings.worker.credentials == "none")

        def verifier(signing_name: str) -> Verifier:
            return Verifier(
                keys,
                skew_seconds=settings.limits.signature_skew_seconds,
                presigned_max_seconds=settings.limits.presigned_max_seconds,
                services=[signing_name],
                regions=regions,
                sessions=sessions,
            )

        rest = RestDoor(
            dispatch, verifier, clock=self._clock, ids=self._ids, limits=settings.limits,
            plain={code_urls.PREFIX: self._urls.handle},
        )  # fmt: skip
        json = JsonDoor(dispatch, verifier, clock=self._clock, ids=self._ids)
        query = QueryDoor(dispatch, verifier, clock=self._clock, ids=self._ids)
        urls = UrlDoor(
            dispatch, UrlFinder(self._url_index, self._directory, self._store), verifier("lambda"),
            base=cluster.function_url_base, observe=UrlCounts(self._telemetry).observe, clock=self._clock,
            ids=self._ids, limits=settings.limits,
        )  # fmt: skip
        self._rest = HttpServer(
            HttpDoors(rest, json, query, urls),
            clock=self._clock,
            limits=HttpLimits(head_bytes=settings.limits.request_head_bytes),
        )
        self._grpc = GrpcDoor(dispatch, keys, clock=self._clock, ids=self._ids, limits=settings.limits, regions=regions)
        if settings.internal.store_listen:
            logs = log_store(settings, self._layout, self._id, self._clock)
            self._store_door = StoreDoor(settings.internal.store_listen, token, self._code, logs, self._certificates)
        host, _, port = cluster.http.rpartition(":")
        try:
            await self._rest.start(host.strip("[]"), int(port))
            await self._grpc.start(cluster.grpc)
            if self._store_door is not None:
                await self._store_door.start()
            await self._operations.start()
        except OSError as error:
            raise StartError(f"cannot listen on {cluster.http} or {cluster.grpc}: {error}") from error
        self._tasks.start("flush metrics", self._counts.keep_flushing())
        if settings.vpc.exist:
            idle = settings.limits.idle_network_seconds
            recorder = UseRecorder(self._counts.functions, self._attached, self._clock)
            reclaimer = Reclaimer(
                self._store, self._attached, self._directory, self._clock, self._ids, idle_seconds=idle
            )
            self._tasks.start("tell uses", recorder.keep_telling(telling_seconds(idle)))
            self._tasks.start("reclaim networks", reclaimer.keep_looking(telling_seconds(idle)))
        return {"http": cluster.http, "grpc": cluster.grpc}

    def _dispatch(self, connection: InvokerConnection) -> Dispatch:
        """Every RPC with its operation."""
        limits = self._settings.limits
        secrets = self._secrets
        url_key = hmac.new(self._layout.master_key(), b"package-urls", hashlib.sha256).digest()
        self._urls = CodeUrls(self._code, url_key, self._settings.cluster.url, limits.package_url_seconds, self._clock)
        self._directory = FunctionDirectory(self._store, secrets, connection.leases)
        self._waker = Waker(self._store, self._attached, self._directory, self._clock, self._ids)
        self._settler = Settler(self._store, self._code, self._directory, limits, self._clock, self._ids)
        editor = Editor(self._store, self._directory, connection.settings_link, limits, self._ids)
        self._snapshots = SnapshotMaker(
            self._store, editor, connection.invoker, secrets, limits, self._clock, self._ids
        )  # fmt: skip
        lookups = Lookups(self._store, self._settler, self._snapshots)
        provisioner = Provisioner(editor, limits, self._clock)
        publisher = Publisher(self._snapshots, self._clock, self._ids)
        buckets = Buckets(self._connections, self._clock, most_bytes=limits.unzipped_bytes)
        self._images = Images(Registries(self._connections, self._clock), limits)
        uploads, layers = Uploads(self._code, buckets, limits), RedisLayerStore(self._redis)
        functions = FunctionOperations(
            store=self._store,
            uploads=uploads,
            images=self._images,
            layers=LayerAttacher(layers, limits),
            settler=self._settler,
            lookups=lookups,
            editor=editor,
            publisher=publisher,
            secrets=secrets,
            urls=self._urls,
            offer=self._offer,
            attached=self._attached,
            clock=self._clock,
            ids=self._ids,
        )
        versions = VersionOperations(
            store=self._store,
            lookups=lookups,
            editor=editor,
            publisher=publisher,
            secrets=secrets,
            limits=limits,
            ids=self._ids,
        )
        aliases = AliasOperations(store=self._store, editor=editor, limits=limits, ids=self._ids)
        concurrency = ConcurrencyOperations(
            store=self._store,
            editor=editor,
            provisioner=provisioner,
            statuses=SchedulerStatuses(self._scheduler_calls),
            limits=limits,
        )
        invocations = InvocationOperations(
            directory=self._directory,
            settler=self._settler,
            waker=self._waker,
            invoker=connection.invoker,
            events=self._events,
            telemetry=self._counts,
            guests=Guests(self._store),
            limits=limits,
            rng=self._rng,
        )
        scaling, mappings = self._scaling(connection, provisioner), RedisEventSourceStore(self._redis)
        logs = log_store(self._settings, self._layout, "reader", self._clock)
        served: list[tuple[ModuleType, object]] = [
            (scaling_service_pb2, scaling),
            (function_service_pb2, functions),
            (version_service_pb2, versions),
            (alias_service_pb2, aliases),
            (concurrency_service_pb2, concurrency),
            (
                layer_service_pb2,
                LayerOperations(
                    store=layers, uploads=uploads, urls=self._urls, limits=limits, clock=self._clock, ids=self._ids
                ),
            ),
            (account_service_pb2, AccountOperations(self._store, limits)),
            (
                event_invoke_service_pb2,
                EventInvokeConfigOperations(store=self._store, editor=editor, limits=limits, clock=self._clock),
            ),
            (
                function_url_service_pb2,
                FunctionUrlOperations(
                    store=self._store,
                    index=self._url_index,
                    editor=editor,
                    base=self._settings.cluster.function_url_base,
                    limits=limits,
                    clock=self._clock,
                    ids=self._ids,
                ),
            ),
            (identity_service_pb2, IdentityOperations()),
            (
                permission_service_pb2,
                PermissionOperations(store=self._store, editor=editor, limits=limits, ids=self._ids),
            ),
            (recursion_service_pb2, RecursionOperations(store=self._store, editor=editor)),
            (
                runtime_management_service_pb2,
                RuntimeManagementOperations(store=self._store, editor=editor),
            ),
            (
                tag_service_pb2,
                TagOperations(store=self._store, editor=editor, mappings=mappings, limits=limits),
            ),
            (
                event_source_service_pb2,
                EventSourceOperations(
                    store=mappings,
                    functions=self._store,
                    connections=self._connections,
                    limits=limits,
                    clock=self._clock,
                    ids=self._ids,
                ),
            ),
            (rule_service_pb2, self._rules()),
            (
                schedule_service_pb2,
                ScheduleOperations(
                    store=due_store.schedules(self._redis),
                    groups=due_store.schedule_groups(self._redis),
                    limits=limits,
                    clock=self._clock,
                ),
            ),
            (queue_service_pb2, QueueOperations(self._queue, RedisInspector(self._redis))),
            (invocation_service_pb2, invocations),
            (log_service_pb2, LogOperations(self._store, logs, self._clock)),
            (log_group_service_pb2, LogGroupOperations(logs, limits, self._clock)),
            (insight_service_pb2, InsightOperations(self._scheduler_calls, self._clock)),
        ]
        return Dispatch(
            [(_service(file), operations) for file, operations in served],
            clock=self._clock,
            observe=self._requests.observe,
        )

    def _rules(self) -> RuleOperations:
        """EventBridge's rules."""
        store, limits = due_store.rules(self._redis), self._settings.limits
        teller = Teller(self._queue, self._directory, self._settings.queue.dedup_seconds)
        targets = RuleTargets(teller, self._telemetry)
        bus = BusEvents(store=store, targets=targets, limits=limits, ids=self._ids)
        return RuleOperations(store=store, bus=bus, limits=limits, clock=self._clock)

    def _scaling(self, connection: InvokerConnection, provisioner: Provisioner) -> ScalingOperations:
        """Application Auto Scaling."""
        store, limits = RedisScalingStore(self._redis), self._settings.limits
        settings = ScalingSettings(store, connection.leases)
        self._scaler = Scaler(
            functions=self._store,
            store=store,
            settings=settings,
            provisioner=provisioner,
            stream=connection.leases,
            limits=limits,
            clock=self._clock,
            ids=self._ids,
        )
        return ScalingOperations(
            functions=self._store,
            store=store,
            settings=settings,
            scaler=self._scaler,
            limits=limits,
            clock=self._clock,
            ids=self._ids,
        )

    def _unready(self) -> str | None:
        """Why no request is to come here."""
        if self._stopping:
            return "stopping"
        connected = self._connection is not None and self._connection.leases.connected.is_set()
        return None if connected else "no scheduler leads"

    async def stop(self) -> None:
        """Take nothing new, let running invocations end, hang up."""
        self._stopping = True
        if self._rest is not None and self._settings.timing.leave_seconds:
            self._rest.leave()
            await asyncio.sleep(self._settings.timing.leave_seconds)
        seconds = self._settings.timing.drain_seconds
        doors = [door.drain(seconds) for door in (self._rest, self._grpc) if door is not None]
        await asyncio.gather(*doors)
        if self._store_door is not None:
            await self._store_door.close()
        if self._rest is not None:
            await self._rest.close()
            await self._scaler.close()
            await self._settler.close()
            await self._snapshots.close()
            await self._waker.close()
            await self._directory.close()
            await self._events.close()
            self._images.close()
        if self._connection is not None:
            await self._connection.close()
            await self._scheduler_calls.close()
        await self._tasks.close()
        await self._operations.close()
        await self._redis.aclose()
        await self._blocking.aclose()
        self._telemetry.close()


def _service(file: ModuleType) -> ServiceDescriptor:
    """The service that a file of the protos has."""
    [service] = file.DESCRIPTOR.services_by_name.values()
    assert isinstance(service, ServiceDescriptor)
    return service
