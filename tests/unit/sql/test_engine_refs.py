"""The wait for what the engine may still call."""

import gc

import pytest

from epochal.sql.engine_refs import EngineRef, EngineRefs


@pytest.fixture(autouse=True)
def no_collection():
    gc.disable()
    yield
    gc.enable()


def test_an_object_in_a_cycle_of_references_is_waited_for_no_longer_than_a_collection():
    """The traceback of a cancelled task's error may hold one so."""
    refs = EngineRefs()
    cycle = [refs.track(EngineRef())]
    cycle.append(cycle)
    del cycle
    assert refs.wait_empty(timeout=30)


def test_an_object_that_is_alive_is_waited_for_no_longer_than_the_timeout():
    refs = EngineRefs()
    alive = refs.track(EngineRef())
    assert not refs.wait_empty(timeout=0.0)
    assert not refs.wait_empty(timeout=0.1)
    del alive
    assert refs.wait_empty(timeout=0.0)
