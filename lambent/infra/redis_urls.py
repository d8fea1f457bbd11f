"""How a store is named: redis://, rediss:// and unix:// URLs, and two forms with several addresses.

redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DATABASE    Sentinels, who know where the master is
redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT                     some nodes of a Redis Cluster, which know the rest

and the same with rediss+ for TLS. What follows a question mark is options of connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

PORT, SENTINEL_PORT = 6379, 26379
SENTINEL, CLUSTER = "sentinel", "cluster"


@dataclass(frozen=True, slots=True)
class Several:
    """What a URL with several addresses says."""

    addresses: tuple[tuple[str, int], ...]
    master: str  # that Sentinels at these addresses know; empty: they are nodes of a cluster
    options: dict[str, Any]  # of every connection to the master, or to a node


def several(url: str) -> Several | None:
    """What a URL with several addresses says. None: it is none. Raises ValueError."""
    scheme, separator, rest = url.partition("://")
    safe, plus, kind = scheme.partition("+")
    if not separator or not plus:
        return None
    # Not by `urlsplit`, which today's versions of Python have refuse brackets behind another address.
    place, _, query = rest.partition("?")
    authority, _, below = place.partition("/")
    user, _, hosts = authority.rpartition("@")
    name, _, password = user.partition(":")
    path = [unquote(each) for each in below.split("/") if each]
    if safe not in ("redis", "rediss") or kind not in (SENTINEL, CLUSTER) or not hosts:
        raise ValueError("a URL of several addresses is redis+sentinel://... or redis+cluster://...")
    if kind == SENTINEL and not path:
        raise ValueError("a URL of Sentinels is redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DATABASE")
    if kind == CLUSTER and path not in ([], ["0"]):
        raise ValueError("a URL of a cluster is redis+cluster://HOST:PORT,HOST:PORT; its only database is 0")
    options: dict[str, Any] = dict(parse_qsl(query))
    if kind == SENTINEL:
        options["db"] = int(path[1]) if len(path) > 1 else 0
    if password:
        options["password"] = unquote(password)
    if name:
        options["username"] = unquote(name)
    if safe == "rediss":
        options["ssl"] = True
    usual = SENTINEL_PORT if kind == SENTINEL else PORT
    return Several(
        tuple(host_and_port(each, usual) for each in hosts.split(",")), path[0] if kind == SENTINEL else "", options
    )


def addresses(url: str) -> tuple[tuple[str, int], ...]:
    """The hosts and TCP ports that a URL names; none of a socket on this machine. Raises ValueError."""
    if url.startswith("unix:"):
        return ()
    found = several(url)
    if found is not None:
        return found.addresses
    return (host_and_port(urlsplit(url).netloc.rpartition("@")[2], PORT),)


def host_and_port(text: str, usual: int = 0) -> tuple[str, int]:
    """HOST:PORT in its parts; IPv6 in brackets. `usual`: the port where none is said. Raises ValueError."""
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or usual
