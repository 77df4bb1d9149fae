"""Each event has a level and a line of its own."""

import inspect
import json
import logging
from datetime import datetime

import pytest

from epochal import LifecycleState, events, watch
from epochal.events import Event
from epochal.jobs import events as ev
from epochal.observe.logs import JsonLines, TextLines, log_events
from epochal.report import Swap, Version
from epochal.sql.database import _label

EVENTS = {
    event
    for module in (events, ev, watch)
    for _, event in inspect.getmembers(module, inspect.isclass)
    if issubclass(event, Event) and event is not Event
}


def test_every_event_has_its_own_line():
    assert len(EVENTS) >= 22
    assert [e.__name__ for e in EVENTS if not {"_TEXT", "describe"} & vars(e).keys()] == []


def test_an_event_of_a_hosts_own_needs_no_table():
    class Sold(Event):
        pass

    assert (Sold(at=0.0).level, Sold(at=0.0).describe()) == (logging.INFO, repr(Sold(at=0.0)))


RELOADED = "reload vat 1.0 -> 1.1 (epoch 2, by watch)"


def committed(*swaps, reason):
    """The event of a change of these: plugin, old version and new version."""
    made = tuple(
        Swap(
            plugin,
            old and Version(plugin, 0, old, f"{old}:a"),
            new and Version(plugin, 1, new, f"{new}:b"),
        )
        for plugin, old, new in swaps
    )
    return events.ChangeCommitted(
        change=3,
        epoch_before=1,
        epoch_after=2,
        plugins=tuple(swap.plugin for swap in made),
        swaps=made,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (
            events.StateChanged(
                plugin="geo", generation=1, old=LifecycleState.LOADED, new=LifecycleState.LINKED
            ),
            logging.DEBUG,
            "geo#1 LOADED -> LINKED",
        ),
        (
            events.ChangeStarted(change=3, steps=("link geo", "publish")),
            logging.DEBUG,
            "change 3 started: link geo; publish",
        ),
        (
            events.ChangeCommitted(
                change=3, epoch_before=1, epoch_after=2, plugins=("geo", "units")
            ),
            logging.INFO,
            "geo, units (epoch 2)",
        ),
        (committed(("vat", "1.0", "1.1"), reason="watch: vat.py"), logging.INFO, RELOADED),
        (
            committed(("vat", "1.0", "1.0"), ("geo", None, "2"), reason="http: new radius"),
            logging.INFO,
            "reload vat 1.0 (1.0:a -> 1.0:b), load geo 2 (epoch 2, by http: new radius)",
        ),
        (
            committed(("vat", "1.1", None), reason="close"),
            logging.INFO,
            "remove vat 1.1 (epoch 2, by close)",
        ),
        (committed(reason="close"), logging.DEBUG, "no plugin (epoch 2, by close)"),
        (
            events.StateDropped(plugin="geo", generation=1, dropped=("a", "b")),
            logging.WARNING,
            "geo#1 has no place for a; b",
        ),
        (
            events.ChangeFailed(change=3, code="link", error="no {name}"),
            logging.ERROR,
            "change 3 rolled back [link]: no {name}",
        ),
        (
            events.DrainTimedOut(plugin="geo", generation=1, waited=2.04, holders=("a", "b")),
            logging.WARNING,
            "geo#1 still in use after 2.0 s, drains on: a; b",
        ),
        (
            events.DrainTimedOut(plugin="geo", generation=1, waited=0.0, holders=("a",)),
            logging.INFO,
            "geo#1 still in use after 0.0 s, drains on: a",
        ),
        (
            events.ChangeFailed(change=3, code="link", error="no", reason="watch: geo.py"),
            logging.DEBUG,
            "change 3 rolled back [link]: no",
        ),
        (
            events.HoldersAsked(plugin="geo", generation=1, holders=()),
            logging.WARNING,
            "geo#1 asked to stop: no holder that can be asked",
        ),
        (
            events.ShutdownFailed(plugin="geo", generation=1, error="OSError: no"),
            logging.ERROR,
            "geo#1 shutdown: OSError: no",
        ),
        (
            events.GenerationLeaked(plugin="geo", generation=1, leaks=("a", "b")),
            logging.WARNING,
            "geo#1 is still in memory: a; b",
        ),
        (events.StoreFaulted(error="full"), logging.WARNING, "store: full"),
        (
            events.SubscriberFailed(subscriber="f", error="OSError: no"),
            logging.ERROR,
            "subscriber f raised OSError: no",
        ),
        (
            events.EventsMissed(count=7),
            logging.WARNING,
            "at least 7 events were missed: this log is too slow",
        ),
        (
            watch.SourceRefused(path="p/geo.py", code="link", error="no"),
            logging.ERROR,
            "p/geo.py refused [link]: no",
        ),
        (
            watch.SourceGone(path="p/geo.py", plugin="geo"),
            logging.WARNING,
            "p/geo.py is gone, geo serves on",
        ),
    ],
)
def test_events_of_changes_and_of_the_watcher_describe_themselves(event, level, line):
    assert (event.level, event.describe()) == (level, line)


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
def test_events_of_jobs_and_streams_describe_themselves(event, level, line):
    assert (event.level, event.describe()) == (level, line)


def test_a_record_has_the_facts_and_an_iso_time():
    log = logging.Logger("facts", logging.DEBUG)
    records = []
    log.addHandler(handler := logging.Handler())
    handler.emit = records.append
    stream = events.EventStream()
    stop = log_events(stream, log)
    stream.emit(committed(("vat", "1.0", "1.1"), reason="watch: vat.py"))
    stream.emit(events.ChangeFailed(change=4, code="link", error="no", reason="http"))
    stop()
    done, failed = records
    assert (done.plugin, done.version, done.verb, done.epoch) == ("vat", "1.1", "reload", 2)
    assert done.reason == "watch: vat.py"
    assert (failed.code, failed.reason) == ("link", "http")
    line = json.loads(JsonLines().format(done))
    assert line["verb"] == "reload"
    text = TextLines().format(done)
    assert text.endswith(f" INFO    {RELOADED}")
    for at in (line["at"], text.split()[0]):
        assert abs(datetime.fromisoformat(at).timestamp() - done.created) < 0.01


@pytest.mark.parametrize(
    ("sql", "label"),
    [
        ("SELECT f('it''s',  1.5e3, $1)", "SELECT f(?, ?, $1)"),
        ("SELECT 1 -- don't say 'this'\n, 'x'", "SELECT ? , ?"),
        ('SELECT "a\'b", t2.c3 /* \'x */ FROM t WHERE a = \'open', 'SELECT "a\'b", t2.c3 FROM t '
         "WHERE a = ?"),
        ("SELECT $$it's secret$$, $tag$se$$cret$tag$, $1", "SELECT ?, ?, $1"),
        (r"SELECT E'it\'s secret', e'a', date'b'", "SELECT ?, ?, date?"),
        ("SELECT $$open and secret", "SELECT ?"),
    ],
)  # fmt: skip
def test_a_query_is_named_without_its_literals(sql, label):
    assert _label(sql) == label
