"""A whole worker beside a scheduler of the test's own: orders, news, reconnection, draining. Others use `Cluster`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc.aio
import pytest

from lambent.domain.limits import Limits
from lambent.domain.names import Tenant
from lambent.infra import frames
from lambent.infra.batches import Outbox
from lambent.infra.clock import SystemClock, SystemIds
from lambent.infra.code_store import MemoryCodeStore
from lambent.infra.connections import Connection, Connections
from lambent.infra.log_store import MemoryLogStore
from lambent.internal.v1 import worker_service_pb2 as pb
from lambent.internal.v1.deployment_pb2 import Deployment
from lambent.internal.v1.worker_service_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server
from services.worker.counters import InvocationRecord
from services.worker.environment import Environment
from services.worker.sandbox.fake import FakePool
from services.worker.wiring import Worker, WorkerConfig

STRONGEST = "namespaces" if os.geteuid() == 0 else "process"
RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
TENANT = Tenant("123456789012", "us-east-1")
TOKEN = "a shared secret"
SESSION_KEY = b"what sessions are made with"
PATIENCE = 20.0
CONNECTIONS = Connections(
    [Connection(f"http://{service}.test", "key", "secret", service=service) for service in ("sqs", "s3")]
    + [Connection("http://other.test", "key", "secret", service="sns", account="999999999999")]
)
ECHO = "def handler(event, context):\n    return event\n"


def zipped(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


class Scheduler(WorkerServiceServicer):
    """Notes what a worker says, and says what the test wants."""

    def __init__(self) -> None:
        self.hellos: list[pb.WorkerHello] = []
        self.ready: dict[str, int] = {}
        self.gone: dict[str, str] = {}
        self.heartbeats = 0
        self.draining = False
        self.metadata: dict[str, str] = {}
        self.changed = asyncio.Condition()
        self._orders: Outbox[pb.WorkerInstruction] = Outbox()
        self._server: grpc.aio.Server | None = None

    async def serve(self, address: str) -> None:
        self._server = grpc.aio.server()
        add_WorkerServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(address)
        await self._server.start()

    async def end(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        self.metadata = dict(context.invocation_metadata())
        writing = asyncio.ensure_future(self._write(context))
        try:
            while True:
                message = await context.read()
                if message is grpc.aio.EOF:
                    return
                self.heartbeats += not message.events
                for event in message.events:
                    self._note(event)
                    if event.WhichOneof("event") == "hello":
                        self.order(pb.WorkerInstruction(welcome=pb.WorkerWelcome(scheduler_id="test")))
                async with self.changed:
                    self.changed.notify_all()
        finally:
            writing.cancel()

    async def _write(self, context: Any) -> None:
        async def write(instructions: Sequence[pb.WorkerInstruction]) -> None:
            await context.write(pb.WorkerInstructions(instructions=instructions))

        await self._orders.run(write)

    def _note(self, event: pb.WorkerEvent) -> None:
        kind = event.WhichOneof("event")
        if kind == "hello":
            self.hellos.append(event.hello)
        elif kind == "ready":
            self.ready[event.ready.environment_id] = event.ready.slot
        elif kind == "gone":
            self.gone[event.gone.environment_id] = event.gone.reason
        elif kind == "draining":
            self.draining = True

    def order(self, instruction: pb.WorkerInstruction) -> None:
        self._orders.put(instruction)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(true)


class Client(asyncio.Protocol):
    """A caller: frames over the worker's socket."""

    def __init__(self) -> None:
        self.reader = frames.FrameReader()
        self.waiting: dict[int, asyncio.Future[tuple[Any, bytes]]] = {}
        self.pieces: dict[int, list[Any]] = {}  # by call: the head of a response that streams, and what has come of it
        self.takes = True  # whether it takes the pieces of such a response
        self.lost = asyncio.Event()
        self.calls = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for kind, call, meta, payload in self.reader.feed(data):
            if kind == frames.Kind.STREAM:
                self.pieces[call] = [meta]
            elif kind == frames.Kind.PIECE:
                self.pieces[call].append(payload)
                if self.takes:
                    self.transport.write(frames.encode(frames.Kind.CREDIT, call, frames.Credit(len(payload))))
            else:
                self.waiting.pop(call).set_result((meta, payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def hello(self, token: str = TOKEN) -> None:
        self.transport.write(frames.encode(frames.Kind.HELLO, 0, frames.Hello("caller", token)))

    def send(self, request: frames.Invoke, payload: bytes) -> tuple[int, asyncio.Future[tuple[Any, bytes]]]:
        self.calls += 1
        future: asyncio.Future[tuple[Any, bytes]] = asyncio.get_running_loop().create_future()
        self.waiting[self.calls] = future
        self.transport.write(frames.encode(frames.Kind.INVOKE, self.calls, request, payload))
        return self.calls, future


@dataclass
class Answer:
    """What came of an invocation."""

    result: frames.Result
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def tail(self) -> str:
        assert self.result.tail is not None
        return self.result.tail.decode()


@dataclass
class Cluster:
    """One worker, its scheduler and a caller."""

    folder: Path
    level: str = STRONGEST
    network: str = "full"
    unreachable: tuple[tuple[str, int], ...] = ()
    uid_base: int = 200_000
    control_groups: bool = True
    limits: Limits = field(default_factory=Limits)
    credentials_seconds: float = 43_200.0
    rest_after_seconds: float = 0.2  # so that many a test meets environments that have rested
    memory_mb: int = 4096
    interpreters: dict[str, Path] = field(default_factory=dict)  # beside Python's
    through_api: bool = False  # Python functions ask the Runtime API, as with extensions, instead of our own channel
    as_programs: bool = False  # Python functions are started as programs, as with libraries of their own

    @property
    def launched(self) -> bool:
        """Whether a launcher is the first process of a Python function's sandbox."""
        return self.through_api or self.as_programs

    def __post_init__(self) -> None:
        self.scheduler = Scheduler()
        self.code = MemoryCodeStore()
        self.logs = MemoryLogStore()
        self.ids = SystemIds()
        self.records: list[InvocationRecord] = []
        self.client = Client()
        self.folder.chmod(0o755)
        self.config = WorkerConfig(
            worker_id=f"test-{self.ids.token(4)}",
            scheduler_address=f"unix:{self.folder}/scheduler.sock",
            address=f"unix:{self.folder}/run/worker.sock",
            token=TOKEN,
            session_key=SESSION_KEY,
            api_url="http://api.test",
            connections=CONNECTIONS,
            credentials_seconds=self.credentials_seconds,
            rest_after_seconds=self.rest_after_seconds,
            memory_mb=self.memory_mb,
            data_dir=self.folder / "data",
            run_dir=self.folder / "run",
            interpreters={RUNTIME: Path(sys.executable), **self.interpreters},
            limits=self.limits,
            isolation="auto" if self.level == "fake" else self.level,
            network=self.network,
            unreachable=self.unreachable,
            uid_base=self.uid_base,
            control_groups=self.control_groups,
            max_environments=50,
            pool_size=2,
            log_flush_seconds=0.05,
        )
        self.worker = Worker(
            self.config,
            code=self.code,
            logs=self.logs,
            clock=SystemClock(),
            ids=self.ids,
            pool=FakePool(frozenset({RUNTIME})) if self.level == "fake" else None,
            on_invocation=self.records.append,
        )

    async def start(self) -> None:
        await self.scheduler.serve(self.config.scheduler_address)
        await self.worker.start()
        self.client = await self.connect()
        self.client.hello()
        await self.scheduler.until(lambda: bool(self.scheduler.hellos))

    async def close(self) -> None:
        self.client.transport.close()
        await self.worker.close()
        await self.scheduler.end()

    async def connect(self) -> Client:
        path = self.worker.address.removeprefix("unix:")
        _, client = await asyncio.get_running_loop().create_unix_connection(Client, path)
        return client

    def deployment(self, files: dict[str, str], **fields: Any) -> Deployment:
        values: dict[str, Any] = {
            "account": TENANT.account,
            "region": TENANT.region,
            "function_name": "fn",
            "version": "$LATEST",
            "deployment_id": "d1",
            "runtime": RUNTIME,
            "handler": "app.handler",
            "code_sha256": self.code.put(zipped(files)),
            "memory_mb": 128,
            "timeout_seconds": 3,
            "ephemeral_storage_mb": 512,
            "log_format": "Text",
            **fields,
        }
        if self.through_api:
            # A layer with a folder for extensions and none in it.
            values.setdefault("layer_sha256", [self.code.put(zipped({"extensions/none/here": ""}))])
        if self.as_programs:
            # Another library path than every function has.
            values["variables"] = {"LD_LIBRARY_PATH": "/var/task/lib", **values.get("variables", {})}
        return Deployment(**values)

    def order(self, files: dict[str, str] | str, *, provisioned: bool = False, **fields: Any) -> str:
        deployment = self.deployment({"app.py": files} if isinstance(files, str) else files, **fields)
        identity = self.ids.token(8)
        order = pb.StartEnvironment(
            environment_id=identity, generation=1, deployment=deployment.SerializeToString(deterministic=True),
            provisioned=provisioned,
        )  # fmt: skip
        self.scheduler.order(pb.WorkerInstruction(start=order))
        return identity

    def stop(self, identity: str) -> None:
        self.scheduler.order(pb.WorkerInstruction(stop=pb.StopEnvironment(environment_id=identity, reason="x")))

    async def deploy(self, files: dict[str, str] | str, **fields: Any) -> str:
        identity = self.order(files, **fields)
        await self.scheduler.until(lambda: identity in self.scheduler.ready or identity in self.scheduler.gone)
        assert identity not in self.scheduler.gone, self.scheduler.gone[identity]
        return identity

    def request(self, identity: str, **fields: Any) -> frames.Invoke:
        values: dict[str, Any] = {
            "slot": self.scheduler.ready.get(identity, 0),
            "environment_id": identity,
            "request_id": self.ids.uuid(),
            "arn": "arn:aws:lambda:us-east-1:123456789012:function:fn",
            "trace": "",
            "client_context": None,
            "tail": True,
            **fields,
        }
        return frames.Invoke(**values)

    async def invoke(self, identity: str, event: Any = None, *, payload: bytes | None = None, **fields: Any) -> Answer:
        body = json.dumps({} if event is None else event).encode() if payload is None else payload
        _, future = self.client.send(self.request(identity, **fields), body)
        async with asyncio.timeout(PATIENCE):
            meta, answer = await future
        assert isinstance(meta, frames.Result), meta
        return Answer(meta, answer)

    async def until(self, true: Callable[[], bool]) -> None:
        """Give the loop turns until something is so that no event tells of."""
        async with asyncio.timeout(PATIENCE):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def rested(self, environment: Environment) -> None:
        """Wait until it has been told to rest in the pause that goes on, and is frozen again."""
        idle = environment.idle_since
        await self.until(lambda: environment.told_to_rest > idle and environment.frozen)

    def log_lines(self) -> list[str]:
        chunks, _ = self.logs.read(TENANT, "/aws/lambda/fn")
        return [line for chunk in chunks for line in chunk.lines]


@contextlib.asynccontextmanager
async def cluster_of(folder: Path, **options: Any) -> AsyncIterator[Cluster]:
    cluster = Cluster(folder, **options)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path, level="fake") as made:
        yield made


async def test_the_hello_says_who_works_here_and_heartbeats_follow(cluster: Cluster) -> None:
    hello = cluster.scheduler.hellos[0]
    assert (hello.worker_id, hello.isolation, hello.environments) == (cluster.config.worker_id, "fake", 50)
    assert hello.address == cluster.config.address
    assert cluster.scheduler.metadata["authorization"] == f"Bearer {TOKEN}"
    await cluster.scheduler.until(lambda: cluster.scheduler.heartbeats >= 2)


async def test_start_invoke_stop(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    answer = await cluster.invoke(identity, {"a": 1})
    assert answer.json == {"a": 1}
    assert answer.result.error is None
    assert answer.result.reusable
    cluster.stop(identity)
    await cluster.scheduler.until(lambda: identity in cluster.scheduler.gone)
    assert cluster.scheduler.gone[identity] == "Stopped"
    assert cluster.worker.counters.stops == 1


async def test_provisioned_environments_start_a_few_at_a_time_and_nobody_waits_for_them(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n{ECHO}"
    async with cluster_of(tmp_path, level="process") as cluster:
        *provisioned, stopped = [cluster.order(slow, provisioned=True) for _ in range(7)]
        await cluster.deploy(ECHO)
        assert cluster.worker.counters.starts == 4 + 1
        cluster.stop(stopped)
        await cluster.scheduler.until(lambda: stopped in cluster.scheduler.gone)
        gate.touch()
        await cluster.scheduler.until(lambda: set(provisioned) <= cluster.scheduler.ready.keys())
        assert cluster.worker.counters.starts == 6 + 1


async def test_what_cannot_be_started_is_gone_with_a_reason(cluster: Cluster) -> None:
    missing = cluster.order(ECHO, code_sha256="0" * 64)
    foreign = cluster.order(ECHO, runtime="python3.8")
    scheduler = cluster.scheduler
    await scheduler.until(lambda: len(scheduler.gone) == 2)
    assert scheduler.gone == {missing: "PackageUnavailable", foreign: "SandboxUnavailable"}


async def test_one_that_is_stopped_but_unknown_is_gone(cluster: Cluster) -> None:
    cluster.stop("never")
    await cluster.scheduler.until(lambda: "never" in cluster.scheduler.gone)


async def test_a_scheduler_that_restarts_is_told_what_runs_and_disturbs_nothing(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    await cluster.scheduler.end()
    assert (await cluster.invoke(identity, 1)).json == 1
    again = Scheduler()
    cluster.scheduler, slot = again, cluster.scheduler.ready[identity]
    await again.serve(cluster.config.scheduler_address)
    await again.until(lambda: bool(again.hellos))
    (running,) = again.hellos[0].running
    assert (running.environment_id, running.slot, running.function_name) == (identity, slot, "fn")
    assert (running.ready, running.busy, running.generation) == (True, False, 1)
    again.ready[identity] = slot
    assert (await cluster.invoke(identity, 2)).json == 2


async def test_an_environment_ends_before_its_credentials(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, level="fake", credentials_seconds=0.3) as cluster:
        identity = cluster.order(ECHO)
        await cluster.scheduler.until(lambda: identity in cluster.scheduler.gone)
        assert cluster.scheduler.gone == {identity: "CredentialsExpire"}


async def test_the_caller_of_an_environment_that_is_too_old_is_told_not_to_use_it_again(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    assert (await cluster.invoke(identity)).result.reusable
    cluster.worker.environments.by_id[identity].fresh_until = 0.0
    assert not (await cluster.invoke(identity)).result.reusable


async def test_draining_ends_what_is_idle_and_refuses_what_is_new(cluster: Cluster) -> None:
    identity = await cluster.deploy(ECHO)
    assert await cluster.worker.drain(5)
    late = cluster.order(ECHO)
    await cluster.scheduler.until(lambda: late in cluster.scheduler.gone)
    assert cluster.scheduler.draining
    assert cluster.scheduler.gone == {identity: "WorkerDrained", late: "WorkerDrained"}


async def test_a_scheduler_that_wants_the_worker_to_go_has_it_take_nothing_new_and_end_nothing(
    cluster: Cluster,
) -> None:
    identity = await cluster.deploy(ECHO)
    assert (await cluster.invoke(identity)).result.reusable
    cluster.scheduler.order(pb.WorkerInstruction(drain=pb.DrainWorker(reason="not needed")))
    await cluster.scheduler.until(lambda: cluster.scheduler.draining)
    # Who holds it uses it no more after this, or a busy one would never end.
    assert not (await cluster.invoke(identity)).result.reusable
    late = cluster.order(ECHO)
    await cluster.scheduler.until(lambda: late in cluster.scheduler.gone)
    assert cluster.scheduler.gone == {late: "WorkerDrained"}, "what was there is the scheduler's to end"
    assert identity in cluster.scheduler.ready
