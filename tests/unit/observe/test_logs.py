"""Each event has a level and a line of its own."""

import inspect
import logging

import pytest

from epochal import events as ev
from epochal.observe import logs

EVENTS = [
    one
    for _, one in inspect.getmembers(ev, inspect.isclass)
    if issubclass(one, ev.Event) and one is not ev.Event
]


def test_every_event_has_its_own_line():
    assert len(EVENTS) >= 17
    source = inspect.getsource(logs.describe)
    assert [one.__name__ for one in EVENTS if f"ev.{one.__name__}(" not in source] == []


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (
            ev.TickEnded(plugin="house", generation=2, job="house.sweep", took_ms=1.25),
            logging.DEBUG,
            "job house.sweep ran on house#2: 1.2 ms",
        ),
        (
            ev.TickFailed(
                plugin="house",
                generation=2,
                job="house.sweep",
                error="OSError: no",
                failures=3,
                wait_s=4.0,
            ),
            logging.ERROR,
            "job house.sweep failed, 3 in a row, not tried again for 4 s: OSError: no",
        ),
        (
            ev.TickFailed(
                plugin="house",
                generation=2,
                job="house.sweep",
                error="OSError: no",
                failures=3,
                wait_s=float("inf"),
            ),
            logging.ERROR,
            "job house.sweep failed, 3 in a row, not tried again until a reload: OSError: no",
        ),
        (
            ev.TickFailed(
                plugin="house",
                generation=2,
                job="house.sweep",
                error="OSError: no",
                failures=0,
                wait_s=0.0,
                by_hand=True,
            ),
            logging.ERROR,
            "job house.sweep failed when it was run by hand: OSError: no",
        ),
        (
            ev.TicksSkipped(plugin="house", job="house.sweep", count=3, reason="too late"),
            logging.WARNING,
            "job house.sweep: 3 ticks left out, too late",
        ),
        (
            ev.TicksSkipped(plugin="house", job="house.sweep", count=3, reason="still running"),
            logging.INFO,
            "job house.sweep: 3 ticks left out, still running",
        ),
        (
            ev.JobRefused(plugin="house", job="house.sweep", error="OverflowError: no"),
            logging.ERROR,
            "job house.sweep is not run: OverflowError: no",
        ),
        (
            ev.WorkersBusy(waiting=2, running=("a.b", "c.d")),
            logging.WARNING,
            "2 jobs are due and no worker is free; running: a.b, c.d",
        ),
        (
            ev.BreakerMoved(plugin="house", job="house.sweep", state="open"),
            logging.WARNING,
            "the circuit breaker of job house.sweep is open",
        ),
        (
            ev.FlowFailed(source="a.b", sink="c.d", error="OSError: no", failures=1, wait_s=1.0),
            logging.ERROR,
            "a.b -> c.d failed, goes on in 1 s: OSError: no",
        ),
    ],
)
def test_work_in_the_background_is_told(event, level, line):
    assert logs.describe(event) == (level, line)
