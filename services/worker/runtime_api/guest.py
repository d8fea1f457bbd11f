"""The worker's side of one environment whose runtime speaks HTTP: launcher, connections and core brought together.

To the environment it is a guest like the native one: it says READY, RESPONSE, ERROR and INIT_ERROR in the same terms,
and so both run on one state machine.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lambent.domain.clock import Clock, Ids
from lambent.domain.limits import Limits
from lambent.infra.frames import Invoke
from lambent.infra.tasks import TaskOwner
from services.worker.core.outcomes import Outcome, launch_failed, response_too_large
from services.worker.environment_log import Tap
from services.worker.guest import wire
from services.worker.runtime_api.connection import ApiConnection
from services.worker.runtime_api.core import (
    INVALID_TRANSITION,
    RUNTIME,
    Answer,
    ApiCore,
    Held,
    Identity,
    Signal,
    refusal,
)
from services.worker.runtime_api.deliveries import Deliveries
from services.worker.runtime_api.launcher_channel import LauncherChannel
from services.worker.runtime_api.peers import owner as owner_of
from services.worker.runtime_api.pipes import Pipe
from services.worker.runtime_api.records import RecordReader
from services.worker.runtime_api.responses import StreamedResponses, Taker
from services.worker.runtime_api.routes import Route
from services.worker.runtime_api.telemetry import InvalidSubscription
from services.worker.sandbox.port import Sandbox

_CONNECTIONS = 64  # from one sandbox at once
_REFUSALS = 200  # in one invocation, or one init phase: a runtime that does not stop is ended
_SMALL_BYTES = 64 * 1024  # body of a call that carries no payload
_SIGTERM, _SIGKILL = 15, 9
INTERNAL_SECONDS = 0.5  # for a runtime to end, where only extensions inside it have registered
EXTERNAL_SECONDS = 2.0  # for the runtime and its extensions together


class Owner(Taker, Protocol):
    """The environment."""

    def guest_frame(self, kind: int, meta: bytes, payload: bytes) -> None: ...

    def guest_printed(self, data: bytes) -> None: ...

    def guest_recorded(self, text: bytes) -> None:
        """A log record that the runtime framed itself: one event, whatever lines it has."""
        ...

    def guest_extension_printed(self, data: bytes) -> None:
        """What an extension printed."""
        ...

    def guest_ended(self, broken: bool) -> None: ...

    def guest_exited(self, status: int | None, signal: int | None) -> None:
        """The runtime has ended by itself."""
        ...

    def guest_failed(self, error_type: str, text: str) -> None:
        """An extension cannot go on, and so the environment cannot."""
        ...

    def guest_settled(self) -> None:
        """After an answer: everybody waits for the next event."""
        ...


class ApiGuest:
    """One environment's launcher and API. An `Api` to its connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tasks: TaskOwner,
        sandbox: Sandbox,
        identity: Identity,
        limits: Limits,
        owner: Owner,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._loop = loop
        self._tasks = tasks
        self._sandbox = sandbox
        self._identity = identity
        self._limits = limits
        self._owner = owner
        self._clock = clock
        self._ids = ids
        self._channel = LauncherChannel(
            loop, sandbox.channel, sandbox.output, self._frame, owner.guest_printed, owner.guest_ended
        )
        self._core: ApiCore | None = None  # None: nothing listens yet
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._pipes: list[Pipe] = []  # framed records of the runtime; what extensions print
        self._connections: set[ApiConnection] = set()
        self._waiting: dict[str, deque[ApiConnection]] = {}  # polls, by who asked
        self._unserved: list[tuple[str, tuple[tuple[str, str], ...], bytes]] = []  # events whose poll was lost
        self._event: tuple[Invoke, int, bytes] | None = None  # to be handed out
        self._request_id = ""
        self._since = loop.time()  # when the init phase, or the invocation that runs, began
        self._refusals = 0
        self._streams = StreamedResponses(loop, limits, owner, self._fail_response)
        self._deliveries = Deliveries(loop, clock, self._channel.send)
        self._closed = False
        self._ending = False  # ends of processes are expected
        self._running: set[str] = set()  # processes that live: RUNTIME and names of extensions
        self._on_all_ended: Callable[[], None] | None = None

    # What the environment asks

    def begin(self, task: Mapping[str, Any]) -> None:
        """Start the init phase; `task` as wire.py says of a launcher's INIT."""
        self._channel.send(wire.pack(wire.INIT, json.dumps(task).encode()))

    @property
    def settled(self) -> bool:
        """Whether an event that is sent now begins to run now."""
        return self._core is not None and self._core.idle

    def invoke(self, request: Invoke, deadline_ms: int, payload: bytes) -> None:
        """Hand out an event, once everybody waits for one."""
        self._event = (request, deadline_ms, payload)
        self._request_id = request.request_id
        self._refusals = 0
        if self._core is not None and self._core.inited and self._core.idle:
            self._hand_out()

    def drain(self) -> None:
        """Take what was printed and recorded until now."""
        self._channel.drain()
        for pipe in self._pipes:
            pipe.drain()

    def end(self, reason: str, done: Callable[[], None]) -> float:
        """Tell what runs that it ends; answers how many seconds it may take, and calls `done` if it takes less.

        0: nothing wants to be told.
        """
        core = self._core
        if core is None or not core.extensions or self._closed or self._ending:
            return 0.0
        self._ending = True
        self._on_all_ended = done
        seconds = EXTERNAL_SECONDS if any(one.external for one in core.extensions.values()) else INTERNAL_SECONDS
        deadline = int((self._clock.epoch() + seconds) * 1000)
        event = {"eventType": "SHUTDOWN", "shutdownReason": reason.lower(), "deadlineMs": deadline}
        self._deliveries.flush()
        for who in core.shutdown():
            self._tell(who, (), json.dumps(event).encode())
        signal = _SIGTERM if reason == "SPINDOWN" else _SIGKILL  # a runtime that has failed is not asked
        self._channel.send(wire.pack(wire.SIGNAL, json.dumps({"signal": signal}).encode()))
        return seconds

    def close(self) -> None:
        """Stop serving."""
        if self._closed:
            return
        self._closed = True
        self._on_all_ended = None
        self._streams.close()
        self._deliveries.close()
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close()
        for pipe in self._pipes:
            pipe.close()
        self._channel.close()

    # The launcher

    def _frame(self, kind: int, meta: bytes, payload: bytes) -> None:
        try:
            told = json.loads(meta)
            if kind == wire.LISTENING:
                self._listen(told["extensions"])
            elif kind == wire.LAUNCH_FAILED:
                self._cannot_start(str(told["type"]), str(told["message"]))
            elif kind == wire.RUNTIME_EXITED:
                self._ended(RUNTIME, told["status"], told["signal"])
            elif kind == wire.EXTENSION_EXITED:
                self._ended(str(told["name"]), told["status"], told["signal"])
            else:
                raise ValueError(kind)
        except (ValueError, KeyError, TypeError, RecursionError):
            self._owner.guest_ended(True)

    def _listen(self, names: list[str]) -> None:
        if self._core is not None or len(self._channel.descriptors) < 3:
            raise ValueError("listening once, with three descriptors")
        listener = socket.socket(fileno=self._channel.descriptors.pop(0))
        listener.setblocking(False)
        reader = RecordReader()
        self._pipes = [
            Pipe(self._loop, self._channel.descriptors.pop(0), lambda data: self._recorded(reader.feed(data))),
            Pipe(self._loop, self._channel.descriptors.pop(0), self._owner.guest_extension_printed),
        ]
        self._core = ApiCore(self._identity, [str(name) for name in names], self._ids.uuid)
        self._running = {RUNTIME, *map(str, names)}
        self._listener = listener
        self._tasks.start(f"runtime-api-{self._identity.function_name}", self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        if self._closed:
            return
        server = await self._loop.create_server(lambda: ApiConnection(self), sock=listener)
        if self._closed:
            server.close()
        else:
            self._server = server

    def _cannot_start(self, kind: str, text: str) -> None:
        outcome = launch_failed(self._request_id, kind, text)
        self._report(wire.INIT_ERROR, kind, outcome.document)

    def _ended(self, who: str, status: int | None, signal: int | None) -> None:
        self._running.discard(who)
        if self._ending:
            if not self._running and self._on_all_ended is not None:
                done, self._on_all_ended = self._on_all_ended, None
                done()
        elif who == RUNTIME:
            self._owner.guest_exited(status, signal)
        elif self._core is not None and self._core.extension_ended(who):
            how = f"signal {signal}" if signal is not None else f"exit status {status}"
            self._owner.guest_failed("Extension.Crash", how)

    def _recorded(self, texts: list[bytes]) -> None:
        for text in texts:
            self._owner.guest_recorded(text)

    # Connections

    def opened(self, connection: ApiConnection) -> bool:
        if self._closed or len(self._connections) >= _CONNECTIONS:
            return False
        user = self._sandbox.user
        if user is not None and not self._sandbox.own_network and owner_of(*connection.ends) != user:
            return False  # another sandbox's, on a network that they share
        self._connections.add(connection)
        return True

    def closed(self, connection: ApiConnection) -> None:
        self._connections.discard(connection)
        self._streams.lost(connection)

    def body_limit(self, route: Route) -> int:
        if route in (Route.RESPONSE, Route.ERROR, Route.INIT_ERROR):
            return self._limits.sync_response_bytes
        return _SMALL_BYTES

    # Responses that stream

    def begin_stream(self, connection: ApiConnection, request_id: str, headers: Mapping[str, str]) -> bool:
        core = self._core
        if core is None or not core.allows_response(request_id):
            return False
        return self._streams.begin(connection, request_id, headers.get("content-type", "application/octet-stream"))

    def stream(self, connection: ApiConnection, data: bytes) -> None:
        self._streams.piece(connection, data)

    def credit(self, size: int) -> None:
        """The caller has taken so many bytes."""
        self._streams.credit(size)

    def rest(self) -> None:
        """What runs there is not ours."""

    def end_stream(self, connection: ApiConnection, trailers: Mapping[str, str]) -> None:
        request_id = self._streams.end(connection)
        if request_id is None:
            connection.answer(INVALID_TRANSITION)
        else:
            self.call(connection, Route.RESPONSE, request_id, trailers, b"")

    def too_large(self, connection: ApiConnection, route: Route, request_id: str) -> None:
        limit = self.body_limit(route)
        text = f"Exceeded maximum allowed payload size ({limit} bytes)."
        connection.answer(refusal(413, "RequestEntityTooLarge", text))
        if route is Route.RESPONSE:
            self._fail_response(request_id, response_too_large(limit))

    def _fail_response(self, request_id: str, outcome: Outcome) -> None:
        """A response that has begun cannot be had: in its place goes an error, as if the runtime had told it."""
        if self._core is not None and self._core.allows_response(request_id):
            self._core.call(Route.ERROR, request_id, {}, outcome.document)
            self._report(wire.ERROR, outcome.error_type, outcome.document)

    def call(
        self, connection: ApiConnection, route: Route, request_id: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        core = self._core
        if core is None or self._closed:
            connection.close()
            return
        if route in (Route.TELEMETRY, Route.LOGS):
            connection.answer(self._subscribe(core, headers, body))
            return
        if route is Route.NEXT:
            self._streams.truncated()
        if route is Route.RESPONSE and "lambda-runtime-function-error-type" in headers:
            # Behind a response that streamed: its runtime met an error on the way.
            route, body = Route.ERROR, _decoded(headers.get("lambda-runtime-function-error-body", ""))
        answer, signals = core.call(route, request_id, headers, body)
        if isinstance(answer, Answer):
            connection.answer(answer)
            if answer.status >= 400:
                self.refused()
        elif isinstance(answer, Held):
            self._wait(answer.who, connection)
        for signal in () if self._ending else signals:
            self._signal(signal, body)

    @property
    def tap(self) -> Tap | None:
        return self._deliveries.tell if self._deliveries.wanted else None

    def _tell_inited(self, core: ApiCore) -> None:
        epoch = self._clock.epoch()
        phase = {"initializationType": "on-demand", "phase": "init", "status": "success"}
        self._deliveries.tell("platform.initRuntimeDone", phase, epoch)
        for one in core.extensions.values():
            told = {"name": one.name, "state": "Ready", "events": sorted(one.events)}
            self._deliveries.tell("platform.extension", told, epoch)
        metrics = {"durationMs": round((self._loop.time() - self._since) * 1000, 3)}
        self._deliveries.tell("platform.initReport", {**phase, "metrics": metrics}, epoch)
        self._deliveries.inited()

    def _tell_done(self, status: str, size: int) -> None:
        if not self._deliveries.wanted:
            return
        metrics = {"durationMs": round((self._loop.time() - self._since) * 1000, 3), "producedBytes": size}
        told = {"requestId": self._request_id, "status": status, "metrics": metrics}
        self._deliveries.tell("platform.runtimeDone", told, self._clock.epoch())

    def _subscribe(self, core: ApiCore, headers: Mapping[str, str], body: bytes) -> Answer:
        who, refused = core.extension(headers)
        if refused is not None:
            return refused
        if core.inited:
            return refusal(403, "Telemetry.SubscriptionClosed", "Subscriptions are taken in the init phase only")
        try:
            types = self._deliveries.subscribe(who, body)
        except InvalidSubscription as error:
            return refusal(400, "ValidationError", str(error))
        told = {"name": core.extensions[who].name, "state": "Subscribed", "types": types}
        self._deliveries.tell("platform.telemetrySubscription", told, self._clock.epoch())
        return Answer(200, b"OK", (("Content-Type", "text/plain"),))

    def refused(self) -> None:
        self._refusals += 1
        if self._refusals == _REFUSALS:
            self._owner.guest_ended(True)

    def _wait(self, who: str, connection: ApiConnection) -> None:
        for number, (unserved, headers, body) in enumerate(self._unserved):
            if unserved == who:
                del self._unserved[number]
                connection.event(headers, body)
                return
        self._waiting.setdefault(who, deque()).append(connection)

    def _tell(self, who: str, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        waiting = self._waiting.get(who, ())
        while waiting:
            connection = waiting.popleft()
            if connection.open:
                connection.event(headers, body)
                return
        self._unserved.append((who, headers, body))  # its connection was lost: it will ask again

    def _signal(self, signal: Signal, body: bytes) -> None:
        core = self._core
        assert core is not None
        failure = core.failure
        if signal is Signal.INITED:
            self._refusals = 0
            self._tell_inited(core)
            self._report(wire.READY, "", b"")
            if self._event is not None and core.idle:
                self._hand_out()
        elif signal is Signal.SETTLED:
            self._owner.guest_settled()
        elif signal is Signal.RESPONDED:
            self._tell_done("success", len(body))
            self._report(wire.RESPONSE, "", body)
        elif signal is Signal.ERRED and failure is not None:
            self._tell_done("error", len(body))
            self._report(wire.ERROR, failure.error_type, failure.document)
        elif signal is Signal.INIT_FAILED and failure is not None:
            self._report(wire.INIT_ERROR, failure.error_type, failure.document)
        elif signal is Signal.REGISTERED:
            self._channel.send(wire.pack(wire.START, b""))
        elif signal is Signal.CRASHED and failure is not None:
            self._owner.guest_failed(failure.error_type, "the extension has reported an error")

    def _report(self, kind: int, error_type: str, payload: bytes) -> None:
        used = wire.USAGE.pack(min(self._sandbox.peak_memory_kb(), 0xFFFFFFFF))
        self._owner.guest_frame(kind, used + error_type.encode("utf-8", "replace"), payload)

    def _hand_out(self) -> None:
        event, self._event = self._event, None
        core = self._core
        if event is None or core is None:
            return
        request, deadline, payload = event
        self._since = self._loop.time()
        told = core.offer(request.request_id)
        headers = [
            ("Lambda-Runtime-Aws-Request-Id", request.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline)),
            ("Lambda-Runtime-Invoked-Function-Arn", request.arn),
        ]
        if request.trace:
            headers.append(("Lambda-Runtime-Trace-Id", request.trace))
        if request.client_context:
            headers.append(("Lambda-Runtime-Client-Context", request.client_context))
        if self._identity.tenant_id:
            headers.append(("Lambda-Runtime-Aws-Tenant-Id", self._identity.tenant_id))
        invoked = {
            "eventType": "INVOKE",
            "deadlineMs": deadline,
            "requestId": request.request_id,
            "invokedFunctionArn": request.arn,
        }
        if request.trace:
            invoked["tracing"] = {"type": "X-Amzn-Trace-Id", "value": request.trace}
        for who in told:
            if who == RUNTIME:
                self._tell(who, tuple(headers), payload)
            else:
                self._tell(who, (), json.dumps(invoked).encode())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
