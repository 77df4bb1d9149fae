"""A registry of live objects: each removal calls back once, and a look is whole."""

import gc

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
