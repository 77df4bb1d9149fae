"""Leases and their ledger: each release counts once, and wakes the waits that it satisfies."""

import os
import threading

import pytest

from epochal._core.use.drain_wakeup import Ledger, wakeup_of
from epochal._core.use.lease import RevocableLease
from epochal.errors import ForkedRuntimeError


@pytest.fixture
def ledger():
    return Ledger()


def test_a_lease_ends_by_its_release_and_once(ledger):
    lease, other = ledger.issue("one"), ledger.issue("other")
    lease.release()
    lease.release()
    assert lease.released
    assert ledger.live() == [other]
    assert (repr(lease), repr(other)) == ("<lease one (released)>", "<lease other>")


def test_a_lease_ends_with_its_block_or_its_last_reference(ledger):
    with ledger.issue("block") as lease:
        assert ledger.is_alive(lease)
    assert not ledger.is_alive(lease)
    ledger.issue("dropped")
    assert len(ledger) == 0


def test_a_taken_back_lease_ends_though_its_carrier_is_kept(ledger):
    revocable = RevocableLease(ledger.issue("required"), "weather#1")
    revocable.release()
    revocable.release()
    assert len(ledger) == 0
    assert revocable.dependent == "weather#1"


def test_the_release_that_satisfies_a_wait_wakes_it_and_no_other_does(ledger):
    leases = [ledger.issue(str(number)) for number in range(3)]
    waiter = ledger.waiter(threshold=1)
    leases[0].release()
    assert waiter.wake.empty()
    leases[1].release()
    assert waiter.wake.get(timeout=10) is not None
    assert waiter.is_satisfied
    waiter.close()
    leases[2].release()
    assert waiter.wake.empty()


def test_several_waits_may_share_a_queue(ledger):
    lease, first = ledger.issue("one"), ledger.waiter()
    second = ledger.waiter(wake=first.wake)
    lease.release()
    assert first.wake.qsize() == 2
    assert second.is_satisfied


def test_a_wait_returns_how_long_the_wake_up_took(ledger):
    lease, waiter = ledger.issue("one"), ledger.waiter()
    releasing = threading.Timer(0.02, lease.release)
    releasing.start()
    drained = waiter.wait(10)
    releasing.join()
    assert drained.waited >= 0.01
    assert drained.wakeup < 5


def test_a_wait_for_nothing_returns_at_once_without_a_wake_up(ledger):
    assert ledger.waiter().wait(0).wakeup is None
    assert wakeup_of(None) is None


def test_a_wait_ends_without_a_result_when_its_time_is_over_or_it_is_cancelled(ledger):
    lease = ledger.issue("one")
    assert ledger.waiter().wait(0.01) is None
    waiter = ledger.waiter()
    waiter.cancel()
    assert waiter.wait(10) is None
    assert not lease.released
    assert ledger._waiters == ()


def test_a_cycle_is_collected_while_a_thread_waits(ledger):
    holder = [ledger.issue("in a cycle")]
    holder.append(holder)
    del holder
    assert ledger.waiter().wait(10) is not None


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_wait_in_a_fork_is_refused(ledger):
    lease = ledger.issue("of the parent")
    pid = os.fork()
    if pid == 0:
        try:
            ledger.waiter().wait(10)
        except ForkedRuntimeError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not lease.released
