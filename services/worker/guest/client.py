"""The Python runtime of our own where a launcher starts it: it then asks the Runtime API, as any other runtime does.

The native channel is faster, but only the Runtime API knows of extensions.
"""

from __future__ import annotations

import http.client
import importlib
import json
from typing import Any, Dict, Mapping, Tuple

wire: Any = importlib.import_module("_lambent_wire")
runtime: Any = importlib.import_module("_lambent_runtime")

_BASE = "/2018-06-01/runtime"
_POSTS = {wire.RESPONSE: "response", wire.ERROR: "error"}


def _printable(kind: bytes) -> str:
    """The type of an error as a header may have it, since classes may have any name."""
    return "".join(chr(byte) if 32 < byte < 127 else "?" for byte in kind)


class Server(runtime.Server):  # type: ignore[misc]
    """One function in one process, over HTTP."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.api = http.client.HTTPConnection(address)

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}
    ) -> Tuple[int, Dict[str, str], bytes]:
        self.api.request(method, _BASE + path, body or None, dict(headers))
        answer = self.api.getresponse()
        data = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, data

    def post(self, kind: int, extra: bytes, payload: bytes) -> None:
        if kind == wire.READY:
            return  # the first request for an event says so
        headers = {"Content-Type": "application/json"}
        if kind != wire.RESPONSE:
            headers["Lambda-Runtime-Function-Error-Type"] = _printable(extra)
        path = "/init/error" if kind == wire.INIT_ERROR else "/invocation/%s/%s" % (self.request_id, _POSTS[kind])
        self.call("POST", path, payload, headers)

    def run_task(self, task: Dict[str, Any]) -> int:
        if not self.init(task):
            return 1
        while True:
            _, headers, event = self.call("GET", "/invocation/next")
            client = headers.get("lambda-runtime-client-context")
            if client is not None:
                client = client.encode("latin-1").decode("utf-8", "replace")  # http.client takes headers for Latin-1
            self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
            meta = [
                headers["lambda-runtime-aws-request-id"],
                int(headers["lambda-runtime-deadline-ms"]),
                headers["lambda-runtime-invoked-function-arn"],
                headers.get("lambda-runtime-trace-id", ""),
                client,
            ]
            self.invoke(json.dumps(meta).encode(), event)


def serve(task: Dict[str, Any]) -> int:
    """Serve until the process ends; answers the exit status."""
    server = Server(task["environ"]["AWS_LAMBDA_RUNTIME_API"])
    code: int = runtime.ended(lambda: server.run_task(task))
    return code
