"""Questions about a generation, answered without holding it in use."""

import threading

import pytest

from epochal._core.generation.diagnosis import (
    cancel_holders_of,
    holders_of,
    known_holders_of,
)

CODE = """
import threading
inside, go = threading.Event(), threading.Event()
def helper():
    inside.set()
    go.wait(20)
@tool
def start():
    thread = threading.Thread(target=helper, name="geo-helper", daemon=True)
    thread.start()
    inside.wait(20)
    return go, thread
"""


@pytest.fixture
def generation(rt, plugins):
    rt.load(plugins.write("geo", CODE))
    return rt.generation("geo")


def test_a_labelled_operation_is_a_known_holder(rt, generation):
    with rt.operation("nightly report"):
        assert any("nightly report" in str(holder) for holder in known_holders_of(generation))
        assert any("nightly report" in str(holder) for holder in holders_of(generation))
    assert not known_holders_of(generation)


def test_asking_holds_nothing(rt, generation):
    epoch = rt.epoch
    assert holders_of(generation)
    del epoch
    rt.remove("geo")
    assert generation.live_lease() is None
    assert holders_of(generation) == ()


def test_a_thread_on_the_plugins_own_helper_is_a_straggler(rt, generation):
    from tests.conftest import tool

    go, thread = rt.epoch[tool]["geo.start"]()
    assert [straggler.name for straggler in generation.stragglers()] == ["geo-helper"]
    go.set()
    thread.join(10)
    assert generation.stragglers() == ()


def test_cancelling_asks_operations_and_reports_a_failing_callback(rt, generation):
    cancelled = threading.Event()
    with rt.operation("first") as first, rt.operation("second") as second:
        first.on_cancel(cancelled.set)
        second.on_cancel(lambda: 1 / 0)
        asked = cancel_holders_of(generation)
        assert sorted(holder.name for holder in asked) == ["first", "second"]
        assert cancelled.is_set()
        assert second.cancelled
    assert any("second" in line for line in generation.failures)
    generation.failures.clear()
