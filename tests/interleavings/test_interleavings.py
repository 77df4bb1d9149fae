"""Each program keeps its promise under every schedule of its bound, and its breakage is caught."""

import gc
import threading
import time
from queue import SimpleQueue

import pytest

from epochal._core.change import plugin_calls
from epochal._core.introspect.collector import collect
from epochal._core.sync.watchdog import watchdog
from epochal._core.use import drain_schedule, drain_wakeup
from tests.documents import ATTACKS, table_in
from tests.interleavings.catalogue import PROGRAMS, table
from tests.interleavings.exploring import explore, explore_orderings, quick
from tests.sizes import IS_LONG, IS_WHOLE

each_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
# A soak goes through some hundred thousand schedules.
within = pytest.mark.timeout(7200 if IS_WHOLE else 300)


@within
@each_program
def test_the_promise_holds(program):
    bound = program.bound if IS_LONG else quick(program.bound)
    explored = explore(program, bound)
    assert explored.failure is None, f"{program.promise}\n{explored.failure}"
    assert explored.schedules >= bound.at_least
    assert explored.steps >= 10 * len(program.threads)


@within
@each_program
def test_the_breakage_is_caught(program):
    explored = explore(program, broken=True)
    assert explored.failure is not None, f"missed by {explored.schedules} schedules"


@pytest.mark.parametrize(
    "program", [p for p in PROGRAMS if p.orderings], ids=lambda program: program.name
)
def test_the_promise_holds_in_every_ordering_and_the_breakage_is_caught(program):
    explored = explore_orderings(program)
    assert explored.failure is None, f"{program.promise}\n{explored.failure}"
    assert explored.schedules >= program.orderings
    assert explore_orderings(program, broken=True).failure is not None


def test_a_failure_repeats_in_the_same_schedule():
    program = next(p for p in PROGRAMS if p.name == "fifo-lock-against-leaving")
    first, again = explore(program, broken=True), explore(program, broken=True)
    assert first == again
    assert first.schedules > 1


def test_an_exploration_undoes_its_replacements():
    sleep, monotonic, lock = time.sleep, time.monotonic, threading.Lock
    explore(PROGRAMS[0])
    assert (time.sleep, time.monotonic, threading.Lock) == (sleep, monotonic, lock)
    assert drain_wakeup.SimpleQueue is SimpleQueue
    assert drain_schedule.collect is collect
    assert plugin_calls.watchdog is watchdog
    assert gc.isenabled()


def test_the_document_of_attacks_has_the_table_of_programs():
    written = table_in(ATTACKS, "interleavings")
    assert written == table(), "python -m tests.interleavings --table writes it"
