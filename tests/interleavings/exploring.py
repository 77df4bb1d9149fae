"""Programs, and the search through their schedules.

A program is a few threads over one piece of the core, a check of the state that they leave, and a
breakage: the same program with the guarantee taken out, which the same search must catch. The
search runs every schedule with at most a given number of *preemptions*, or a seeded sample where
there are too many. A preemption stops a thread midway for another one, or lets a time limit run out
while a thread could go on. A switch at a point where a thread has blocked or ended costs none.

Within the bound the search is complete. It does not guess which accesses are shared: it can switch
at every bytecode of the named code that may touch shared state (see `stepping`). The bound leaves
out schedules with more preemptions, switches inside other code, and switches inside C code, which
the interpreter lock makes one step.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections import deque
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import frontrun
from frontrun._cooperative import CooperativeQueue

from epochal import events
from epochal._core.change import retirement as retire
from epochal._core.generation import epoch_fenced_reload
from epochal._core.sync import completion
from epochal._core.use import drain_schedule, drain_wakeup, gate
from epochal.jobs import flow
from tests.interleavings.stepping import Choice, Run, run_once
from tests.sizes import IS_WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

CORE: Final = (
    "_core/generation/epoch_fenced_reload.py",
    "_core/generation/lifecycle.py",
    "_core/use/drain_schedule.py",
    "_core/use/drain_wakeup.py",
    "_core/sync/weak_registry.py",
    "interleavings/draining.py",
    "interleavings/pieces.py",
)

_COLLECT_EVERY: Final = 500
_QUICK: Final = 20
"""How many schedules `make test` runs of each program."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The set of schedules that a search runs.

    Attributes:
        preemptions: the most preemptions in one schedule.
        sample: the number of schedules drawn with `SEED`; None for all schedules.
        at_least: the test fails if the search ran fewer schedules. It is chosen below the number
            counted on one version of Python, because others compile to other bytecodes.
    """

    preemptions: int
    sample: int | None
    at_least: int

    def __str__(self) -> str:
        most = "1 preemption" if self.preemptions == 1 else f"{self.preemptions} preemptions"
        if self.sample is None:
            return f"every schedule with at most {most} (at least {self.at_least})"
        return f"{self.sample} seeded schedules with at most {most}"


def every(preemptions: int, *, at_least: int) -> Bound:
    """The bound of all schedules with at most that many preemptions."""
    return Bound(preemptions, None, at_least)


def sampled(schedules: int, *, preemptions: int) -> Bound:
    """The bound of that many seeded schedules."""
    return Bound(preemptions, schedules, schedules)


SEED: Final = 20_130_311


@dataclass(frozen=True, slots=True)
class Program:
    """A small concurrent program, the promise that it keeps, and a breakage of that promise.

    Attributes:
        name: which actions meet; also the id of the program's tests.
        promise: the checked promise, with the guarantee that it belongs to.
        breakage: a description of the guarantee's removal.
        setup: creates the shared state.
        threads: one function of the state for each thread.
        check: raises `AssertionError` if the promise was broken.
        broken: a context manager that takes the guarantee out.
        ci: the bound in every test run.
        soak: the bound in `make test-hours`.
        where: the code that is stepped through: parts of `file:qualified name`.
        around: a context manager for the length of the exploration, with further replacements.
        time_runs_out: whether a time limit may run out at any step; otherwise time passes only when
            every thread is blocked.
        orderings: the least number of orderings in a second search, by `frontrun`'s partial order
            reduction and without a bound on preemptions; None if that does not find the breakage.
    """

    name: str
    promise: str
    breakage: str
    setup: Callable[[], Any]
    threads: tuple[Callable[[Any], None], ...]
    check: Callable[[Any], None]
    broken: Callable[[], AbstractContextManager[Any]]
    ci: Bound
    soak: Bound
    where: tuple[str, ...] = CORE
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    time_runs_out: bool = False
    orderings: int | None = None

    @property
    def bound(self) -> Bound:
        """The bound of the size that this process runs."""
        return self.soak if IS_WHOLE else self.ci


def quick(bound: Bound) -> Bound:
    """A few seeded schedules of a bound."""
    return sampled(min(_QUICK, bound.at_least), preemptions=bound.preemptions)


def replaced(owner: Any, name: str, new: Any) -> Callable[[], AbstractContextManager[Any]]:
    """A breakage that replaces a method."""
    return lambda: mock.patch.object(owner, name, new)


@dataclass(frozen=True, slots=True)
class Explored:
    """The result of a search.

    Attributes:
        schedules: the number of schedules that ran.
        steps: the number of steps of the longest schedule; 0 if they were not counted.
        failure: the first failure with its schedule; None if no schedule failed.
    """

    schedules: int
    steps: int
    failure: str | None


def explore(program: Program, bound: Bound | None = None, *, broken: bool = False) -> Explored:
    """Run a program under the schedules of a bound, its own by default, until one fails."""
    schedules, steps = 0, 0
    with _surroundings(program, broken=broken):
        for schedule, run in _search(program, bound or program.bound):
            schedules += 1
            steps = max(steps, run.steps)
            if run.failure is not None:
                return Explored(schedules, steps, f"{run.failure}\nin schedule {schedule}")
            if schedules % _COLLECT_EVERY == 0:
                gc.collect()
    return Explored(schedules, steps, None)


def explore_orderings(program: Program, *, broken: bool = False) -> Explored:
    """Run a program in every order of accesses that `frontrun` distinguishes, until one fails."""

    def holds(state: Any) -> bool:
        program.check(state)
        return True

    with (
        _surroundings(program, broken=broken),
        mock.patch.dict(os.environ, FRONTRUN_ACTIVE="1"),
    ):
        result = frontrun.explore(
            program.setup,
            program.threads,
            holds,
            preemption_bound=None,
            clock="virtual",
            detect_io=False,
            reproduce_on_failure=0,
        )
    failure = None if result.property_holds else str(result.explanation)
    return Explored(result.num_explored, 0, failure)


def _search(program: Program, bound: Bound) -> Iterator[tuple[str, Run]]:
    if bound.sample is None:
        return _all(program, bound.preemptions)
    return _sample(program, bound.preemptions, bound.sample)


def _all(program: Program, preemptions: int) -> Iterator[tuple[str, Run]]:
    """Every schedule within the bound, once each, those with fewest departures first.

    A schedule is its list of departures from the default schedule. Each run is extended by one
    departure at a later choice only, so no schedule is run twice.
    """
    waiting = deque([((), 0)])
    while waiting:
        departures, spent = waiting.popleft()
        run = _run(program, dict(departures).get)
        yield str(departures), run
        first = departures[-1][0] + 1 if departures else 0
        for number, choice in enumerate(run.choices[first:], first):
            for actor in choice.others:
                cost = spent + choice.cost(actor)
                if cost <= preemptions:
                    waiting.append(((*departures, (number, actor)), cost))


def _sample(program: Program, preemptions: int, schedules: int) -> Iterator[tuple[str, Run]]:
    """Seeded schedules: the default one, then each with up to that many departures at random."""
    run = _run(program, lambda _: None)
    yield "()", run
    for seed in range(SEED, SEED + schedules - 1):
        draw = random.Random(seed)
        departures = {
            draw.randrange(len(run.choices)): draw.random()
            for _ in range(draw.randint(1, preemptions))
        }
        yield f"seed {seed}: {departures}", _run(program, departures.get)


def _run(program: Program, departure: Callable[[int], float | None]) -> Run:
    def pick(number: int, choice: Choice) -> int | None:
        wanted = departure(number)
        # A sample draws a fraction, the place in the list of others; `_all` names the actor itself.
        if isinstance(wanted, float):
            return choice.others[int(wanted * len(choice.others))]
        return wanted

    return run_once(
        program.setup,
        program.threads,
        program.check,
        program.where,
        pick,
        time_runs_out=program.time_runs_out,
    )


@contextmanager
def _surroundings(program: Program, *, broken: bool) -> Iterator[None]:
    """Replace the parts that stepping cannot stop at, and let no collection start by itself."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with ExitStack() as stack:
            for module in (drain_wakeup, retire, events, gate, completion, flow):
                # The real one blocks in C, and `frontrun` does not replace it as it does `Queue`.
                stack.enter_context(mock.patch.object(module, "SimpleQueue", CooperativeQueue))
            for module in (drain_schedule, epoch_fenced_reload, gate, flow):
                # These modules imported the function by name, so `frontrun`'s patch misses them.
                stack.enter_context(mock.patch.object(module, "monotonic", _monotonic))
            stack.enter_context(
                mock.patch.object(drain_wakeup, "perf_counter_ns", _perf_counter_ns)
            )
            stack.enter_context(mock.patch.object(drain_schedule, "collect", _nothing))
            stack.enter_context(program.around())
            if broken:
                stack.enter_context(program.broken())
            yield
    finally:
        if was_enabled:
            gc.enable()


def _monotonic() -> float:
    return time.monotonic()


def _perf_counter_ns() -> int:
    return time.perf_counter_ns()


def _nothing(generation: int = 2) -> bool:
    """Replaces a collection: in a program no cycle holds a lease."""
    return True
