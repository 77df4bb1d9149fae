"""A registry of live objects: each removal calls back once, and a look is whole."""

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from epochal._core.sync.weak_registry import WeakRegistry


class Thing:
    """An object that can die."""


def test_live_objects_are_listed_in_the_order_of_their_adding():
    registry = WeakRegistry()
    things = [Thing() for _ in range(3)]
    keys = [registry.add(thing) for thing in things]
    assert registry.live() == things
    assert len(registry) == 3
    assert all(key in registry for key in keys)


def test_a_death_removes_the_entry_and_calls_back_once():
    removed = []
    registry = WeakRegistry(lambda: removed.append(len(registry)))
    thing = Thing()
    key = registry.add(thing)
    del thing
    assert removed == [0], "called after the removal"
    assert key not in registry
    registry.drop(key)
    assert removed == [0]


def test_a_dropped_object_calls_back_once_though_it_dies_later():
    removed = []
    registry = WeakRegistry(lambda: removed.append(1))
    thing = Thing()
    key = registry.add(thing)
    registry.drop(key)
    registry.drop(key)
    del thing
    assert removed == [1]
    assert registry.live() == []


def test_a_cycle_calls_back_inside_the_collector():
    removed = []
    registry = WeakRegistry(lambda: removed.append(1))
    thing = Thing()
    thing.itself = thing
    registry.add(thing)
    del thing
    gc.collect()
    assert removed == [1]


class Blocks:
    """Its finalizer lets other threads run, and lets go of what it is given."""

    def __init__(self):
        self.entered, self.go_on, self.held = threading.Event(), threading.Event(), []
        self.me = self

    def __del__(self):
        self.held.clear()
        self.entered.set()
        assert self.go_on.wait(10)


@pytest.fixture
def collecting():
    """Collect in another thread; yields a garbage object whose finalizer blocks meanwhile."""
    gc.collect()
    gc.disable()
    with ThreadPoolExecutor(1) as pool:
        yield lambda: pool.submit(gc.collect)
    gc.enable()


def test_an_object_that_is_found_dead_counts_until_the_collection_has_ended(collecting):
    removed = []
    registry = WeakRegistry(lambda: removed.append(1))
    blocks = Blocks()
    entered, go_on = blocks.entered, blocks.go_on
    blocks.item = Thing()
    registry.add(blocks.item)
    del blocks
    collection = collecting()
    assert entered.wait(10)
    assert registry.live() == []
    assert len(registry) == 1
    assert not removed
    go_on.set()
    collection.result(10)
    assert (len(registry), removed) == (0, [1])


def test_an_object_that_a_finalizer_lets_go_of_is_gone_at_once(collecting):
    registry = WeakRegistry()
    blocks = Blocks()
    entered, go_on = blocks.entered, blocks.go_on

    held = blocks.held
    item = Thing()
    registry.add(item)
    held.append(item)
    del item, blocks
    collection = collecting()
    assert entered.wait(10)
    assert len(registry) == 0
    go_on.set()
    collection.result(10)


def test_an_object_that_dies_beside_a_collection_is_gone_at_once(collecting):
    registry = WeakRegistry()
    blocks = Blocks()
    entered, go_on = blocks.entered, blocks.go_on
    del blocks
    collection = collecting()
    assert entered.wait(10)
    registry.add(Thing())
    assert len(registry) == 0
    go_on.set()
    collection.result(10)


def interrupt(*_):
    """A callback of a weak reference that Ctrl-C meets, whose error is printed."""
    raise KeyboardInterrupt


def test_an_object_whose_callback_was_interrupted_is_swept_out(monkeypatch):
    removed = []
    registry = WeakRegistry(lambda: removed.append(1))
    kept, thing = Thing(), Thing()
    registry.add(kept)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)
        patch.setattr(WeakRegistry, "_on_death", interrupt)
        registry.add(thing)
        del thing
    assert len(registry) == 2
    assert not removed
    registry.sweep()
    assert registry.live() == [kept]
    assert removed == [1]


def test_a_sweep_within_a_collection_removes_nothing():
    """The finalizers of the same garbage may have yet to run."""

    class Finalized(Thing):
        def __del__(self):
            registry.sweep()
            counts.append(len(registry))

    registry, counts = WeakRegistry(), []
    cycle = [Finalized(), Thing()]
    cycle[0].other, cycle[1].other = cycle[1], cycle[0]
    registry.add(cycle[1])
    cycle.clear()
    gc.collect()
    assert counts == [1]
    assert len(registry) == 0
