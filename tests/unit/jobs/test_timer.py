"""The timer calls once, at a time, on a thread that holds no lock of its own."""

from queue import SimpleQueue
from threading import Event
from time import time

import pytest

from epochal.jobs.timer import JobTimer


@pytest.fixture
def calls():
    return SimpleQueue()


@pytest.fixture
def timer(calls):
    timer = JobTimer(workers=2, on_timer=lambda name, by_hand: calls.put((name, by_hand, time())))
    yield timer
    timer.close()


def test_a_timer_expires_once_and_not_before_its_time(timer, calls):
    at = time() + 0.05
    timer.set("a.b", at)
    name, by_hand, when = calls.get(timeout=10)
    assert (name, by_hand) == ("a.b", False)
    assert when >= at
    timer.set("a.b", at - 1e6)  # long ago: at once, and no matter how long
    assert calls.get(timeout=10)[0] == "a.b"
    assert calls.empty()


def test_a_timer_that_is_set_again_expires_at_the_later_time_only(timer, calls):
    timer.set("a.b", time() + 3600.0)
    timer.set("a.b", time())
    timer.set("c.d", time() + 3600.0)
    assert calls.get(timeout=10)[0] == "a.b"
    timer.cancel("c.d")
    timer.cancel("c.d")
    timer.wake()
    assert timer._times == {}


def test_timers_that_are_moved_a_thousand_times_leave_no_heap_behind(timer):
    for number in range(1000):
        timer.set("a.b", time() + 3600.0 + number)
    assert len(timer._heap) < 100
    assert min(timer._heap)[0] <= timer._times["a.b"]


def test_run_now_leaves_the_timer_set(timer, calls):
    timer.set("a.b", time() + 3600.0)
    timer.run_now("a.b")
    assert calls.get(timeout=10)[:2] == ("a.b", True)
    assert len(timer._times) == 1


def test_a_call_may_set_timers(calls):
    def on_timer(name, by_hand):
        if not by_hand:
            timer.run_now(name)  # would wait for ever if the timer's lock were held
        calls.put(by_hand)

    timer = JobTimer(workers=1, on_timer=on_timer)
    timer.set("a.b", time())
    assert [calls.get(timeout=10) for _ in range(2)] == [False, True]
    timer.close()


def test_calls_of_one_name_may_overlap(calls):
    go_on = Event()
    timer = JobTimer(workers=2, on_timer=lambda name, _: (calls.put(name), go_on.wait(10)))
    timer.set("a.b", time())
    assert calls.get(timeout=10) == "a.b"
    timer.set("a.b", time())
    assert calls.get(timeout=10) == "a.b"
    go_on.set()
    timer.close()


def test_close_during_a_call(calls):
    # APScheduler's thread once raised: it looked for the alarm that it was about to take out.
    for _ in range(50):
        timer = JobTimer(workers=1, on_timer=lambda name, _: calls.put(name))
        timer.set("a.b", time())
        assert calls.get(timeout=10) == "a.b"
        timer.close()


def test_close_ends_the_thread(timer):
    timer.close()
    timer._thread.join(10)
    assert not timer._thread.is_alive()


def test_close_is_idempotent(timer, calls):
    timer.stop()
    timer.run_now("a.b")
    timer.close()
    timer.close()
    timer.stop()
    assert calls.empty()
