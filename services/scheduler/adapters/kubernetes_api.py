"""The Kubernetes API as the scheduler's adapters use it: JSON over the official client, in threads of its own.

The client blocks, so its calls run in a few threads that belong to this object; nothing here waits longer than it says.
Objects are plain dictionaries: the few members that are looked at are read where they are looked at.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from lambent.infra.kubernetes_access import api_client
from lambent.infra.kubernetes_secrets import ClusterUnreachable

__all__ = ["ApiAway", "ApiRefused", "ClusterUnreachable", "KubernetesApi", "Object", "connect"]

Object = dict[str, Any]  # as the API has it, in JSON

# A call that hangs occupies one of these until its time is over.
_THREADS = 4
# How much longer than it was asked to last a watch may be silent before it counts as broken: seconds.
_WATCH_GRACE_SECONDS = 5.0


class ApiRefused(Exception):
    """The API answered with an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`status`: HTTP's. `reason`: the API's word for it, as AlreadyExists. `message`: in words."""
        super().__init__(message or reason or str(status))
        self.status = status
        self.reason = reason


class ApiAway(Exception):
    """The API did not answer in time, or its answer makes no sense."""


class KubernetesApi:
    """Calls within one namespace."""

    def __init__(self, made: client.ApiClient, namespace: str, seconds: float) -> None:
        """`made`: from `lambent.infra.kubernetes_access`. `seconds`: how long an answer may take."""
        settings = made.configuration
        # The library would try three times more, each as long as the first.
        settings.retries = False
        self._client = client.ApiClient(settings)
        self.namespace = namespace
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(_THREADS, "kubernetes")

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """Read an object or a list. `path`: after /namespaces/NAME/, with the API group before it, as in
        "api/v1 pods/NAME"."""
        return await self._call("GET", path, query, None)

    async def create(self, path: str, body: Object) -> Object:
        """Make an object."""
        return await self._call("POST", path, None, body)

    async def replace(self, path: str, body: Object) -> Object:
        """Write an object, if it still has the body's resourceVersion; else ApiRefused with status 409."""
        return await self._call("PUT", path, None, body)

    async def delete(self, path: str, body: Object | None = None) -> Object:
        """Delete an object. `body`: DeleteOptions."""
        return await self._call("DELETE", path, None, body)

    async def _call(self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None) -> Object:
        work = partial(self._blocking, method, path, query, body)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise ApiAway(f"the Kubernetes API did not answer within {self._seconds:g} s") from None

    def _blocking(self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None) -> Object:
        response = self._send(method, path, query, body, self._seconds)
        try:
            answer = json.loads(response.data)
        except (ValueError, HTTPError) as error:
            raise ApiAway(f"the Kubernetes API's answer makes no sense: {error}") from error
        if not isinstance(answer, dict):
            raise ApiAway("the Kubernetes API's answer makes no sense")
        return answer

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None, seconds: float
    ) -> Any:
        """The response, whose body may not be there yet. `seconds`: for the connection, and for each read."""
        group, _, rest = path.partition(" ")
        try:
            return self._client.call_api(
                f"/{group}/namespaces/{self.namespace}/{rest}",
                method,
                query_params=dict(query or {}),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(self._seconds, seconds),
            )
        except ApiException as error:
            raise _refused(error) from error
        except (HTTPError, OSError) as error:
            raise ApiAway(f"the Kubernetes API cannot be reached: {str(error).splitlines()[0]}") from error

    async def watch(self, path: str, query: Mapping[str, str], seconds: int) -> AsyncIterator[Object]:
        """The events of a list from `resourceVersion` on, for so many seconds: {"type": ..., "object": ...}.

        Raises ApiRefused (status 410: that version is too old; also as an event of type ERROR) and ApiAway.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Object | Exception | None] = asyncio.Queue()
        opened: list[Any] = []
        asked = {**query, "watch": "true", "timeoutSeconds": str(seconds)}

        def put(item: Object | Exception | None) -> None:
            # The loop may have ended before the thread.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(events.put_nowait, item)

        def read() -> None:
            try:
                response = self._send("GET", path, asked, None, seconds + _WATCH_GRACE_SECONDS)
                opened.append(response)
                for line in _lines(response):
                    put(json.loads(line))
                put(None)
            except (ApiRefused, ApiAway) as error:
                put(error)
            except (HTTPError, OSError, ValueError, AttributeError) as error:
                # AttributeError: a TLS connection that was shut down under its reader.
                put(ApiAway(f"the watch broke: {error}"))

        thread = threading.Thread(target=read, name="kubernetes-watch", daemon=True)
        thread.start()
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            for response in opened:
                with suppress(OSError, RuntimeError, ValueError):
                    response.shutdown()

    def close(self) -> None:
        """Take no more calls; those that are out end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def connect(namespace: str, seconds: float) -> KubernetesApi:
    """As this process reaches its cluster. `namespace`: empty for that of its pod or its kubeconfig. Raises
    ClusterUnreachable."""
    made, here = api_client()
    return KubernetesApi(made, namespace or here, seconds)


def _lines(response: Any) -> Any:
    rest = b""
    for chunk in response.stream(amt=None, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
    if rest.strip():
        yield rest


def _refused(error: ApiException) -> ApiRefused:
    try:
        said = json.loads(error.body)
        return ApiRefused(error.status, str(said.get("reason", "")), str(said.get("message", "")))
    except (TypeError, ValueError, AttributeError):
        return ApiRefused(error.status or 0, str(error.reason), "")
