"""Collections are known to have run, or to have been refused."""

import gc
import threading
import weakref

from epochal._core.introspect import collector
from epochal._core.introspect.collector import collect, collect_soon


class Slow:
    """Its finalizer keeps the thread that collects it inside the collector."""

    def __init__(self):
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.itself = self

    def __del__(self):
        self.inside.set()
        self.go_on.wait(30)


def collecting():
    """Another thread within a collection, and the event that ends it."""
    gc.disable()
    try:
        slow = Slow()
        inside, go_on = slow.inside, slow.go_on
        del slow
        thread = threading.Thread(target=gc.collect)
        thread.start()
        assert inside.wait(30)
    finally:
        gc.enable()
    return thread, go_on


def test_a_collection_frees_a_cycle_and_reports_that_it_ran():
    cycle = Slow()
    cycle.go_on.set()
    alive = weakref.ref(cycle)
    del cycle
    assert collect()
    assert alive() is None


def test_a_refused_collection_is_reported():
    thread, go_on = collecting()
    assert not collect()
    assert not collect(0)
    go_on.set()
    thread.join(30)
    assert collect()


def test_collect_soon_waits_for_the_other_collection(monkeypatch):
    monkeypatch.setattr(collector, "_WAIT_S", 30.0)
    thread, go_on = collecting()
    before = gc.get_stats()[2]["collections"]
    waiting = threading.Thread(target=collect_soon)
    waiting.start()
    go_on.set()
    waiting.join(30)
    thread.join(30)
    assert gc.get_stats()[2]["collections"] >= before + 2


def test_collect_soon_gives_up_when_its_time_is_over(monkeypatch):
    monkeypatch.setattr(collector, "_WAIT_S", 0.02)
    thread, go_on = collecting()
    before = gc.get_stats()[2]["collections"]
    collect_soon()
    assert gc.get_stats()[2]["collections"] == before
    go_on.set()
    thread.join(30)


def test_collections_that_are_a_courtesy_take_a_small_share_of_the_time(monkeypatch):
    now, ran = [100.0], []

    def collecting_for_a_tenth_of_a_second(generation=2):
        ran.append(now[0])
        now[0] += 0.1
        return True

    monkeypatch.setattr(collector, "_last", (float("-inf"), 0.0))
    monkeypatch.setattr(collector, "monotonic", lambda: now[0])
    monkeypatch.setattr(collector, "collect", collecting_for_a_tenth_of_a_second)
    while now[0] < 200.0:
        collect_soon(seldom=True)
        now[0] += 0.5
    assert [round(at) for at in ran] == [100, 150]
    collect_soon()
    assert len(ran) == 3
