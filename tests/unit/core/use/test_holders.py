"""The holders of a lease, as records: kind, name, place and path."""

import time
import types
from dataclasses import dataclass

import pytest

from epochal._core.use.drain_wakeup import Ledger
from epochal._core.use.holders import (
    find_holders,
    find_holders_of,
    holding_operations,
    limited,
)
from epochal._core.use.lease import RevocableLease, carry
from epochal._core.use.ties import tie
from epochal.report import Holder

pytestmark = pytest.mark.usefixtures("whole_heap")

HOST: list = []


@pytest.fixture
def ledger():
    yield Ledger()
    HOST.clear()


@dataclass
class Operation:
    """A labelled operation."""

    label: str
    age: float


class Opened:
    """An object that a kind opened."""


def of_kind(holders, kind):
    return next(holder for holder in holders if holder.kind == kind)


def test_an_operation_has_its_label_its_age_and_its_beginning():
    (holder,) = holding_operations([Operation("nightly", 2.0)])
    assert (holder.kind, holder.name, holder.age_s) == ("operation", "nightly", 2.0)
    assert holder.since == pytest.approx(time.time() - 2.0, abs=5)


def test_a_kept_function_has_its_name_and_path(ledger):
    HOST.append(carry(lambda: None, ledger.issue("x")))
    (lease,) = ledger.live()
    holder = of_kind(find_holders(lease), "function")
    assert holder.path == f"{__name__}.HOST[0]"
    assert holder.name.endswith("<lambda>")


def test_a_suspended_generator_has_its_place(ledger):
    def rows():
        yield

    HOST.append(carry(rows, ledger.issue("x"))())
    next(HOST[0])
    (lease,) = ledger.live()
    holder = of_kind(find_holders(lease), "generator")
    assert holder.place.startswith("test_holders.py:")
    assert holder.path == f"{__name__}.HOST[0]"


def test_dependents_and_opened_objects_are_named(ledger):
    opened, lease = Opened(), ledger.issue("x")
    HOST.extend([opened, RevocableLease(lease, "weather#2")])
    tie(opened, lease)
    holders = find_holders(lease)
    assert of_kind(holders, "plugin").name == "weather#2"
    assert of_kind(holders, "object")


def test_the_first_twenty_are_listed_once_and_the_rest_is_counted():
    holders = [Holder("epoch", str(number)) for number in range(25)]
    listed = limited([*holders, *holders])
    assert listed[:20] == tuple(holders[:20])
    assert str(listed[20]) == "and 5 more"
    assert limited(holders[:20]) == tuple(holders[:20])


def test_the_rest_is_added_to_the_count():
    assert str(limited([Holder("epoch", "1")], 7)[-1]) == "and 7 more"


def test_a_lease_that_nothing_visible_holds_is_said_to_be_held_by_what_is_invisible(ledger):
    (holder,) = find_holders(ledger.issue("x"))  # on this call's stack alone
    assert holder.kind == "lease"
    assert "native code, or the stack of a running call" in str(holder)


def test_of_many_leases_twenty_are_named(ledger):
    HOST.extend(ledger.issue("mine") for _ in range(50))
    holders = find_holders_of(ledger.live())
    assert str(holders[0]) == f"lease 'mine' in {__name__}.HOST[0]"
    assert str(holders[-1]) == "and 30 more"


def test_a_look_holds_nothing(ledger):
    module = types.ModuleType("host")
    module.kept = carry(lambda: None, ledger.issue("x"))
    (lease,) = ledger.live()
    find_holders(lease)
    del lease, module
    assert len(ledger) == 0
