"""Registries of container images for tests, and images to put there: one in this process, and the distribution
project's own where TEST_REGISTRY names its program."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.conftest import free_port

PROGRAM = os.environ.get("TEST_REGISTRY", "")
# Who is let in where not everybody is.
USER, PASSWORD = "puller", "s3cret"
_BCRYPT = "$2b$05$8esUyYg0N.AT4tcOQ/Iy2ONG4tVvsXCKrb6HP.a8Hpq5PqQo..vAW"  # of PASSWORD
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>blobs|manifests)/(?P<reference>[^/]+)")

# What a layer has: by path, a file's bytes; a link's target after "->"; what is the same as another file after "=="; None:
# a folder. Members for what else there may be.
Files = Mapping[str, bytes | str | tarfile.TarInfo | None]


def layer(files: Files, modes: Mapping[str, int] | None = None, *, compressed: bool = True) -> bytes:
    """A layer's archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(path)
            member.mode = (modes or {}).get(path, 0o755)
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                member.linkname = content[2:]
            elif isinstance(content, bytes):
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(buffer.getvalue(), 1, mtime=0) if compressed else buffer.getvalue()


@dataclass
class Image:
    """An image to put somewhere."""

    layers: Sequence[bytes]
    config: Mapping[str, Any] = field(default_factory=dict)  # Entrypoint, Cmd, WorkingDir, Env
    architecture: str = "amd64"
    system: str = "linux"
    layer_type: str = LAYER
    manifest_type: str = MANIFEST

    def settings(self) -> bytes:
        """Its configuration as a registry has it."""
        document = {"architecture": self.architecture, "os": self.system, "config": dict(self.config)}
        return json.dumps({**document, "rootfs": {"type": "layers", "diff_ids": []}}).encode()

    def manifest(self) -> bytes:
        """Its manifest."""
        layers = [{"mediaType": self.layer_type, **described(data)} for data in self.layers]
        config = {"mediaType": _CONFIG, **described(self.settings())}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": self.manifest_type, "config": config, "layers": layers}
        ).encode()


def described(data: bytes) -> dict[str, Any]:
    """How a manifest names a part."""
    return {"digest": digest_of(data), "size": len(data)}


def digest_of(data: bytes) -> str:
    """As registries have it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One registry, and who writes to it."""

    def __init__(self, port: int, *, login: bool = False, twin: _Twin | None = None) -> None:
        """`twin`: the one in this process; None: a real one."""
        self.host = f"127.0.0.1:{port}"
        self.twin = twin
        self.login = login  # whether USER alone is let in
        self._http = urllib3.PoolManager(retries=10)
        self._headers = urllib3.make_headers(basic_auth=f"{USER}:{PASSWORD}") if login else {}

    def push(self, name: str, image: Image) -> str:
        """Put an image there; answers its digest."""
        for data in (*image.layers, image.settings()):
            self._put_blob(name, data)
        return self.put_manifest(name, image.manifest(), image.manifest_type)

    def put_manifest(self, name: str, document: bytes, media_type: str) -> str:
        """Put a manifest there; answers its digest, hexadecimal."""
        repository, _, tag = name.partition(":")
        reference = tag or digest_of(document)
        self._put(f"/v2/{repository}/manifests/{reference}", document, {"Content-Type": media_type})
        return hashlib.sha256(document).hexdigest()

    def _put_blob(self, name: str, data: bytes) -> None:
        repository = name.partition(":")[0]
        url = f"http://{self.host}/v2/{repository}/blobs/uploads/"
        begun = self._http.request("POST", url, headers=self._headers)
        assert begun.status == 202, begun.data
        place = begun.headers["location"]
        path = place if place.startswith("/") else place.partition(self.host)[2]
        separator = "&" if "?" in path else "?"
        self._put(f"{path}{separator}digest={digest_of(data)}", data, {"Content-Type": "application/octet-stream"})

    def _put(self, path: str, data: bytes, headers: Mapping[str, str]) -> None:
        done = self._http.request("PUT", f"http://{self.host}{path}", body=data, headers={**headers, **self._headers})
        assert done.status == 201, done.data


class _Twin(ThreadingHTTPServer):
    """Keeps what is put there in memory."""

    daemon_threads = True

    def __init__(self, login: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.login = login
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.asked: list[str] = []  # paths, in their order


class _Handler(BaseHTTPRequestHandler):
    server: _Twin
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
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
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


@contextmanager
def twin(*, login: bool = False) -> Iterator[Registry]:
    """The one in this process. It sends blobs from elsewhere, as hosted registries do."""
    server = _Twin(login)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Registry(server.server_address[1], login=login, twin=server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def real(folder: Path, *, login: bool = False) -> Iterator[Registry]:
    """The distribution project's, with its data in a folder."""
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if login:
        (folder / "users").write_text(f"{USER}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "twin", "path": str(folder / "users")}}
    (folder / "config.yml").write_text(json.dumps(config))
    process = subprocess.Popen([PROGRAM, "serve", str(folder / "config.yml")], stderr=subprocess.DEVNULL)
    try:
        urllib3.PoolManager(retries=urllib3.Retry(30, backoff_factor=0.1, backoff_max=0.5)).request(
            "GET", f"http://127.0.0.1:{port}/"
        )
        yield Registry(port, login=login)
    finally:
        process.terminate()
        process.wait(20)
