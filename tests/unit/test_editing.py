"""Edits decide again when somebody was quicker, and only then; concurrent ones never break what they decided on."""

from __future__ import annotations

import asyncio

import pytest

from lambent.domain.concurrency import ConcurrencyState, delete_provisioned, put_provisioned, put_reserved
from lambent.domain.errors import AwsError
from lambent.domain.functions import Function
from lambent.domain.limits import Limits
from lambent.domain.names import FunctionRef
from lambent.infra.clock import SystemIds
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.directory import FunctionDirectory
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import NOBODY, Edit, Obstacle
from lambent.infra.secrets import SecretBox
from services.frontend.operations.editing import ATTEMPTS, Editor
from tests.records import ONE, alias, record, version

REF, LIMITS = FunctionRef(ONE, "f", None), Limits()


class Contended(MemoryFunctionStore):
    """Others get their turn within every change, and may be quicker for a number of times."""

    conflicts = 0

    async def change(self, edit: Edit, code_limit: int) -> Obstacle | None:
        await asyncio.sleep(0)
        if self.conflicts:
            self.conflicts -= 1
            return "conflict"
        return await super().change(edit, code_limit)


@pytest.fixture
async def store() -> Contended:
    made = Contended()
    await made.create(record(), "s1", version("1"), 1000)
    await made.change(Edit(ONE, "f", NOBODY, aliases={"live": alias("live", "1")}), 1000)
    return made


def editor(store: MemoryFunctionStore) -> Editor:
    secrets = SecretBox(b"k" * 32)
    directory = FunctionDirectory(store, secrets, None)
    return Editor(store, directory, SettingsLink(store, secrets, None), LIMITS, SystemIds())


async def test_a_conflict_is_decided_anew(store: Contended) -> None:
    store.conflicts = 3
    decisions = []

    def decide(function: Function, settings: ConcurrencyState) -> Edit:
        decisions.append(settings)
        return Edit(ONE, "f", NOBODY, settings=put_reserved(settings, "f", 5, LIMITS))

    await editor(store).edit(REF, decide)
    assert len(decisions) == 4
    assert (await store.settings(ONE)).reserved == {"f": 5}


async def test_endless_conflicts_are_the_clusters_to_say(store: Contended) -> None:
    store.conflicts = ATTEMPTS
    with pytest.raises(AwsError) as caught:
        await editor(store).edit(REF, lambda function, settings: Edit(ONE, "f", NOBODY))
    assert caught.value.name == "ServiceUnavailableException"


async def test_a_function_that_is_not_there(store: Contended) -> None:
    with pytest.raises(AwsError) as caught:
        await editor(store).edit(FunctionRef(ONE, "nobody", None), lambda function, settings: None)
    assert caught.value.message.endswith("function:nobody")


async def test_an_alias_and_what_is_provisioned_on_it_go_together(store: Contended) -> None:
    """Whoever wins: never a configuration of an alias that is gone."""
    edits = editor(store)

    def provision(function: Function, settings: ConcurrencyState) -> Edit | None:
        if "live" not in function.aliases:
            return None
        after = put_provisioned(settings, function, "live", 3, LIMITS, 1.0)
        return Edit(ONE, "f", NOBODY, settings=after)

    def forget(function: Function, settings: ConcurrencyState) -> Edit:
        return Edit(ONE, "f", NOBODY, aliases={"live": None}, settings=delete_provisioned(settings, "f", "live"))

    for first in ((provision, forget), (forget, provision)):
        await edits.edit(REF, lambda function, settings: Edit(ONE, "f", NOBODY, aliases={"live": alias("live", "1")}))
        # Each by a frontend of its own.
        await asyncio.gather(*(editor(store).edit(REF, decide) for decide in first))
        function = await store.read(ONE, "f")
        assert function is not None
        assert not function.aliases
        assert (await store.settings(ONE)).empty


@pytest.mark.parametrize("frontends", [1, 3])
async def test_reservations_made_at_once_keep_the_floor_together(store: Contended, frontends: int) -> None:
    names = [f"n{number}" for number in range(60)]
    for name in names:
        await store.create(record(name), "s", None, 10_000)
    editors = [editor(store) for _ in range(frontends)]

    async def reserve(number: int, name: str) -> None:
        def decide(function: Function, settings: ConcurrencyState) -> Edit:
            return Edit(ONE, name, NOBODY, settings=put_reserved(settings, name, 25, LIMITS))

        await editors[number % frontends].edit(FunctionRef(ONE, name, None), decide)

    results = await asyncio.gather(*(reserve(*each) for each in enumerate(names)), return_exceptions=True)
    assert sum(result is None for result in results) == 36
    assert {each.name for each in results if isinstance(each, AwsError)} == {"InvalidParameterValueException"}
    settings = await store.settings(ONE)
    assert settings.unreserved(LIMITS.concurrent_executions) == 100
    assert settings.revision == 36
