"""The provisioned environments of one version by how they stand, carried along at every change: how many there are of a
kind is known without looking at each, however many there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from services.scheduler.core.environment import Environment, State


class Standing(NamedTuple):
    """How one stands. Each is 0 or 1."""

    staying: int = 0  # it exists, or is about to, and is not on its way out
    up: int = 0  # initialised, and not on its way out
    slots: int = 0  # it holds an allocation, and is not on its way out
    leaving_slots: int = 0  # it holds one, and is on its way out


_NOTHING = Standing()


def standing(environment: Environment) -> Standing:
    """How a provisioned environment stands."""
    if environment.outgoing:
        return Standing(leaving_slots=int(environment.counted))
    return Standing(
        environment.stays,
        environment.state in (State.IDLE, State.LEASED),
        environment.counted,
    )


@dataclass(slots=True)
class Census:
    """All of one version. `note` is to be called after each change of one."""

    staying: int = 0  # the sums of `Standing`
    up: int = 0
    slots: int = 0
    leaving_slots: int = 0
    leaving: dict[str, Environment] = field(default_factory=dict, repr=False)  # those on their way out
    spares: dict[str, Environment] = field(default_factory=dict, repr=False)  # those that wait for a slot
    _known: dict[str, Standing] = field(default_factory=dict, repr=False)

    def admit(self, environment: Environment) -> None:
        """One is new."""
        self._known[environment.id] = _NOTHING
        self.note(environment)

    def note(self, environment: Environment) -> None:
        """One is not what it was. What happens to one that is no more does not count."""
        before = self._known.get(environment.id)
        if before is None:
            return
        after = self._known[environment.id] = standing(environment)
        self._add(before, after)
        for kind, belongs in ((self.leaving, environment.outgoing), (self.spares, environment.spare)):
            if belongs:
                kind[environment.id] = environment
            else:
                kind.pop(environment.id, None)

    def forget(self, environment: Environment) -> None:
        """One is no more."""
        self._add(self._known.pop(environment.id, _NOTHING), _NOTHING)
        self.leaving.pop(environment.id, None)
        self.spares.pop(environment.id, None)

    def _add(self, before: Standing, after: Standing) -> None:
        self.staying += after.staying - before.staying
        self.up += after.up - before.up
        self.slots += after.slots - before.slots
        self.leaving_slots += after.leaving_slots - before.leaving_slots


def census_of(environments: Iterable[Environment]) -> Census:
    """Counted anew."""
    census = Census()
    for environment in environments:
        census.admit(environment)
    return census
