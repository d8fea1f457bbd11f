"""What functions must not reach, from the settings: whatever of the platform listens on TCP and is not there for
everybody, and what is named besides."""

from __future__ import annotations

import ipaddress

from lambent.infra.config import ConfigError
from lambent.infra.redis_urls import addresses, host_and_port
from lambent.infra.settings import Settings

_METRICS_PORTS = 4  # of frontend, scheduler, worker and poller, one after the other

# Host name, address or network; port of TCP, None for all that is there.
Place = tuple[str, int | None]


def unreachable(settings: Settings) -> tuple[Place, ...]:
    """Every place. Raises ConfigError."""
    named = [_place(text.strip()) for text in settings.worker.unreachable.split(",") if text.strip()]
    return tuple(dict.fromkeys([*_private(settings), *named]))


def _private(settings: Settings) -> list[Place]:
    internal = settings.internal
    doors = (
        *internal.scheduler.split(","), internal.scheduler_listen, internal.worker, *internal.store.split(","),
        internal.store_listen,
    )  # fmt: skip
    found: list[Place] = []
    for each in doors:
        if each and "unix:" not in each:
            host, port = host_and_port(each.strip())
            # A name stands for hosts that come and go: the port is refused wherever it is.
            found += [(host, port)] if _is_here_or_address(host) else [("0.0.0.0/0", port), ("::/0", port)]
    if settings.cluster.redis_url:
        # Of Sentinels and clusters those that are named: where the others are is known to whoever asks them.
        found += addresses(settings.cluster.redis_url)
    if settings.telemetry.prometheus:
        host, port = host_and_port(settings.telemetry.prometheus)
        found += [(host, port + number) for number in range(_METRICS_PORTS)]
    return found


def _is_here_or_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _place(text: str) -> Place:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        pass
    else:
        return (str(network), None) if network.num_addresses > 1 else (str(network.network_address), None)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"worker.unreachable: {text!r} is neither HOST:PORT nor an address nor a network (10.96.0.0/12, without "
            "bits beyond its prefix)"
        )
    return host.strip("[]"), int(port)
