"""A reload took garbage for a leak because another thread was within a collection.

Found by the test of `docutils`, on a busy machine. The interpreter refuses a collection
silently while another thread runs one, which lasts for as long as a finalizer in it; and the
garbage that it has found is in no table meanwhile, so native code seemed to hold it.
"""

import gc
import threading
import time

import pytest
from tests.conftest import tool

from epochal._core.use.drain_schedule import CollectionSchedule

CODE = """
from tests.conftest import tool

class Node:
    pass

@tool
def node(): return Node()
"""


class Slow:
    """Its finalizer, which a collection runs, waits."""

    def __init__(self) -> None:
        self.is_waiting = threading.Event()
        self.may_end = threading.Event()

    def __del__(self) -> None:
        self.is_waiting.set()
        assert self.may_end.wait(30)


@pytest.fixture
def collecting(rt, plugins):
    """An instance of a plugin's class is garbage, and another thread is collecting it."""
    rt.load(plugins.write("tree", CODE))
    node = rt.epoch[tool]["tree.node"]()
    node.itself, node.slow = node, Slow()
    is_waiting, may_end = node.slow.is_waiting, node.slow.may_end
    thread = threading.Thread(target=gc.collect)
    gc.disable()  # so that the other thread's collection finds it
    try:
        del node
        thread.start()
        assert is_waiting.wait(30)
    finally:
        gc.enable()
    yield may_end
    may_end.set()
    thread.join(30)


def test_garbage_that_another_thread_collects_is_not_a_leak(rt, collecting):
    timer = threading.Timer(0.2, collecting.set)
    timer.start()
    cut = rt.reload("tree")
    timer.join()
    assert cut.reclaimed, cut.leaks


def test_a_collection_that_does_not_end_is_named(rt, collecting):
    cut = rt.reload("tree")
    assert not cut.reclaimed
    assert any("another thread is within a collection" in leak for leak in map(str, cut.leaks)), (
        cut.leaks
    )


def test_a_refused_collection_is_retried(collecting):
    schedule = CollectionSchedule(None)
    time.sleep(schedule.until_next())
    schedule.collect()
    assert schedule.until_next() <= 0.05
