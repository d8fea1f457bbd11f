"""A cluster of two accounts with a table of connections."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.conftest import OTHER_KEY, OTHER_SECRET
from tests.e2e.harness import Cluster


@contextmanager
def connected_cluster(files: Path, *rows: str) -> Iterator[Cluster]:
    """`files`: a folder for its tables. `rows`: of connections, each without its head."""
    connections, keys = files / "connections.toml", files / "keys.toml"
    connections.write_text("".join(f"[[connections]]\n{row}\n" for row in rows))
    keys.write_text(f'[[access_keys]]\nid = "{OTHER_KEY}"\nsecret = "{OTHER_SECRET}"\naccount = "111111111111"\n')
    with tempfile.TemporaryDirectory(prefix="lc-", dir="/tmp") as folder:
        cluster = Cluster(
            Path(folder) / "data", "--no-examples", LAMBENT_QUEUE_CONNECTIONS=str(connections),
            LAMBENT_ACCESS_KEYS=str(keys),
        )  # fmt: skip
        yield cluster.start()
        cluster.stop()
