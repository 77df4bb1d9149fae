"""The alarm clock: it rings at a time, once, on a thread that holds no lock of its own."""

from queue import SimpleQueue
from threading import Event
from time import time

import pytest

from epochal.jobs.timer import Timetable


@pytest.fixture
def rung():
    return SimpleQueue()


@pytest.fixture
def table(rung):
    table = Timetable(workers=2, ring=lambda name, by_hand: rung.put((name, by_hand, time())))
    yield table
    table.close()


def test_it_rings_once_and_not_before_its_time(table, rung):
    at = time() + 0.05
    table.put("a.b", at)
    name, by_hand, when = rung.get(timeout=10)
    assert (name, by_hand) == ("a.b", False)
    assert when >= at
    table.put("a.b", at - 1e6)  # long ago: at once, and no matter how long
    assert rung.get(timeout=10)[0] == "a.b"
    assert rung.empty()


def test_what_is_put_again_rings_at_the_later_word_only(table, rung):
    table.put("a.b", time() + 3600.0)
    table.put("a.b", time())
    table.put("c.d", time() + 3600.0)
    assert rung.get(timeout=10)[0] == "a.b"
    table.drop("c.d")
    table.drop("c.d")
    table.wake()
    assert table._scheduler.get_jobs() == []


def test_by_hand_is_beside_what_is_set(table, rung):
    table.put("a.b", time() + 3600.0)
    table.put_now("a.b")
    assert rung.get(timeout=10)[:2] == ("a.b", True)
    assert len(table._scheduler.get_jobs()) == 1


def test_whoever_is_rung_may_set_alarms(rung):
    def ring(name, by_hand):
        if not by_hand:
            table.put_now(name)  # would wait for ever if the clock's lock were held
        rung.put(by_hand)

    table = Timetable(workers=1, ring=ring)
    table.put("a.b", time())
    assert [rung.get(timeout=10) for _ in range(2)] == [False, True]
    table.close()


def test_rings_that_overlap_all_come(rung):
    go_on = Event()
    table = Timetable(workers=2, ring=lambda name, _: (rung.put(name), go_on.wait(10)))
    table.put("a.b", time())
    assert rung.get(timeout=10) == "a.b"
    table.put("a.b", time())
    assert rung.get(timeout=10) == "a.b"
    go_on.set()
    table.close()


def test_it_is_closed_while_it_rings(rung):
    # Its thread once raised, looking for the alarm that it was about to take out.
    for _ in range(50):
        table = Timetable(workers=1, ring=lambda name, _: rung.put(name))
        table.put("a.b", time())
        assert rung.get(timeout=10) == "a.b"
        table.close()


def test_it_is_closed_as_often_as_somebody_likes(table, rung):
    table.pause()
    table.put_now("a.b")
    table.close()
    table.close()
    table.pause()
    assert rung.empty()
