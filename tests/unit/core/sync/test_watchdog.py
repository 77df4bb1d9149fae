"""The watchdog: exactly one of an end in time and an expiry happens."""

import os
import threading
from time import monotonic

import pytest

from epochal._core.sync.watchdog import Watchdog


@pytest.fixture
def dog():
    return Watchdog()


def test_work_that_ends_in_time_is_not_expired(dog):
    expired = []
    watch = dog.watch(60, lambda: expired.append(1))
    assert watch.end()
    watch.expire()
    assert expired == []


def test_work_that_takes_too_long_expires_and_its_end_comes_too_late(dog):
    expired = threading.Event()
    watch = dog.watch(0.01, expired.set)
    assert expired.wait(10)
    assert not watch.end()


def test_an_earlier_deadline_wakes_the_sleeping_thread(dog):
    expired = threading.Event()
    dog.watch(60, lambda: None)
    began = monotonic()
    dog.watch(0.01, expired.set)
    assert expired.wait(10)
    assert monotonic() - began < 10


def test_a_watch_without_a_limit_expires_by_hand_once(dog):
    expired = []
    watch = dog.watch(None, lambda: expired.append(1))
    watch.expire()
    watch.expire()
    assert expired == [1]
    assert not watch.end()


def test_of_an_end_and_an_expiry_one_wins():
    for _ in range(200):
        dog, expired = Watchdog(), []
        watch = dog.watch(None, lambda expired=expired: expired.append(1))
        thread = threading.Thread(target=watch.expire)
        thread.start()
        ended = watch.end()
        thread.join(10)
        assert ended is not bool(expired)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_has_a_watchdog_thread_of_its_own(dog):
    dog.watch(60, lambda: None).end()
    pid = os.fork()
    if pid == 0:
        try:
            expired = threading.Event()
            dog.watch(0.01, expired.set)
            os._exit(0 if expired.wait(10) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
