"""Who is asked for unused permissions of a request rate before anyone is refused."""

from __future__ import annotations

import pytest

from lambent.domain.names import Tenant
from services.scheduler.core.events import RateScope
from services.scheduler.core.ledger import Account
from services.scheduler.core.meters import Meter

TENANT = Tenant("000000000000", "us-east-1")


@pytest.fixture
def meter() -> Meter:
    meter = Meter(Account(TENANT, 10), RateScope(TENANT), 100.0)
    assert meter.take_share("first", 20, 0.0) == 20
    return meter


def test_a_caller_that_gave_a_part_back_of_its_own_accord_is_asked_for_the_rest(meter: Meter) -> None:
    meter.put_back(12)
    assert not meter.answered("first", 0)
    assert meter.begin_round("second") == {"first"}


def test_a_caller_that_gave_all_back_is_not_asked_again_until_it_has_more(meter: Meter) -> None:
    assert meter.begin_round("second") == {"first"}
    assert meter.answered("first", meter.round)
    assert meter.begin_round("second") == set()
    meter.take_share("first", 1, 0.0)
    assert meter.begin_round("second") == {"first"}


def test_what_a_caller_is_given_while_it_is_being_asked_it_holds_after_its_answer(meter: Meter) -> None:
    meter.begin_round("second")
    meter.take_share("first", 1, 0.0)  # on its way while the caller answers what it had before
    meter.answered("first", meter.round)
    assert meter.begin_round("second") == {"first"}


def test_nobody_waits_for_a_caller_that_is_gone(meter: Meter) -> None:
    meter.begin_round("second")
    assert meter.answered("first", None)
    assert meter.begin_round("second") == set()
