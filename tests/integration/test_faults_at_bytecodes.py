"""Whatever is raised, at whatever instant, a change is whole or undone, and the next one works."""

import random
import sys
import threading

import pytest
from tests.conftest import set_aside
from tests.integration.faults import (
    ACTIONS,
    CALLER,
    CASES,
    CHANGE,
    World,
    call_failing,
    fail_at,
    places,
)
from tests.sizes import IS_WHOLE, sized

from epochal.errors import NoThreadError
from epochal.loaders._module_registry import leave

SEED = 20_261_129
SAMPLE = sized(6, 100)

every_bytecode = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="CPython 3.13 tells a tracer of few of a thread's bytecodes"
)


@pytest.fixture
def world(plugins):
    set_aside()  # what other tests left takes no part in the many looks at the heap
    world = World(plugins)
    yield world
    world.close()
    for name in [name for name in sys.modules if name.startswith(("geo__", "units__", "bad__"))]:
        leave(name.partition(".")[0], ())  # a fault here must not fail the tests that come after


@every_bytecode
@pytest.mark.parametrize(("action", "role"), CASES, ids=lambda word: word)
def test_a_fault_at_any_bytecode_leaves_the_old_epoch_or_the_new_one_whole(world, action, role):
    """`make test-hours` tries every bytecode; a test run a sample."""
    found = places(world, action, role)
    assert len(found) > (100 if role == CALLER else 4000)
    if not IS_WHOLE:
        chosen = random.Random(f"{SEED} {action} {role}")
        found = chosen.sample(found, min(SAMPLE, len(found)))
    reached = 0
    for place in found:
        try:
            reached += fail_at(world, action, role, place)
        except AssertionError as error:
            error.add_note(f"a fault in {action} before {place}, in the {role}'s thread")
            raise
    assert reached >= len(found) // 2


@every_bytecode
def test_a_fault_as_a_generation_is_released_leaves_no_module_behind(world):
    for place in places(world, "reload", CHANGE):
        if place.function == "Generation.release":
            fail_at(world, "reload", CHANGE, place)
            assert len([name for name in sys.modules if name.startswith("geo__")]) == 1, place


@every_bytecode
def test_a_fault_at_any_bytecode_of_a_wait_for_the_collector_loses_no_generation(world):
    waits = ("Retirement._is_overdue", "Retirement._drain", "Waiter.", "Ledger.", "Collection")
    found = [p for p in places(world, "collected", CHANGE) if p.function.startswith(waits)]
    assert len(found) > 100
    for place in found if IS_WHOLE else random.Random(SEED).sample(found, SAMPLE):
        assert fail_at(world, "collected", CHANGE, place), place


@every_bytecode
@pytest.mark.parametrize("function", ["Staging.publish", "Executor._undo", "Executor._answer"])
def test_a_fault_at_any_line_around_the_commit_is_not_half_of_one(world, function):
    action = "refused" if function == "Executor._undo" else "reload"
    lines = {p.source_line: p for p in places(world, action, CHANGE) if p.function == function}
    assert len(lines) >= 4
    for place in lines.values():
        assert fail_at(world, action, CHANGE, place)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("action", [a for a in ACTIONS if a not in {"operation", "lease"}])
def test_each_thread_that_cannot_be_started_costs_its_caller_alone(
    world, action, error, monkeypatch
):
    start = threading.Thread.start

    def refuse_one(thread):
        starts.append(thread.name)
        if len(starts) == number:
            raise error("can't start new thread")
        start(thread)

    for number in range(1, 20):
        world.prepare(action)
        starts = []
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_one)
            seen = call_failing(world, action, error, NoThreadError)
        world.check(seen)
        if len(starts) < number:
            break
    assert number > 1


@pytest.mark.parametrize("action", ["load", "close"])
def test_a_thread_that_dies_before_it_runs_its_change_costs_its_caller_alone(
    world, action, monkeypatch
):
    def die(self):
        del self._target
        raise MemoryError

    world.prepare(action)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "run", die)
        with pytest.raises(NoThreadError, match="ended before it began"):
            getattr(world, action)()
    world.check(world.rt.epoch.number)
