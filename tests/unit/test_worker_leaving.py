"""Which of many sandboxes that end go before the rest."""

from __future__ import annotations

from services.worker.sandbox.cgroups import Weight
from services.worker.sandbox.leaving import AT_ONCE, Leaving


class Scale:
    """Remembers its weight."""

    def __init__(self) -> None:
        self.weight = Weight.ORDINARY

    def weigh(self, weight: Weight) -> None:
        self.weight = weight


class Gone:
    """A group that has been removed."""

    def weigh(self, weight: Weight) -> None:
        raise FileNotFoundError(weight)


def test_a_few_go_as_they_would_and_the_rest_in_turn() -> None:
    leaving, scales = Leaving(), [Scale() for _ in range(AT_ONCE + 3)]
    for number, scale in enumerate(scales):
        leaving.add(number, scale)

    def rest() -> list[Weight]:
        return [scale.weight for scale in scales[AT_ONCE:]]

    assert {scale.weight for scale in scales[:AT_ONCE]} == {Weight.ORDINARY}
    assert rest() == [Weight.LAST] * 3
    leaving.gone(AT_ONCE + 1)  # one of the rest was first
    leaving.gone(3)
    assert rest() == [Weight.BEHIND, Weight.LAST, Weight.LAST]
    leaving.gone(4)
    leaving.gone("never told")
    assert rest() == [Weight.BEHIND, Weight.LAST, Weight.BEHIND]


def test_a_group_that_is_no_more_keeps_nobody() -> None:
    leaving, last = Leaving(), Scale()
    for number in range(AT_ONCE + 1):
        leaving.add(number, Gone())
    leaving.add("last", last)
    seen = [last.weight]
    for number in range(2):
        leaving.gone(number)
        seen.append(last.weight)
    assert seen == [Weight.LAST, Weight.LAST, Weight.BEHIND]
