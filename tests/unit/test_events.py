"""Events reach every subscriber in order, and no subscriber delays or breaks the emitter."""

import threading

from epochal import events as module
from epochal.events import EventsMissed, EventStream, ShutdownFailed, SubscriberFailed


def event(n):
    return ShutdownFailed(plugin="geo", generation=n, error="x")


def test_every_subscriber_gets_the_events_in_order():
    stream, first, second = EventStream(), [], []
    stream.subscribe(first.append)
    stream.subscribe(second.append)
    for n in range(100):
        stream.emit(event(n))
    stream.close()
    assert [e.generation for e in first] == list(range(100))
    assert first == second


def test_a_subscriber_that_blocks_delays_no_other():
    stream, gate, got = EventStream(), threading.Event(), []
    stream.subscribe(lambda _: gate.wait(20))
    stream.subscribe(got.append)
    done = threading.Event()
    stream.subscribe(lambda e: done.set() if e.generation == 2 else None)
    for n in range(3):
        stream.emit(event(n))
    assert done.wait(10), "the others got theirs"
    gate.set()
    stream.close()
    assert len(got) == 3


def test_a_subscriber_that_raises_is_reported_to_the_others():
    stream, got, calls = EventStream(), [], []

    def bad(e):
        calls.append(e)
        raise ValueError("mine")

    stream.subscribe(bad)
    stream.subscribe(got.append)
    stream.emit(event(0))
    stream.emit(event(1))
    stream.close()
    assert len([e for e in calls if isinstance(e, ShutdownFailed)]) == 2
    assert any(isinstance(e, SubscriberFailed) and "mine" in e.error for e in got)
    assert not any(isinstance(e, SubscriberFailed) for e in calls), "not to itself"


def test_unsubscribe_ends_the_events_and_is_idempotent():
    stream, got = EventStream(), []
    stop = stream.subscribe(got.append)
    stop()
    stop()
    stream.emit(event(0))
    stream.close()
    assert got == []


def test_a_slow_subscriber_gets_the_number_of_missed_events(monkeypatch):
    monkeypatch.setattr(module, "BACKLOG", 10)
    stream, gate, began, got = EventStream(), threading.Event(), threading.Event(), []

    def slow(e):
        began.set()
        gate.wait(20)
        got.append(e)

    stream.subscribe(slow)
    stream.emit(event(0))
    assert began.wait(10)
    for n in range(1, 50):
        stream.emit(event(n))
    gate.set()
    stream.emit(event(50))
    stream.close()
    missed = [e for e in got if isinstance(e, EventsMissed)]
    assert sum(e.count for e in missed) >= 1
    assert sum(e.count for e in missed) + len(got) - len(missed) <= 51


def test_a_closed_stream_delivers_nothing():
    stream, got = EventStream(), []
    stream.subscribe(got.append)
    stream.close()
    stream.emit(event(0))
    assert got == []
