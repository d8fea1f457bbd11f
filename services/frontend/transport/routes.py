"""Which RPC a method and path of the REST door mean, as google.api.http and MethodRule say.

Paths are split at `/` first and percent-decoded after: an ARN in a path is one segment. A final slash is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from google.api import annotations_pb2

from lambent.v1 import options_pb2
from services.frontend.transport.dispatch import DispatchError, Entry
from services.frontend.transport.restjson import RequestCodec, ResponseCodec

_LAMBDA = "lambda"
_DOTS = frozenset({b".", b".."})
_CACHED_PATH = 512


@dataclass(frozen=True, slots=True)
class Route:
    """One RPC on the REST door."""

    verb: str
    template: str
    entry: Entry
    request: RequestCodec
    response: ResponseCodec
    required_query: frozenset[tuple[str, str]]
    takes_payload: bool  # the body is the payload itself, as Invoke's
    signing_name: str  # the service that requests are signed for
    internal_error: str  # what that calls a failure of its own; empty: as Lambda does


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    routes: dict[str, list[Route]] = field(default_factory=dict)  # by HTTP method; required_query first


@dataclass(frozen=True, slots=True)
class Match:
    """What a path leads to."""

    routes: dict[str, list[Route]]
    variables: tuple[str, ...]

    def choose(self, method: str, raw_query: bytes) -> Route | None:
        """The route of this method and query. None: the path is known, the method is not."""
        routes = self.routes.get(method)
        if routes is None:
            return None
        if len(routes) == 1 and not routes[0].required_query:
            return routes[0]
        query = set(parse_qsl(raw_query.decode("latin-1"), keep_blank_values=True))
        return next((route for route in routes if route.required_query <= query), None)


class RouteTable:
    """All routes. Entries without google.api.http are served over gRPC only."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Raises DispatchError when two RPCs have one method, path and required query."""
        self._root = _Node()
        self.routes: list[Route] = []
        for entry in entries:
            http = entry.method.GetOptions().Extensions[annotations_pb2.http]
            verb = http.WhichOneof("pattern")
            if verb is None:
                continue
            self._add(entry, verb.upper(), getattr(http, verb))
        self._cached: Callable[[bytes], Match | None] = lru_cache(maxsize=4096)(self._walk)

    def _add(self, entry: Entry, verb: str, template: str) -> None:
        node = self._root
        variables: list[str] = []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                variables.append(segment[1:-1])
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment.encode(), _Node())
        request = RequestCodec(entry.request_class, variables)
        service = entry.method.containing_service.GetOptions().Extensions[options_pb2.service]
        route = Route(
            verb=verb,
            template=template,
            entry=entry,
            request=request,
            response=ResponseCodec(entry.response_class, entry.rule.success),
            required_query=frozenset(entry.rule.required_query.items()),
            takes_payload=request.takes_payload,
            signing_name=service.signing_name or _LAMBDA,
            internal_error=service.internal_error,
        )
        siblings = node.routes.setdefault(verb, [])
        for other in siblings:
            if other.required_query == route.required_query:
                raise DispatchError(f"{entry.full_name} and {other.entry.full_name} are both {verb} {template}")
        siblings.append(route)
        siblings.sort(key=lambda each: -len(each.required_query))
        self.routes.append(route)

    def find(self, raw_path: bytes) -> Match | None:
        """Where a path leads. None: nowhere."""
        # Functions are few and invoked often: the walk is done once for each path.
        return self._cached(raw_path) if len(raw_path) <= _CACHED_PATH else self._walk(raw_path)

    def _walk(self, raw_path: bytes) -> Match | None:
        if raw_path[-1:] == b"/":
            raw_path = raw_path[:-1]
        node: _Node | None = self._root
        variables: list[str] = []
        for segment in raw_path[1:].split(b"/"):
            assert node is not None
            literal = node.literals.get(segment)
            if literal is not None:
                node = literal
                continue
            # Signatures are made over paths without dot segments: one that has them is not what was signed.
            if node.variable is None or not segment or segment in _DOTS:
                return None
            node = node.variable
            variables.append(_decode(segment))
        return Match(node.routes, tuple(variables)) if node is not None and node.routes else None


def _decode(segment: bytes) -> str:
    # Bytes that are no UTF-8 become surrogates, which no message takes: the codec answers SerializationException.
    raw: Any = unquote_to_bytes(segment) if b"%" in segment else segment
    return bytes(raw).decode("utf-8", "surrogateescape")
