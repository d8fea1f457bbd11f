"""What the Runtime API and the Extensions API answer, and what that means for the environment. Pure.

One `ApiCore` is one life of an environment's processes, from their start to their end. Calls come in parsed; what goes
out is an answer, or `Held` where the caller waits for an event, and signals for the environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from services.worker.runtime_api.routes import Route

EVENTS = ("INVOKE", "SHUTDOWN")
MOST_EXTENSIONS = 10
RUNTIME = "runtime"  # who waits, where it is no extension's identifier
_TYPE_BYTES = 256  # of an error type that is kept


class Runtime(Enum):
    """Where the runtime is."""

    STARTED = auto()  # its process runs, it has asked for nothing yet
    POLLING = auto()  # it waits for an event
    RUNNING = auto()  # it has one
    RESPONDED = auto()  # it has answered, and not asked for the next
    FAILED = auto()  # it has told that it cannot start


# (state, call) → next state; a call that is not listed is InvalidStateTransition.
_RUNTIME: Mapping[tuple[Runtime, Route], Runtime] = {
    (Runtime.STARTED, Route.NEXT): Runtime.POLLING,
    (Runtime.STARTED, Route.INIT_ERROR): Runtime.FAILED,
    (Runtime.POLLING, Route.NEXT): Runtime.POLLING,  # its connection was lost
    (Runtime.RUNNING, Route.RESPONSE): Runtime.RESPONDED,
    (Runtime.RUNNING, Route.ERROR): Runtime.RESPONDED,
    (Runtime.RESPONDED, Route.NEXT): Runtime.POLLING,
}


@dataclass(slots=True)
class Extension:
    """One registered extension."""

    name: str
    events: frozenset[str]
    external: bool  # a program of its own, from /opt/extensions
    polling: bool = False
    failed: bool = False


class Signal(Enum):
    """What a call means for the environment."""

    INITED = auto()  # the runtime and every extension have asked for their first event
    INIT_FAILED = auto()
    RESPONDED = auto()
    ERRED = auto()
    SETTLED = auto()  # after an answer, the runtime and every extension have asked for their next event
    REGISTERED = auto()  # every external extension has registered: the runtime may start
    CRASHED = auto()  # an extension cannot go on


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """The caller waits: for whom (RUNTIME or an extension's identifier)."""

    who: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What extensions are told of the function."""

    function_name: str
    version: str
    handler: str
    account: str
    tenant_id: str = ""  # the one that its environment is for; empty: there is none


@dataclass(slots=True)
class Failure:
    """What a runtime or an extension said went wrong."""

    error_type: str
    document: bytes = field(default=b"")


OK = Answer(202, b'{"status":"OK"}\n')


def refusal(status: int, kind: str, message: str) -> Answer:
    """An error as AWS's API tells it."""
    return Answer(status, json.dumps({"errorMessage": message, "errorType": kind}).encode())


INVALID_TRANSITION = refusal(403, "InvalidStateTransition", "State transition is not allowed")


def error_type(header: str, document: bytes) -> str:
    """The type of an error: what its document says, else the header, else that it is not known."""
    try:
        named = json.loads(document).get("errorType")
    except (ValueError, AttributeError, RecursionError):
        named = None
    found = named if isinstance(named, str) and named else header
    return found[:_TYPE_BYTES] or "Runtime.Unknown"


class ApiCore:
    """One environment's side of both APIs."""

    def __init__(self, identity: Identity, external: Collection[str], new_id: Callable[[], str]) -> None:
        """`external`: names of the programs in /opt/extensions; `new_id` makes the identifiers of extensions."""
        self._identity = identity
        self._new_id = new_id
        self._awaited = set(external)  # external extensions that have not registered
        self._names = frozenset(external)
        self.runtime = Runtime.STARTED
        self.request_id = ""  # of the invocation that runs, or ran last
        self.inited = False
        self.extensions: dict[str, Extension] = {}
        self.failure: Failure | None = None  # what INIT_FAILED, ERRED or CRASHED is about

    # What the environment does

    @property
    def idle(self) -> bool:
        """Whether everybody waits for an event."""
        return self.runtime is Runtime.POLLING and all(one.polling or one.failed for one in self.extensions.values())

    def offer(self, request_id: str) -> list[str]:
        """An invocation begins, while everybody waits; answers who is told, the runtime first."""
        self.runtime = Runtime.RUNNING
        self.request_id = request_id
        told = [who for who, one in self.extensions.items() if "INVOKE" in one.events]
        for who in told:
            self.extensions[who].polling = False
        return [RUNTIME, *told]

    def shutdown(self) -> list[str]:
        """The environment ends; answers which extensions are told of it."""
        return [who for who, one in self.extensions.items() if "SHUTDOWN" in one.events and not one.failed]

    # What runtimes call

    def call(
        self, route: Route, request_id: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Answer | Held, tuple[Signal, ...]]:
        """A call with its whole body. `headers`: lower-case names."""
        if route is Route.PING:
            return Answer(200, b"pong", (("Content-Type", "text/plain"),)), ()
        if route is Route.REGISTER:
            return self._register(headers, body)
        if route in (Route.EVENT_NEXT, Route.EXTENSION_INIT_ERROR, Route.EXTENSION_EXIT_ERROR):
            return self._of_extension(route, headers, body)
        if route in (Route.RESPONSE, Route.ERROR) and request_id != self.request_id:
            return refusal(400, "InvalidRequestID", "Invalid request ID"), ()
        if (state := _RUNTIME.get((self.runtime, route))) is None:
            return INVALID_TRANSITION, ()
        before, self.runtime = self.runtime, state
        if route is Route.NEXT:
            return Held(RUNTIME), self._asked(before is Runtime.POLLING)
        if route is Route.RESPONSE:
            return OK, (Signal.RESPONDED,)
        header = headers.get("lambda-runtime-function-error-type", "")
        self.failure = Failure(error_type(header, body), body)
        return OK, (Signal.ERRED if route is Route.ERROR else Signal.INIT_FAILED,)

    def allows_response(self, request_id: str) -> bool:
        """Whether a response to this request may begin now."""
        return self.runtime is Runtime.RUNNING and request_id == self.request_id

    def _asked(self, again: bool) -> tuple[Signal, ...]:
        """Somebody has asked for an event: perhaps the last of all. `again`: the connection was lost meanwhile."""
        if again or not self.idle or self._awaited:
            return ()
        if self.inited:
            return (Signal.SETTLED,)
        self.inited = True
        return (Signal.INITED,)

    # What extensions call

    def _register(self, headers: Mapping[str, str], body: bytes) -> tuple[Answer, tuple[Signal, ...]]:
        name = headers.get("lambda-extension-name", "")
        refused = self._unregistrable(name)
        if refused is not None:
            return refused, ()
        try:
            wanted: Any = json.loads(body)["events"] if body else []
            events = frozenset(wanted)
            if not isinstance(wanted, list):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            return refusal(400, "InvalidRequestFormat", "Request body must be a JSON object with a list of events"), ()
        external = name in self._names
        for event in sorted(map(str, events - frozenset(EVENTS))):
            return refusal(400, "Extension.InvalidEventType", f"Invalid event type: {event}"), ()
        if "SHUTDOWN" in events and not external:
            text = "SHUTDOWN event is not supported for internal extensions"
            return refusal(403, "ShutdownEventNotSupportedForInternalExtension", text), ()
        who = self._new_id()
        self.extensions[who] = Extension(name, events, external)
        waited = bool(self._awaited)
        self._awaited.discard(name)
        told: dict[str, str] = {
            "functionName": self._identity.function_name,
            "functionVersion": self._identity.version,
            "handler": self._identity.handler,
        }
        if "accountid" in headers.get("lambda-extension-accept-feature", "").lower():
            told["accountId"] = self._identity.account
        answer = Answer(200, json.dumps(told).encode(), (("Lambda-Extension-Identifier", who),))
        return answer, (Signal.REGISTERED,) if waited and not self._awaited else ()

    def _unregistrable(self, name: str) -> Answer | None:
        if not name:
            return refusal(403, "Extension.InvalidExtensionName", "Empty extension name")
        if any(one.name == name for one in self.extensions.values()):
            text = f"Extension {name} has already registered"
            return refusal(403, "Extension.InvalidExtensionState", text)
        if self.inited or (self.runtime is not Runtime.STARTED):
            return refusal(403, "Extension.RegistrationClosed", "Extension registration closed already")
        if len(self.extensions) >= MOST_EXTENSIONS:
            text = f"Extension limit ({MOST_EXTENSIONS}) reached"
            return refusal(403, "Extension.TooManyExtensions", text)
        return None

    def extension(self, headers: Mapping[str, str]) -> tuple[str, Answer | None]:
        """The identifier of the extension that calls, or why it is not known."""
        who = headers.get("lambda-extension-identifier", "")
        if not who:
            return "", refusal(403, "Extension.MissingHeader", "Missing Lambda-Extension-Identifier header")
        if who not in self.extensions:
            return "", refusal(403, "Extension.UnknownExtensionIdentifier", f"Unknown extension {who}")
        return who, None

    def _of_extension(
        self, route: Route, headers: Mapping[str, str], body: bytes
    ) -> tuple[Answer | Held, tuple[Signal, ...]]:
        who, refused = self.extension(headers)
        if refused is not None:
            return refused, ()
        extension = self.extensions[who]
        if extension.failed:
            text = f"Extension {extension.name} has reported that it cannot go on"
            return refusal(403, "Extension.InvalidExtensionState", text), ()
        if route is Route.EVENT_NEXT:
            before, extension.polling = extension.polling, True
            return Held(who), self._asked(before)
        kind = headers.get("lambda-extension-function-error-type", "")
        if not kind:
            return refusal(403, "Extension.MissingHeader", "Missing Lambda-Extension-Function-Error-Type header"), ()
        extension.failed = True
        self.failure = Failure(kind[:_TYPE_BYTES])
        return OK, (Signal.CRASHED,)

    def extension_ended(self, name: str) -> bool:
        """An external extension's process has ended by itself; whether the environment cannot go on without it."""
        for one in self.extensions.values():
            if one.name == name and one.external:
                gone, one.failed = not one.failed, True
                return gone
        return name in self._awaited
