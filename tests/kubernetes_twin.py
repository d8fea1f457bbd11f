"""A Kubernetes API server in this process, for leases, pods and config maps: what the adapters are tried against where
there is no cluster. It keeps resourceVersions, refuses writes on old ones, watches with bookmarks, and forgets history.

`namespace()` is its twin: a namespace of the cluster that KUBECONFIG reaches.
"""

from __future__ import annotations

import json
import os
import queue
import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from lambent.infra.kubernetes_access import api_client
from services.scheduler.adapters.kubernetes_api import KubernetesApi

Object = dict[str, Any]
_PATH = re.compile(r"/(?:api|apis/[^/]+)/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?$")


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def body(self) -> Object:
        return {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.status, "reason": self.reason,
            "message": self.message,
        }  # fmt: skip


@dataclass
class Watcher:
    """One watch that is open."""

    kind: str
    labels: dict[str, str]
    bookmarks: bool
    events: queue.Queue[Object | None] = field(default_factory=queue.Queue)


class KubernetesTwin:
    """The server. `with KubernetesTwin() as twin: twin.api(...)`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._version = 100
        self._oldest = 0  # history before it is forgotten
        self._objects: dict[tuple[str, str], Object] = {}
        self._history: list[tuple[int, str, str, Object]] = []  # version, kind, type of event, object
        self._watchers: list[Watcher] = []
        self.away = False  # connections are closed without an answer
        self.hanging = threading.Event()
        self.hanging.set()  # cleared: answers wait
        self.refuse: Refusal | None = None  # whatever is asked
        self.quota: int | None = None  # most pods
        self.calls: list[tuple[str, str]] = []  # method and path, in order
        twin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer is one packet

            def do_GET(self) -> None:
                twin.serve(self)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> KubernetesTwin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hanging.set()
        self.break_watches()
        self._server.shutdown()
        self._server.server_close()

    def api(self, seconds: float = 2.0) -> KubernetesApi:
        """A client of it."""
        settings = client.Configuration()
        settings.host = f"http://127.0.0.1:{self._server.server_address[1]}"
        return KubernetesApi(client.ApiClient(settings), "test", seconds)

    def kubeconfig(self) -> str:
        """A kubeconfig that names it."""
        server = f"http://127.0.0.1:{self._server.server_address[1]}"
        return json.dumps(
            {
                "current-context": "twin",
                "contexts": [{"name": "twin", "context": {"cluster": "twin", "user": "me", "namespace": "test"}}],
                "clusters": [{"name": "twin", "cluster": {"server": server}}],
                "users": [{"name": "me", "user": {"token": "t"}}],
            }
        )

    # What tests do behind the API's back

    def pods(self) -> dict[str, Object]:
        """Those that there are, by name."""
        with self._lock:
            return {name: pod for (kind, name), pod in self._objects.items() if kind == "pods"}

    def update(self, kind: str, name: str, **members: Any) -> None:
        """Change members of an object, as a controller or the kubelet would."""
        with self._lock:
            changed = {**self._objects[kind, name], **members}
            self._store(kind, "MODIFIED", changed)

    def remove(self, kind: str, name: str) -> None:
        """An object is no more."""
        with self._lock:
            gone = self._objects.pop((kind, name))
            self._store(kind, "DELETED", gone)

    def forget_history(self) -> None:
        """What was before this is too old to watch from."""
        with self._lock:
            self._version += 1
            self._oldest = self._version

    def break_watches(self) -> None:
        """Every watch ends."""
        with self._lock:
            for watcher in self._watchers:
                watcher.events.put(None)

    # The server

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else {}
        parts = urlsplit(handler.path)
        self.hanging.wait()
        if self.away:
            handler.close_connection = True
            return
        with self._lock:
            self.calls.append((handler.command, parts.path))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            if self.refuse is not None:
                raise self.refuse
            matched = _PATH.match(parts.path)
            if matched is None:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            kind, name = matched["kind"], matched["name"] or ""
            if query.get("watch") == "true":
                self._watch(handler, kind, query)
                return
            with self._lock:
                answer, status = self._answer(handler.command, kind, name, query, body)
        except Refusal as error:
            answer, status = error.body(), error.status
        _write(handler, status, answer)

    def _answer(self, method: str, kind: str, name: str, query: dict[str, str], body: Object) -> tuple[Object, int]:
        match method:
            case "GET" if not name:
                labels = _labels(query)
                items = [o for (k, _), o in sorted(self._objects.items()) if k == kind and _carries(o, labels)]
                return {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}, 200
            case "GET":
                return self._find(kind, name), 200
            case "POST":
                return self._create(kind, body), 201
            case "PUT":
                return self._replace(kind, name, body), 200
            case "DELETE":
                return self._delete(kind, name, body), 200
        raise Refusal(405, "MethodNotAllowed", "no")

    def _find(self, kind: str, name: str) -> Object:
        found = self._objects.get((kind, name))
        if found is None:
            raise Refusal(404, "NotFound", f'{kind} "{name}" not found')
        return found

    def _create(self, kind: str, body: Object) -> Object:
        metadata = dict(body["metadata"])
        name = metadata.setdefault("name", f"{metadata.get('generateName', '')}{secrets.token_hex(3)}")
        if (kind, name) in self._objects:
            raise Refusal(409, "AlreadyExists", f'{kind} "{name}" already exists')
        if kind == "pods" and self.quota is not None and len(self.pods()) >= self.quota:
            raise Refusal(
                403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: small, limited: pods={self.quota}'
            )
        metadata |= {"uid": secrets.token_hex(8), "creationTimestamp": _now()}
        made = {**body, "metadata": metadata}
        if kind == "pods":
            made.setdefault("status", {"phase": "Pending"})
        return self._store(kind, "ADDED", made)

    def _replace(self, kind: str, name: str, body: Object) -> Object:
        found = self._find(kind, name)
        if body["metadata"].get("resourceVersion") not in (None, found["metadata"]["resourceVersion"]):
            raise Refusal(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        return self._store(kind, "MODIFIED", body)

    def _delete(self, kind: str, name: str, body: Object) -> Object:
        found = self._find(kind, name)
        if kind != "pods" or body.get("gracePeriodSeconds") == 0:
            self.remove(kind, name)
            return found
        # The kubelet ends it; here the test says when that is done.
        grace = body.get("gracePeriodSeconds", 30)
        metadata = {**found["metadata"], "deletionTimestamp": _now(), "deletionGracePeriodSeconds": grace}
        return self._store(kind, "MODIFIED", {**found, "metadata": metadata})

    def _store(self, kind: str, event: str, changed: Object) -> Object:
        self._version += 1
        kept = {**changed, "metadata": {**changed["metadata"], "resourceVersion": str(self._version)}}
        if event != "DELETED":
            self._objects[kind, kept["metadata"]["name"]] = kept
        self._history.append((self._version, kind, event, kept))
        for watcher in self._watchers:
            if watcher.kind == kind and _carries(kept, watcher.labels):
                watcher.events.put({"type": event, "object": kept})
        return kept

    def _watch(self, handler: BaseHTTPRequestHandler, kind: str, query: dict[str, str]) -> None:
        since = int(query.get("resourceVersion") or 0)
        watcher = Watcher(kind, _labels(query), query.get("allowWatchBookmarks") == "true")
        with self._lock:
            if since < self._oldest:
                gone = Refusal(410, "Expired", "too old resource version")
                watcher.events.put({"type": "ERROR", "object": gone.body()})
                watcher.events.put(None)
            else:
                for version, what, event, found in self._history:
                    if version > since and what == kind and _carries(found, watcher.labels):
                        watcher.events.put({"type": event, "object": found})
                self._watchers.append(watcher)
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            handler.wfile.flush()
            while (news := self._next(watcher)) is not None:
                line = json.dumps(news).encode() + b"\n"
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                handler.wfile.flush()
            handler.wfile.write(b"0\r\n\r\n")
            handler.wfile.flush()
        except OSError:
            pass  # the client hung up
        finally:
            handler.close_connection = True
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

    def _next(self, watcher: Watcher) -> Object | None:
        try:
            return watcher.events.get(timeout=0.2)
        except queue.Empty:
            if self.away:
                return None
            with self._lock:
                version = str(self._version)
            bookmark = {"kind": "Pod", "metadata": {"resourceVersion": version}}
            return {"type": "BOOKMARK", "object": bookmark}


def _write(handler: BaseHTTPRequestHandler, status: int, answer: Object) -> None:
    body = json.dumps(answer).encode()
    try:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()
    except OSError:
        handler.close_connection = True


def _labels(query: dict[str, str]) -> dict[str, str]:
    text = query.get("labelSelector", "")
    return dict(part.split("=", 1) for part in text.split(",") if part)


def _carries(found: Object, labels: dict[str, str]) -> bool:
    return labels.items() <= (found["metadata"].get("labels") or {}).items()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def real_cluster() -> str:
    """Why there is none to be tried; empty: KUBECONFIG reaches one."""
    return "" if os.environ.get("KUBECONFIG") else "KUBECONFIG names no cluster"


@contextmanager
def namespace() -> Iterator[KubernetesApi]:
    """A namespace of its own in the real cluster."""
    made, _ = api_client()
    core = client.CoreV1Api(made)
    name = f"lambent-test-{secrets.token_hex(3)}"
    core.create_namespace({"metadata": {"name": name}})
    api = KubernetesApi(made, name, 5.0)
    try:
        yield api
    finally:
        api.close()
        core.delete_namespace(name)
