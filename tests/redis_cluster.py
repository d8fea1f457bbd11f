"""A Redis Cluster of three nodes on this machine, for tests; its slots are shared out evenly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from lambent.local.redis_server import find_server
from tests.conftest import free_port

_PRIMARIES, _SLOTS = 3, 16384
_LOOKS, _BETWEEN = 1500, 0.02  # s


@dataclass
class RedisCluster:
    """One that runs."""

    ports: range  # of its nodes; those of replicas come last, in the order of their primaries
    processes: list[subprocess.Popen[bytes]]
    nodes: list[Any]  # a client of each

    @property
    def url(self) -> str:
        """What `connect` takes: one node, which knows the rest, and another."""
        return f"redis+cluster://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"

    def kill_primary(self, key: str) -> None:
        """End the node that has a key, at once."""
        slot = int(self.nodes[0].execute_command("CLUSTER", "KEYSLOT", key))
        node = next(number for number in range(_PRIMARIES) if slot < _SLOTS * (number + 1) // _PRIMARIES)
        self.processes[node].kill()
        self.processes[node].wait()


@contextmanager
def redis_cluster(folder: Path, *, replicas: bool = False) -> Iterator[RedisCluster]:
    """`replicas`: one for each of the three."""
    program = find_server()
    assert program is not None
    count = 2 * _PRIMARIES if replicas else _PRIMARIES
    first = free_port(2 * count)
    ports = range(first, first + count)
    with ExitStack() as stack:
        made = RedisCluster(ports, [], [])
        for port in ports:
            (folder / str(port)).mkdir()
            command = [
                str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder / str(port)), "--save", "",
                "--cluster-enabled", "yes", "--cluster-port", str(port + count), "--logfile", "log",
                "--cluster-node-timeout", "1000", "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0",
            ]  # fmt: skip
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            made.processes.append(process)
        made.nodes += [stack.enter_context(Redis("127.0.0.1", port)) for port in ports]
        for number, node in enumerate(made.nodes):
            _until(node.ping)
            if number < _PRIMARIES:
                start, end = (_SLOTS * each // _PRIMARIES for each in (number, number + 1))
                node.execute_command("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", first, first + count)
        for node in made.nodes:
            _until(partial(_knows, node, count))
        for primary, replica in zip(made.nodes, made.nodes[_PRIMARIES:], strict=False):
            replica.execute_command("CLUSTER", "REPLICATE", primary.execute_command("CLUSTER", "MYID"))
            _until(lambda replica=replica: replica.info("replication").get("master_link_status") == "up")  # type: ignore[misc]
        yield made


def _knows(node: Any, count: int) -> bool:
    state = node.execute_command("CLUSTER", "INFO")
    fields = state if isinstance(state, dict) else dict(line.split(":") for line in state.decode().split())
    return fields["cluster_state"] == "ok" and int(fields["cluster_known_nodes"]) == count


def _until(look: Callable[[], Any]) -> None:
    """Wait until it is so; a server that does not answer yet is one that is not so."""
    for _ in range(_LOOKS):
        try:
            if look():
                return
        except RedisError:
            pass
        time.sleep(_BETWEEN)
    raise AssertionError("the cluster does not come up")
