"""Names are looked up, and what was found counts while nobody answers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from lambent.infra import resolving
from lambent.infra.resolving import Resolver


class Names:
    """In the place of the system's resolver: answers as it is told, or not at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hosts: list[str] = []
        self.silent = asyncio.Event()
        self.silent.set()  # it is not
        self.asked = 0
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.look_up)

    async def look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        await self.silent.wait()
        if not self.hosts:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in (*self.hosts, *self.hosts)]


async def test_a_name_is_all_its_hosts_and_what_was_found_last_while_lookups_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, resolver = Names(monkeypatch), Resolver()
    assert await resolver.hosts("schedulers:9010") == ["schedulers:9010"]
    names.hosts = ["10.0.0.2", "10.0.0.1", "fd00::1"]
    assert await resolver.hosts("schedulers:9010") == ["10.0.0.1:9010", "10.0.0.2:9010", "[fd00::1]:9010"]
    names.hosts = []
    assert await resolver.hosts("schedulers:9010") == ["10.0.0.1:9010", "10.0.0.2:9010", "[fd00::1]:9010"]
    names.hosts = ["10.0.0.3"]
    assert await resolver.hosts("schedulers:9010") == ["10.0.0.3:9010"]
    assert await resolver.hosts("unix:/x.sock") == ["unix:/x.sock"]
    await resolver.close()


async def test_silence_is_not_waited_for_twice_and_its_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "PATIENCE_SECONDS", 0.01)
    names, resolver = Names(monkeypatch), Resolver()
    names.hosts = ["10.0.0.1"]
    assert await resolver.hosts("schedulers:9010") == ["10.0.0.1:9010"]
    names.silent.clear()
    for _ in range(3):
        assert await resolver.hosts("schedulers:9010") == ["10.0.0.1:9010"]
    assert names.asked == 2, "one lookup is under way, however often it is asked"
    names.hosts = ["10.0.0.2"]
    names.silent.set()
    assert await resolver.hosts("schedulers:9010") == ["10.0.0.2:9010"]
    await resolver.close()
