"""A registry of container images that keeps what is put there in memory: `python registry_twin.py HOST PORT`.

It sends blobs from elsewhere, as hosted registries do. The standard library's alone, so that it runs anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# Who is let in where not everybody is.
USER, PASSWORD = "puller", "s3cret"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>blobs|manifests)/(?P<reference>[^/]+)")


def digest_of(data: bytes) -> str:
    """As registries have it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Twin(ThreadingHTTPServer):
    """Keeps what is put there in memory."""

    daemon_threads = True

    def __init__(self, host: str, port: int, login: str = "") -> None:
        """`login`: who alone may read, USER:PASSWORD; empty: everybody."""
        super().__init__((host, port), _Handler)
        self.login = login
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.asked: list[str] = []  # paths, in their order


class _Handler(BaseHTTPRequestHandler):
    server: Twin
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self._answer(202, headers={"Location": self.path + "one"} if self._let_in("push") else {})

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        path = urlsplit(self.path)
        digest = parse_qs(path.query).get("digest")
        if digest:
            assert digest == [digest_of(data)]
            self.server.blobs[digest[0]] = data
        else:
            found = _PATH.fullmatch(path.path)
            assert found is not None
            for reference in {found["reference"], digest_of(data)}:
                self.server.manifests[found["name"], reference] = (self.headers["content-type"], data)
        self._answer(201)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = urlsplit(self.path)
        if path.path == "/token":
            self._token(parse_qs(path.query)["scope"][0])
            return
        if path.path.startswith("/elsewhere/"):
            # As where blobs are kept: who sends credentials of the registry along is refused.
            refused = "authorization" in self.headers
            self._answer(*((400,) if refused else (200, self.server.blobs[path.path[11:]])))
            return
        found = _PATH.fullmatch(path.path)
        if found is None or not self._let_in("pull"):
            return
        if found["kind"] == "blobs":
            known = found["reference"] in self.server.blobs
            host = self.headers["host"].replace("127.0.0.1", "localhost")
            self._answer(307 if known else 404, headers={"Location": f"http://{host}/elsewhere/{found['reference']}"})
            return
        kind, data = self.server.manifests.get((found["name"], found["reference"]), ("", b""))
        self._answer(200 if data else 404, data, {"Content-Type": kind})

    def _token(self, scope: str) -> None:
        known = f"Basic {base64.b64encode(self.server.login.encode()).decode()}"
        if self.headers.get("authorization") == known:
            self._answer(200, json.dumps({"token": f"for {scope}".replace(" ", "-")}).encode())
        else:
            self._answer(401)

    def _let_in(self, what: str) -> bool:
        if not self.server.login or what == "push":
            return True
        name = _PATH.fullmatch(self.path)["name"]  # type: ignore[index]
        scope = f"repository:{name}:pull"
        if self.headers.get("authorization") == f"Bearer for-{scope}":
            return True
        realm = f'Bearer realm="http://{self.headers["host"]}/token",service="twin",scope="{scope}"'
        self._answer(401, headers={"WWW-Authenticate": realm})
        return False

    def _answer(self, status: int, data: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    Twin(sys.argv[1], int(sys.argv[2])).serve_forever()
