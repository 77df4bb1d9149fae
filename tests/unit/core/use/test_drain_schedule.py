"""When a waiting drain asks the collector: young generations first, a full one late and rarely."""

import itertools
import math
import sys

import pytest

from epochal._core.use import drain_schedule
from epochal._core.use.drain_schedule import CollectionSchedule


class Clock:
    """A manual clock, and the collections that were asked for."""

    def __init__(self):
        self.now, self.asked, self.is_refused = 100.0, [], False

    def collect(self, generation):
        self.asked.append((round(self.now - 100.0, 3), generation))
        return not self.is_refused


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(drain_schedule, "monotonic", lambda: clock.now)
    monkeypatch.setattr(drain_schedule, "collect", clock.collect)
    return clock


def run(schedule, clock, until):
    while clock.now < 100.0 + until and not schedule.is_over:
        clock.now += schedule.until_next()
        schedule.collect()


def test_young_collections_come_first_and_full_ones_each_minute(clock):
    run(CollectionSchedule(None), clock, until=130)
    assert clock.asked == [
        (0.05, 0),
        (0.25, 1),
        (1.0, 1),
        (5.0, 2),
        (65.0, 2),
        (125.0, 2),
        (185.0, 2),
    ]


def test_nothing_is_collected_before_it_is_due(clock):
    schedule = CollectionSchedule(None)
    clock.now += 0.04
    schedule.collect()
    assert clock.asked == []
    assert math.isclose(schedule.until_next(), 0.01)


def test_a_refused_collection_is_retried(clock):
    schedule, clock.is_refused = CollectionSchedule(None), True
    run(schedule, clock, until=0.12)
    assert clock.asked == [(0.05, 0), (0.1, 0), (0.15, 0)]


def test_the_time_limit_ends_the_wait(clock):
    schedule = CollectionSchedule(0.1)
    assert not schedule.is_over
    clock.now += 0.05
    schedule.collect()
    assert math.isclose(schedule.until_next(), 0.05)
    clock.now += 0.05
    assert schedule.is_over
    assert schedule.until_next() == 0.0
    assert math.isclose(schedule.waited, 0.1)


def is_interrupted(work, number):
    """Raise before this bytecode of the schedule's code; returns whether there is one."""
    numbers = itertools.count()

    def step(frame, event, _):
        frame.f_trace_opcodes = True
        if event == "opcode" and next(numbers) == number:
            raise KeyboardInterrupt
        return step

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # CPython 3.12 asks for it before the first trace
    sys.settrace(lambda frame, *_: step if frame.f_globals is vars(drain_schedule) else None)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_schedule_that_was_interrupted_anywhere_goes_on(clock):
    for number in itertools.count():
        clock.now = 100.0
        schedule = CollectionSchedule(None)
        clock.now, clock.asked = 100.05, []
        if not is_interrupted(schedule.collect, number):
            break
        run(schedule, clock, until=5)
        assert clock.asked[-1] == (5.0, 2), number
    assert number > 20
