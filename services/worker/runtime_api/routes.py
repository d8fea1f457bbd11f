"""Every call that a runtime or an extension may make, as a table: what is not listed is answered 404.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, runtimes-extensions-api.html and
telemetry-api.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Route(Enum):
    """One call: its verb and its path; `{}` stands for a request id."""

    NEXT = ("GET", "/2018-06-01/runtime/invocation/next")
    RESPONSE = ("POST", "/2018-06-01/runtime/invocation/{}/response")
    ERROR = ("POST", "/2018-06-01/runtime/invocation/{}/error")
    INIT_ERROR = ("POST", "/2018-06-01/runtime/init/error")
    RESTORE_NEXT = ("GET", "/2018-06-01/runtime/restore/next")
    RESTORE_ERROR = ("POST", "/2018-06-01/runtime/restore/error")
    PING = ("GET", "/2018-06-01/ping")
    REGISTER = ("POST", "/2020-01-01/extension/register")
    EVENT_NEXT = ("GET", "/2020-01-01/extension/event/next")
    EXTENSION_INIT_ERROR = ("POST", "/2020-01-01/extension/init/error")
    EXTENSION_EXIT_ERROR = ("POST", "/2020-01-01/extension/exit/error")
    TELEMETRY = ("PUT", "/2022-07-01/telemetry")
    LOGS = ("PUT", "/2020-08-15/logs")


_BEFORE, _, _AFTER = Route.RESPONSE.value[1].partition("{}")
_PLAIN: Mapping[str, Mapping[str, Route]] = {
    route.value[1]: {route.value[0]: route} for route in Route if "{}" not in route.value[1]
}
_OF_INVOCATION: Mapping[str, Route] = {
    route.value[1].rpartition("/")[2]: route for route in (Route.RESPONSE, Route.ERROR)
}


def find(method: str, path: str) -> tuple[Route | None, str, bool]:
    """(route, request id, whether the path is known with another verb)."""
    verbs = _PLAIN.get(path)
    if verbs is not None:
        return verbs.get(method), "", method not in verbs
    if path.startswith(_BEFORE):
        request_id, _, what = path[len(_BEFORE) :].partition("/")
        route = _OF_INVOCATION.get(what)
        if route is not None and request_id:
            return (route, request_id, False) if method == "POST" else (None, "", True)
    return None, "", False
