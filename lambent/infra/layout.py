"""Where things are below the data folder, and the keys that are made there at the first start."""

from __future__ import annotations

import hashlib
import os
import secrets as random_source
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lambent.infra.secrets import load_or_make_key

# Longest path that a Unix socket may have on Linux is 107 bytes; ours add at most 30 to the folder.
LONGEST_RUN_FOLDER = 75


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one cluster on this machine."""

    data: Path

    @property
    def redis(self) -> Path:
        """The embedded server's files."""
        return self.data / "redis"

    @property
    def code(self) -> Path:
        """Packages."""
        return self.data / "code"

    @property
    def logs(self) -> Path:
        """What functions wrote."""
        return self.data / "logs"

    @property
    def keys(self) -> Path:
        """Keys and credentials; only the cluster's user reads them."""
        return self.data / "keys"

    @property
    def run(self) -> Path:
        """Sockets and what lasts only as long as the processes. Elsewhere if the data folder's path is too long."""
        if len(str(self.data)) <= LONGEST_RUN_FOLDER - 4:
            return self.data / "run"
        name = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"lambent-{os.getuid()}-{name}"

    def scheduler_addresses(self, schedulers: int) -> str:
        """Where the schedulers of a cluster on this machine listen, separated by commas."""
        names = ["scheduler", *(f"scheduler-{number}" for number in range(2, schedulers + 1))]
        return ",".join(f"unix:{self.run}/{name}.sock" for name in names)

    def make(self) -> None:
        """Make the folders; only the cluster's user enters them."""
        for folder in (self.data, self.redis, self.code, self.logs, self.keys, self.run):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def master_key(self) -> bytes:
        """The key that secrets are sealed with."""
        return load_or_make_key(self.keys / "master.key")

    def cluster_token(self) -> str:
        """What our processes show each other."""
        return self.session_key().hex()

    def session_key(self) -> bytes:
        """What temporary credentials of functions are made with."""
        return load_or_make_key(self.keys / "cluster.key")

    def root_credentials(self) -> tuple[str, str]:
        """The first access key, made at the first start."""
        path = self.keys / "root.json"
        if not path.exists():
            made = new_credentials()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(made))
            return made
        return msgspec.json.decode(path.read_bytes(), type=tuple[str, str])


def new_credentials() -> tuple[str, str]:
    """An access key that nobody has: id, secret."""
    return "LAMBENT" + random_source.token_hex(6).upper(), random_source.token_urlsafe(30)


def layout(data: str) -> Layout:
    """The layout below a data folder."""
    return Layout(Path(data).expanduser().resolve())
