"""The ledger against a naive model that keeps every slot in a list and counts anew each time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lambent.domain.names import Tenant
from services.scheduler.core.ledger import Ledger
from services.scheduler.core.reasons import Reason

TENANT = Tenant("000000000001", "us-east-1")
LIMIT, SHARE = 10, 0.35
NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)


class LedgerMachine(RuleBasedStateMachine):
    """Admissions, allocations and changes of settings in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(LIMIT, SHARE)
        self.on_demand: list[str] = []
        self.background: list[str] = []  # of these, by pollers
        self.allocated: list[str] = []
        self.reserved: dict[str, int] = {}
        self.requested: dict[str, int] = {}

    # The model

    def shared(self) -> list[str]:
        return [name for name in NAMES if name not in self.reserved]

    def unreserved(self) -> int:
        return LIMIT - sum(self.reserved.values())

    def expected_refusal(self, name: str, *, background: bool) -> Reason | None:
        if name in self.reserved:
            used = self.on_demand.count(name) + self.allocated.count(name)
            return Reason.RESERVED_LIMIT if used >= self.reserved[name] else None
        used = sum(
            self.on_demand.count(each) + max(self.requested.get(each, 0), self.allocated.count(each))
            for each in self.shared()
        )
        if used >= self.unreserved():
            return Reason.ACCOUNT_LIMIT
        held = sum(map(self.background.count, self.shared()))
        return Reason.ASYNC_SHARE if background and held >= max(1, int(SHARE * self.unreserved())) else None

    def expected_room(self, name: str) -> bool:
        if name in self.reserved:
            return self.on_demand.count(name) + self.allocated.count(name) < self.reserved[name]
        return sum(map(self.on_demand.count, self.shared())) + sum(map(self.allocated.count, self.shared())) < (
            self.unreserved()
        )

    # What happens

    @rule(name=names, background=st.booleans())
    def admit(self, name: str, background: bool) -> None:
        function = self.ledger.function(TENANT, name)
        if function.refusal(background) is None:
            function.take(background)
            self.on_demand.append(name)
            self.background += [name] * background

    @precondition(lambda self: self.on_demand)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.on_demand))
        self.on_demand.remove(name)
        background = name in self.background
        if background:
            self.background.remove(name)
        self.ledger.function(TENANT, name).give_back(background)

    @rule(name=names)
    def allocate(self, name: str) -> None:
        function = self.ledger.function(TENANT, name)
        if function.may_allocate():
            function.allocate()
            self.allocated.append(name)

    @precondition(lambda self: self.allocated)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.allocated))
        self.allocated.remove(name)
        self.ledger.function(TENANT, name).allocate(-1)

    @rule(
        reserved=st.dictionaries(names, st.integers(0, 4)),
        requested=st.dictionaries(names, st.integers(1, 3)),
    )
    def configure(self, reserved: dict[str, int], requested: dict[str, int]) -> None:
        self.reserved, self.requested = reserved, requested
        self.ledger.configure(self.ledger.account(TENANT), reserved, requested)

    @rule(name=names)
    def forget(self, name: str) -> None:
        self.ledger.function(TENANT, name).forget()

    @invariant()
    def both_say_the_same(self) -> None:
        for name in NAMES:
            function = self.ledger.function(TENANT, name)
            assert function.on_demand == self.on_demand.count(name)
            assert function.allocated == self.allocated.count(name)
            assert function.background == self.background.count(name)
            for background in (False, True):
                found = function.refusal(background)
                assert found == self.expected_refusal(name, background=background)
            assert function.may_allocate() == self.expected_room(name)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=150, stateful_step_count=40)
