"""The watchdog: exactly one of an end in time and a successor happens; nothing ends its thread."""

import os
import threading
from time import monotonic

import pytest

from epochal._core.sync import watchdog as watchdog_module
from epochal._core.sync.threads import start_thread
from epochal._core.sync.watchdog import Watch, Watchdog, watchdog

LIMIT_S = 20


@pytest.fixture
def dog():
    return Watchdog()


class Work:
    """Watched work; its successor notes that it took over."""

    def __init__(self, dog, timeout):
        self.tried, self.taken_over = threading.Event(), []
        self.watch = Watch(dog, timeout, self._succeed)
        self.watch.begin()

    def _succeed(self, watch):
        def succeed():
            self.taken_over += [1] * watch.take_over()
            self.tried.set()

        start_thread(succeed, name="successor")


def test_work_that_ends_in_time_has_no_successor(dog):
    work = Work(dog, 60)
    assert work.watch.end()
    work.watch.expire()
    other = Work(dog, 0.0)  # by then the watchdog has looked
    assert other.tried.wait(LIMIT_S)
    assert not work.tried.is_set()


def test_work_that_takes_too_long_has_a_successor_and_its_end_comes_too_late(dog):
    work = Work(dog, 0.01)
    assert work.tried.wait(LIMIT_S)
    assert not work.watch.end()
    assert work.taken_over == [1]


def test_an_earlier_deadline_wakes_the_sleeping_thread(dog):
    began = monotonic()
    Work(dog, 60)
    assert Work(dog, 0.01).tried.wait(LIMIT_S)
    assert monotonic() - began < 30


def test_a_watch_without_a_limit_expires_by_hand_once(dog):
    work = Work(dog, None)
    work.watch.expire()
    work.watch.expire()
    assert work.tried.wait(LIMIT_S)
    assert not work.watch.end()
    assert work.taken_over == [1]


def test_of_an_end_and_a_successor_one_wins(dog):
    for _ in range(200):
        work = Work(dog, None)
        work.watch.expire()
        ended = work.watch.end()
        if not ended:
            assert work.tried.wait(LIMIT_S)
        assert ended is not bool(work.taken_over)


@pytest.mark.parametrize("error", [RuntimeError("no thread"), MemoryError(), SystemExit()])
def test_a_callback_that_fails_is_called_again_and_delays_no_other(dog, error):
    called, done = [], threading.Event()

    def fail_at_first(watch):
        called.append(1)
        if len(called) < 4:
            raise error
        done.set()

    watch = Watch(dog, 0.0, fail_at_first)
    watch.begin()
    assert Work(dog, 0.01).tried.wait(LIMIT_S)
    assert done.wait(LIMIT_S)
    assert watch.end()


def test_nothing_that_is_raised_in_its_thread_ends_it(dog, monkeypatch):
    work, monotonic_, raised = Work(dog, 60), watchdog_module.monotonic, []

    def fail_three_times():
        if threading.current_thread() is dog._thread and len(raised) < 3:
            raised.append(1)
            raise MemoryError
        return monotonic_()

    monkeypatch.setattr(watchdog_module, "monotonic", fail_three_times)
    work.watch.expire()
    assert work.tried.wait(LIMIT_S)
    assert len(raised) == 3


def test_a_limit_beyond_the_longest_wait_of_the_interpreter_is_no_fault(dog):
    Work(dog, 1e12)
    Work(dog, float("inf"))
    assert Work(dog, 0.01).tried.wait(LIMIT_S)


def test_a_watch_fails_where_the_thread_cannot_be_started_and_works_afterwards(dog, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="changed"):
        patch.setattr(threading.Thread, "start", refuse)
        Work(dog, 0.01)
    assert Work(dog, 0.01).tried.wait(LIMIT_S)


def refuse(thread):
    raise RuntimeError("can't start new thread")


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_has_a_watchdog_thread_of_its_own(dog):
    Work(dog, 60).watch.end()
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if Work(dog, 0.01).tried.wait(10) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_expires_nothing_of_its_parent():
    parents = Work(watchdog, 0.3)
    pid = os.fork()
    if pid == 0:
        try:
            own = Work(watchdog, 0.6)  # later than its parent's
            os._exit(0 if own.tried.wait(20) and not parents.tried.is_set() else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert parents.tried.wait(20)
