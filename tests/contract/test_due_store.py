"""Every DueStore answers alike: the one in Redis and its twin in memory; by rules, of which it keeps most."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from lambent.domain.names import Tenant
from lambent.domain.rule_inputs import Transformer
from lambent.domain.rules import DISABLED, Rule, RuleTarget
from lambent.infra.due import redis_store
from lambent.infra.due.memory_store import MemoryDueStore
from lambent.infra.due.port import DueStore
from lambent.infra.redis_client import connect
from tests.records import ONE, OTHER

MOST = 300


class Stores(NamedTuple):
    rules: DueStore[Rule]

    async def claimed(self, now: float, seconds: float = 30.0, most: int = 100) -> list[tuple[Tenant, str]]:
        return [(claim.tenant, claim.key) for claim in await self.rules.claim(now, seconds, most)]

    async def keep(self, *rules: Rule) -> None:
        for rule in rules:
            assert await self.rules.replace(None, rule, MOST) == "done"


@pytest.fixture(params=["memory", "redis", "cluster"])
async def stores(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield Stores(MemoryDueStore())
        return
    client = connect(redis_url)
    yield Stores(redis_store.rules(client))
    await client.aclose()


def rule(name: str = "r", due: int | None = None, tenant: Tenant = ONE, revision: int = 1) -> Rule:
    return Rule(tenant, name, "rate(1 minute)", due=due, revision=revision)


def changed(before: Rule, due: int | None) -> Rule:
    return dataclasses.replace(before, due=due, revision=before.revision + 1)


async def test_a_rule_is_read_as_it_was(stores: Stores) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000001:function:f"
    full = Rule(
        ONE, "full", "cron(0 12 * * ? *)", '{"source": ["ü"]}', DISABLED, "noon", "arn:aws:iam::1:role/r", {"a": "b"},
        (
            RuleTarget("1", arn, "r", '{"a": 1}', None, None, "arn:aws:sqs:us-east-1:000000000001:q", 3, 60),
            RuleTarget("2", arn, transformer=Transformer({"a": "$.detail"}, "<a>")),
        ),
        17, 1_700_000_000, 4,
    )  # fmt: skip
    assert await stores.rules.get(ONE, "full") is None
    await stores.keep(full, rule())
    assert await stores.rules.get(ONE, "full") == full
    assert await stores.rules.get(ONE, "r") == rule()
    assert await stores.rules.get(OTHER, "r") is None


async def test_lists_are_by_name_and_each_tenant_has_its_own(stores: Stores) -> None:
    assert list(await stores.rules.list(ONE)) == []
    await stores.keep(rule("b"), rule("c"), rule("a"), rule("a", tenant=OTHER))
    assert [each.name for each in await stores.rules.list(ONE)] == ["a", "b", "c"]
    assert list(await stores.rules.list(OTHER)) == [rule("a", tenant=OTHER)]


async def test_pages_are_by_key_and_of_a_prefix(stores: Stores) -> None:
    await stores.keep(*(rule(name) for name in ("b/1", "a/2", "a/1", "ab", "c", "a/3")), rule("a/9", tenant=OTHER))

    async def page(prefix: str, after: str, count: int) -> list[str]:
        return [each.name for each in await stores.rules.page(ONE, prefix, after, count)]

    assert await page("", "", 9) == ["a/1", "a/2", "a/3", "ab", "b/1", "c"]
    assert await page("", "a/3", 2) == ["ab", "b/1"]
    assert await page("a/", "", 2) == ["a/1", "a/2"]
    assert await page("a/", "a/2", 2) == ["a/3"]
    assert await page("a/", "a/3", 2) == []
    assert await page("d", "", 2) == []
    ended = rule("a/1")
    assert await stores.rules.replace(ended, None, MOST) == "done"
    assert await page("a/", "", 9) == ["a/2", "a/3"]


async def test_only_what_is_still_as_it_was_read_is_changed(stores: Stores) -> None:
    first = rule()
    second = changed(first, None)
    assert await stores.rules.replace(first, second, MOST) == "changed"
    await stores.keep(first)
    assert await stores.rules.replace(None, first, MOST) == "changed"
    assert await stores.rules.replace(first, second, MOST) == "done"
    assert await stores.rules.replace(first, None, MOST) == "changed"
    assert await stores.rules.get(ONE, "r") == second
    assert await stores.rules.replace(second, None, MOST) == "done"
    assert await stores.rules.get(ONE, "r") is None
    assert await stores.rules.replace(second, None, MOST) == "changed"


async def test_a_tenant_has_so_many_rules_and_may_change_them_then(stores: Stores) -> None:
    assert await stores.rules.replace(None, rule("a"), 2) == "done"
    assert await stores.rules.replace(None, rule("b"), 2) == "done"
    assert await stores.rules.replace(None, rule("c"), 2) == "full"
    assert await stores.rules.replace(None, rule("c", tenant=OTHER), 2) == "done"
    assert await stores.rules.replace(rule("b"), changed(rule("b"), 5), 2) == "done"


async def test_what_is_due_is_claimed_once_until_the_claim_ends(stores: Stores) -> None:
    await stores.keep(rule("now", 100), rule("later", 200), rule("never"), rule("now", 90, OTHER))
    assert await stores.claimed(89.9) == []
    assert await stores.claimed(100.0) == [(OTHER, "now"), (ONE, "now")]
    assert await stores.claimed(129.9) == []
    assert sorted(await stores.claimed(130.0)) == [(ONE, "now"), (OTHER, "now")]


async def test_so_many_are_claimed_at_a_time(stores: Stores) -> None:
    await stores.keep(*(rule(f"r{number}", number) for number in range(5)))
    assert [name for _, name in await stores.claimed(10.0, most=3)] == ["r0", "r1", "r2"]
    assert [name for _, name in await stores.claimed(10.0, most=3)] == ["r3", "r4"]


async def test_whoever_claimed_a_rule_says_when_it_is_looked_at_again(stores: Stores) -> None:
    await stores.keep(rule("again", 100), rule("no-more", 100))
    for claim in await stores.rules.claim(100.0, 30.0, 9):
        await stores.rules.settle(claim, 160.0 if claim.key == "again" else None)
        await stores.rules.settle(claim, 1.0)  # it is settled
    assert await stores.claimed(159.0) == []
    assert await stores.claimed(1000.0) == [(ONE, "again")]


async def test_a_claim_that_somebody_else_has_by_now_settles_nothing(stores: Stores) -> None:
    await stores.keep(rule("r", 100))
    [first] = await stores.rules.claim(100.0, 30.0, 9)
    [second] = await stores.rules.claim(131.0, 30.0, 9)
    await stores.rules.settle(first, 500.0)
    assert await stores.claimed(160.9) == []
    await stores.rules.settle(second, 170.0)
    assert await stores.claimed(170.0) == [(ONE, "r")]


@pytest.mark.parametrize("due", [140, 120])
async def test_a_rule_that_is_changed_meanwhile_is_not_put_off_by_a_claim(stores: Stores, due: int) -> None:
    """Whoever has the claim may have read the rule as it was before."""
    before = rule("r", 100)
    await stores.keep(before)
    [claim] = await stores.rules.claim(100.0, 30.0, 9)
    assert await stores.rules.replace(before, changed(before, due), MOST) == "done"
    await stores.rules.settle(claim, 500.0)
    assert await stores.claimed(float(due)) == [(ONE, "r")]


async def test_the_holder_of_a_claim_changes_the_rule_and_settles(stores: Stores) -> None:
    before = rule("r", 100)
    await stores.keep(before)
    [claim] = await stores.rules.claim(100.0, 30.0, 9)
    assert await stores.rules.replace(before, changed(before, 160), MOST, claimed=True) == "done"
    await stores.rules.settle(claim, 160)
    assert await stores.claimed(159.0) == []
    assert await stores.claimed(160.0) == [(ONE, "r")]


async def test_a_rule_that_was_put_off_by_its_change_is_looked_at_once_too_often_at_most(stores: Stores) -> None:
    before = rule("r", 100)
    await stores.keep(before)
    assert await stores.rules.replace(before, changed(before, 1000), MOST) == "done"
    [claim] = await stores.rules.claim(100.0, 30.0, 9)
    await stores.rules.settle(claim, 1000)
    assert await stores.claimed(999.0) == []
    assert await stores.claimed(1000.0) == [(ONE, "r")]
