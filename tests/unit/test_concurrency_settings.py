"""What the scheduler is told of concurrency settings, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lambent.domain.concurrency import ConcurrencyState, Provisioned
from lambent.domain.functions import AliasRecord
from lambent.infra.functions.concurrency_settings import SettingsLink
from lambent.infra.functions.memory_store import MemoryFunctionStore
from lambent.infra.functions.port import NOBODY, Edit
from lambent.infra.secrets import SecretBox
from lambent.internal.v1 import lease_service_pb2 as pb
from lambent.internal.v1.deployment_pb2 import Deployment
from tests.records import ONE, OTHER, alias, record, version

SECRETS = SecretBox(b"k" * 32)


class Stream:
    """A lease stream to a scheduler that applies what it is told once it is let."""

    def __init__(self) -> None:
        self.sent: list[pb.ConcurrencySettings] = []
        self.waiting = asyncio.Event()
        self.applied = asyncio.Event()
        self.load: Callable[[], Awaitable[Sequence[pb.ConcurrencySettings]]] | None = None

    def send_settings(self, message: pb.ConcurrencySettings) -> None:
        self.sent.append(message)

    async def settings_applied(self, account: str, region: str, revision: int) -> None:
        last = self.sent[-1]
        assert (account, region, revision) == (last.account, last.region, last.revision)
        self.waiting.set()
        await self.applied.wait()

    def on_connected(self, load: Callable[[], Awaitable[Sequence[pb.ConcurrencySettings]]]) -> None:
        self.load = load


async def kept(settings: ConcurrencyState, *aliases: AliasRecord) -> MemoryFunctionStore:
    """A store with function f, its versions 1 and 2, aliases and settings."""
    store = MemoryFunctionStore()
    await store.create(record(), "s1", None, 1000)
    edit = Edit(
        ONE, "f", NOBODY, versions={n: version(n) for n in "12"}, aliases={each.name: each for each in aliases},
        settings=settings,
    )  # fmt: skip
    assert await store.change(edit, 1000) is None
    return store


async def test_a_message_says_all_that_a_tenant_has_set() -> None:
    provisioned = {
        "f": {"live": Provisioned(9, 3, 1.0), "both": Provisioned(9, 4, 1.0), "gone": Provisioned(1, 5, 1.0)}
    }
    settings = ConcurrencyState(6, {"f": 40, "g": 0}, provisioned)
    store = await kept(settings, alias("live", "2"), alias("both", "1", _2=0.25))
    message = await SettingsLink(store, SECRETS, None).message(ONE)
    assert (message.account, message.region, message.revision) == (ONE.account, ONE.region, 6)
    assert [(each.function_name, each.executions) for each in message.reserved] == [("f", 40), ("g", 0)]
    assert [
        (each.function_name, each.qualifier, each.requested, each.put_revision,
         [(part.need.version, part.need.deployment_id, part.executions) for part in each.versions])
        for each in message.provisioned
    ] == [
        ("f", "both", 9, 4, [("1", "d-1", 7), ("2", "d-2", 2)]),
        ("f", "live", 9, 3, [("2", "d-2", 9)]),
    ]  # fmt: skip
    part = message.provisioned[1].versions[0]
    assert (part.need.generation, part.need.memory_mb, part.need.function_name) == (7, 128, "f")
    assert Deployment.FromString(part.deployment).version == "2"


async def test_a_share_without_environments_has_no_part() -> None:
    for share, only in ((0.0, "1"), (1.0, "2")):
        store = await kept(
            ConcurrencyState(1, {}, {"f": {"both": Provisioned(4, 1, 1.0)}}), alias("both", "1", _2=share)
        )
        message = await SettingsLink(store, SECRETS, None).message(ONE)
        assert [(part.need.version, part.executions) for part in message.provisioned[0].versions] == [(only, 4)]


async def test_a_change_waits_until_it_is_in_force() -> None:
    stream = Stream()
    link = SettingsLink(await kept(ConcurrencyState(2, {"f": 5})), SECRETS, stream)
    change = asyncio.ensure_future(link.apply(ONE))
    await stream.waiting.wait()
    assert not change.done()
    stream.applied.set()
    await change
    assert [message.revision for message in stream.sent] == [2]


async def test_a_scheduler_that_is_away_is_not_waited_for_long() -> None:
    stream = Stream()
    await SettingsLink(await kept(ConcurrencyState(2, {"f": 5})), SECRETS, stream, 0.01).apply(ONE)
    assert len(stream.sent) == 1


async def test_every_tenant_with_settings_is_told_after_a_connection() -> None:
    store = await kept(ConcurrencyState(2, {"f": 5}))
    await store.create(record(tenant=OTHER), "s1", None, 1000)
    stream = Stream()
    SettingsLink(store, SECRETS, stream)
    assert stream.load is not None
    assert [(message.account, message.revision) for message in await stream.load()] == [(ONE.account, 2)]
