"""What a name and a qualifier stand for, from the store once and then from memory, until it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from lambent.domain.functions import Function, VersionRecord
from lambent.domain.names import LATEST, Tenant
from lambent.infra.functions import directory as directory_module
from lambent.infra.functions.directory import FunctionDirectory, Known
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import EVERY_VERSION, NOBODY, Change, Edit
from lambent.infra.secrets import SecretBox
from tests.records import CONFIGURATION, ONE, alias, record, version


class Store(MemoryFunctionStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.followed = asyncio.Event()

    async def find(self, tenant: Tenant, name: str, qualifier: str) -> Function | None:
        self.reads += 1
        return await super().find(tenant, name, qualifier)

    async def changes(self, tenant: Tenant) -> AsyncIterator[Change]:
        self.followed.set()
        async for change in super().changes(tenant):
            yield change


class Leases:
    """A lease stream that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []
        self.heard = asyncio.Event()

    def function_changed(self, tenant: Tenant, function_name: str, generation: int, version: str) -> None:
        self.told.append((function_name, generation, version))
        self.heard.set()


@pytest.fixture
async def store() -> Store:
    made = Store()
    await made.create(record(), "s1", None, 1000)
    aliases = {each.name: each for each in (alias("live", "1"), alias("both", "1", _2=0.25), alias("next", LATEST))}
    versions = {number: described(version(number)) for number in "12"}
    await made.change(Edit(ONE, "f", NOBODY, versions=versions, aliases=aliases), 1000)
    return made


def described(version: VersionRecord) -> VersionRecord:
    """A version whose configuration tells whose it is."""
    deployed = version.deployed
    words = replace(deployed.configuration, description=f"of {deployed.deployment_id}")
    return replace(version, deployed=replace(deployed, configuration=words))


def deployments(known: Known | None) -> list[str | None]:
    assert known is not None
    return [None if target is None else target.deployment_id for target in (known.target, known.additional)]


async def test_every_qualifier_leads_to_what_it_stands_for(store: Store) -> None:
    directory = FunctionDirectory(store, SecretBox(b"k" * 32), None)
    for qualifier, expected in (
        (None, ["d1", None]), (LATEST, ["d1", None]), ("1", ["d-1", None]), ("2", ["d-2", None]), ("live", ["d-1", None]),
        ("both", ["d-1", "d-2"]), ("next", ["d1", None]),
    ):  # fmt: skip
        assert directory.known(ONE, "f", qualifier) is None
        found = await directory.find(ONE, "f", qualifier)
        assert deployments(found) == expected
        assert directory.known(ONE, "f", qualifier) is found
        assert found is not None
        assert [each.description for each in found.configurations] == [  # whoever runs, not what $LATEST is by now
            CONFIGURATION.description if name == "d1" else f"of {name}" for name in expected if name is not None
        ]
    assert store.reads == 7
    for qualifier in ("3", "nobody"):
        assert await directory.find(ONE, "f", qualifier) is None
    assert await directory.find(ONE, "g", None) is None
    await directory.close()


async def test_a_change_log_that_breaks_is_followed_anew_and_nothing_known_before_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "_AGAIN_SECONDS", 0.0)
    failures, changes = iter([RuntimeError("a defect")]), store.changes
    broken = asyncio.Event()

    async def defective(tenant: Tenant) -> AsyncIterator[Change]:
        for failure in failures:
            await broken.wait()
            raise failure
        async for change in changes(tenant):
            yield change

    monkeypatch.setattr(store, "changes", defective)
    leases = Leases()
    directory = FunctionDirectory(store, SecretBox(b"k" * 32), leases)  # type: ignore[arg-type]
    assert await directory.find(ONE, "f", "live") is not None
    broken.set()
    await store.followed.wait()
    assert directory.known(ONE, "f", "live") is None
    assert await directory.find(ONE, "f", "live") is not None
    await store.change(Edit(ONE, "f", "1", 9, versions={"1": None}), 1000)
    async with asyncio.timeout(5):
        await leases.heard.wait()
    assert directory.known(ONE, "f", "live") is None
    await directory.close()


async def test_a_draw_goes_to_the_additional_version_by_its_share(store: Store) -> None:
    directory = FunctionDirectory(store, SecretBox(b"k" * 32), None)
    both, live = await directory.find(ONE, "f", "both"), await directory.find(ONE, "f", "live")
    assert both is not None
    assert live is not None
    drawn = [both.draw(number / 100) for number in range(100)]
    assert [target.version for target in drawn if target is not None] == ["2"] * 25 + ["1"] * 75
    assert live.draw(0.0) is live.target
    await directory.close()


async def test_a_change_made_elsewhere_is_seen_in_the_log(store: Store) -> None:
    leases = Leases()
    directory = FunctionDirectory(store, SecretBox(b"k" * 32), leases)  # type: ignore[arg-type]
    assert deployments(await directory.find(ONE, "f", "live")) == ["d-1", None]
    await store.followed.wait()
    gone = Edit(ONE, "f", "1", 8, aliases={"live": alias("live", "2")}, versions={"1": None})
    await store.change(gone, 1000)
    await leases.heard.wait()
    assert leases.told == [("f", 8, "1")]
    assert directory.known(ONE, "f", "live") is None
    assert deployments(await directory.find(ONE, "f", "live")) == ["d-2", None]
    await directory.close()


async def test_a_change_is_read_again_and_told_if_it_outdates_somebody(store: Store) -> None:
    leases = Leases()
    directory = FunctionDirectory(store, SecretBox(b"k" * 32), leases)  # type: ignore[arg-type]
    for outdates in (NOBODY, "1", LATEST, EVERY_VERSION):
        assert await directory.find(ONE, "f", "live") is not None
        directory.forget(ONE, "f", 9, outdates)
        assert directory.known(ONE, "f", "live") is None
    assert leases.told == [("f", 9, "1"), ("f", 9, LATEST), ("f", 9, EVERY_VERSION)]
    await directory.close()
