"""Registries of container images for tests, and images to put there: one in this process, and the distribution
project's own where TEST_REGISTRY names its program."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from tests.conftest import free_port
from tests.registry_twin import PASSWORD, USER, Twin, digest_of

__all__ = ["PASSWORD", "USER"]

PROGRAM = os.environ.get("TEST_REGISTRY", "")
_BCRYPT = "$2b$05$8esUyYg0N.AT4tcOQ/Iy2ONG4tVvsXCKrb6HP.a8Hpq5PqQo..vAW"  # of PASSWORD
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"

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


def index(images: Mapping[str, Image]) -> bytes:
    """One for several kinds of processors, by their names, with what builders put beside them."""
    entries = [
        {"mediaType": MANIFEST, "platform": {"os": "linux", "architecture": name}, **described(image.manifest())}
        for name, image in images.items()
    ]
    provenance = {"mediaType": MANIFEST, "platform": {"os": "unknown", "architecture": "unknown"}}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, {**entries[0], **provenance}]}
    return json.dumps(document).encode()


def described(data: bytes) -> dict[str, Any]:
    """How a manifest names a part."""
    return {"digest": digest_of(data), "size": len(data)}


class Registry:
    """One registry, and who writes to it."""

    def __init__(self, port: int, *, login: bool = False, twin: Twin | None = None, name: str = "") -> None:
        """`login`: USER alone may write, too. `twin`: the one in this process; None: another. `name`: how others reach it; empty: as here."""
        self._here = f"127.0.0.1:{port}"
        self.host = name or self._here
        self.twin = twin
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
        url = f"http://{self._here}/v2/{repository}/blobs/uploads/"
        begun = self._http.request("POST", url, headers=self._headers)
        assert begun.status == 202, begun.data
        place = begun.headers["location"]
        path = place if place.startswith("/") else place.partition(self._here)[2]
        separator = "&" if "?" in path else "?"
        self._put(f"{path}{separator}digest={digest_of(data)}", data, {"Content-Type": "application/octet-stream"})

    def _put(self, path: str, data: bytes, headers: Mapping[str, str]) -> None:
        done = self._http.request("PUT", f"http://{self._here}{path}", body=data, headers={**headers, **self._headers})
        assert done.status == 201, done.data


@contextmanager
def twin(login: str = "") -> Iterator[Registry]:
    """The one in this process. `login`: who alone may read, USER:PASSWORD; empty: everybody."""
    server = Twin("127.0.0.1", 0, login)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Registry(server.server_address[1], twin=server)
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
