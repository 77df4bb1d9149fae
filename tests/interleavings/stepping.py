"""One run of a concurrent program under a schedule that is decided step by step.

`frontrun` runs each thread of the program under a tracer that stops at its bytecodes, and replaces
locks, conditions, events and queues by cooperative ones, which give the turn away where they would
block. This module decides which thread has the turn. The two searches of `frontrun` are not enough:
the random one cannot let one thread run far ahead of another, and the one by partial order
reduction does not see every access of C code; of the eleven breakages of `draining` and `pieces` it
misses five. Here a thread runs until it blocks or ends, unless the `Pick` chooses another one. Each
point at which it could have done so is recorded as a `Choice`, and `exploring` tries the others.

A step is one bytecode that may touch shared state. Bytecodes that only move a frame's own values
are not steps: switching before one is the same as switching before the next step. A blocked thread
is not stepped until the thing that it waits for is released. Time is virtual. It passes when every
thread is blocked, or by the pick's choice, so a time limit can run out at any step.
"""

from __future__ import annotations

import dis
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from frontrun._deadlock import DeadlockError
from frontrun._opcode_observer import start_opcode_trace
from frontrun._tracing import TraceFilter, set_active_trace_filter
from frontrun._virtual_clock import VirtualClock, clock_scope
from frontrun.bytecode import BytecodeShuffler, OpcodeScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType
    from typing import TypeAlias

    Pick: TypeAlias = "Callable[[int, Choice], int | None]"

TIME: Final = -1
"""The actor that lets the earliest time limit run out."""

_LIMIT_S: Final = 10.0
_MAX_STEPS: Final = 20_000
# They touch the frame's own values, or names that no program rebinds while it runs (globals).
_LOCAL_NAMES: Final = """
    CACHE COPY COPY_FREE_VARS EXTENDED_ARG JUMP_BACKWARD JUMP_FORWARD KW_NAMES LOAD_CLOSURE
    LOAD_CONST LOAD_FAST LOAD_GLOBAL MAKE_CELL NOP PRECALL PUSH_EXC_INFO PUSH_NULL RESUME
    RETURN_GENERATOR SWAP
"""
_LOCAL: Final = frozenset(_LOCAL_NAMES.split())


@dataclass(frozen=True, slots=True)
class Choice:
    """A point at which another thread could have gone on.

    Attributes:
        others: the actors that could have gone on instead (with `TIME`, where it may pass).
        preempts: whether another choice stops a running thread midway; where that thread has
            blocked or ended, choosing another one is free.
    """

    others: tuple[int, ...]
    preempts: bool

    def cost(self, actor: int) -> int:
        """The number of preemptions that choosing this actor costs: 0 or 1."""
        return int(self.preempts or actor == TIME)


class EndlessError(Exception):
    """The program does not end: a thread polls for a condition that never becomes true."""


class Stepper(OpcodeScheduler):
    """Gives the turn to one thread at a time; the others wait until it reaches its next step.

    Args:
        threads: the number of threads.
        pick: takes the number of a choice and the `Choice`; returns the actor to go on, or None for
            the default.
        time_runs_out: whether time may pass although a thread could go on.
    """

    def __init__(self, threads: int, pick: Pick, *, time_runs_out: bool) -> None:
        clock = VirtualClock()
        super().__init__([], threads, virtual_clock=clock, clock_mode="virtual")
        self.choices: list[Choice] = []
        self.steps = 0
        self._pick = pick
        self._time_runs_out = time_runs_out
        # All guarded by the scheduler's condition. `_parked` holds the threads that wait for their
        # turn. A turn is given only when every live thread is parked: given earlier, the choice
        # would depend on the machine's timing, and a schedule would not run the same way twice.
        self._parked: set[int] = set()
        self._turn: int | None = None
        self._last: int | None = None

    def wait_for_turn(self, thread_id: int) -> bool:
        with self._condition:
            self._parked.add(thread_id)
            if self._turn == thread_id:
                self._turn = None
            while not (self._finished or self._error):
                if self._turn is None and self._all_are_parked():
                    self._turn = self._next()
                    if self._turn != thread_id:
                        self._condition.notify_all()
                    continue
                if self._turn == thread_id:
                    self._parked.discard(thread_id)
                    return True
                if not self._condition.wait(timeout=_LIMIT_S):
                    self._error = TimeoutError("a thread blocks where it cannot be stepped")
                    self._condition.notify_all()
            return False

    def _all_are_parked(self) -> bool:
        return len(self._parked) + len(self._threads_done) == self.num_threads

    def mark_done(self, thread_id: int) -> None:
        with self._condition:
            if self._turn == thread_id:
                self._turn = None
            self._parked.discard(thread_id)
        super().mark_done(thread_id)

    def _next(self) -> int | None:
        """The thread that has the next turn; called when every live thread is parked."""
        self.steps += 1
        if self.steps > _MAX_STEPS:
            self._error = EndlessError(f"the program has not ended after {_MAX_STEPS} steps")
            return None
        while True:
            able = [thread for thread in sorted(self._parked) if thread not in self._spin_waiters]
            deadline = self._deadlines.next_deadline()
            if not able:
                if deadline is None:
                    self._error = DeadlockError(
                        "every thread is blocked", "every thread is blocked"
                    )
                    return None
                self._advance_clock_to(deadline)
                continue
            chosen = self._choose(able, may_wait=self._time_runs_out and deadline is not None)
            if chosen != TIME:
                self._last = chosen
                return chosen
            assert deadline is not None
            self._advance_clock_to(deadline)

    def _choose(self, able: Sequence[int], *, may_wait: bool) -> int:
        default = self._last if self._last in able else able[0]
        assert default is not None
        others = tuple(t for t in (*able, *((TIME,) if may_wait else ())) if t != default)
        if not others:
            return default
        choice = Choice(others, preempts=default == self._last)
        picked = self._pick(len(self.choices), choice)
        self.choices.append(choice)
        return default if picked is None else picked


class _Runner(BytecodeShuffler):
    """Stops at the bytecodes that are steps."""

    def __init__(self, scheduler: Stepper, where: tuple[str, ...]) -> None:
        super().__init__(scheduler, detect_io=False)
        self._where = where

    def play(self, state: Any, threads: Sequence[Callable[[Any], None]]) -> None:
        """Run the threads to their ends.

        Raises:
            Exception: the first error of a thread, or of the scheduler if they do not end.
        """
        self.run([lambda t=thread: t(state) for thread in threads], timeout=_LIMIT_S * 2)
        if self.scheduler._error is not None:
            raise self.scheduler._error

    def _start_opcode_trace(self) -> None:
        scheduler = self.scheduler
        from frontrun._cooperative import get_context

        def thread_id() -> int | None:
            context = get_context()
            return context[1] if context is not None and context[0] is scheduler else None

        def on_opcode(code: CodeType, offset: int, frame: object, thread: int) -> bool:
            if offset not in _steps(code, self._where):
                return False
            scheduler.wait_for_turn(thread)
            return True

        self._opcode_handle = start_opcode_trace(
            get_thread_id=thread_id,
            on_opcode=on_opcode,
            is_active=lambda: not (scheduler._finished or scheduler._error),
            tool_name="epochal-interleavings",
            tool_kind="optimizer",
            monitor_returns=False,
        )


@lru_cache(maxsize=10_000)
def _steps(code: CodeType, where: tuple[str, ...]) -> frozenset[int]:
    place = f"{code.co_filename}:{code.co_qualname}"
    if not any(part in place for part in where):
        return frozenset()
    return frozenset(i.offset for i in dis.get_instructions(code) if i.opname not in _LOCAL)


class _Only(TraceFilter):
    """Traces the named files only."""

    def __init__(self, where: tuple[str, ...]) -> None:
        super().__init__()
        self._files = tuple(part.partition(":")[0] for part in where)
        self._known: dict[str, bool] = {}

    def should_trace_file(self, filename: str) -> bool:
        known = self._known.get(filename)
        if known is None:
            known = self._known[filename] = any(file in filename for file in self._files)
        return known


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one run.

    Attributes:
        choices: the points at which another thread could have gone on, in order.
        steps: the number of steps.
        failure: the error of a thread or of the check; None if there was none.
    """

    choices: tuple[Choice, ...]
    steps: int
    failure: str | None


def run_once(
    setup: Callable[[], Any],
    threads: Sequence[Callable[[Any], None]],
    check: Callable[[Any], None],
    where: tuple[str, ...],
    pick: Pick,
    *,
    time_runs_out: bool,
) -> Run:
    """Run a program once.

    Args:
        setup: creates the shared state, with the primitives replaced.
        threads: one function of the state for each thread.
        check: checks the state when all threads have ended; an `AssertionError` is a finding.
        where: the code that is stepped through: parts of `file:qualified name`.
        pick: decides which thread has the turn; see `Stepper`.
        time_runs_out: whether a time limit may run out although a thread could go on.
    """
    scheduler = Stepper(len(threads), pick, time_runs_out=time_runs_out)
    runner = _Runner(scheduler, where)
    failure: str | None = None
    set_active_trace_filter(_Only(where))
    try:
        with clock_scope(scheduler.virtual_clock), runner.patch_scope():
            state = setup()
            try:
                runner.play(state, threads)
                check(state)
            except TimeoutError:
                raise
            except Exception as error:  # noqa: BLE001  a thread of the program failed: a finding
                failure = f"{type(error).__name__}: {error}"
    finally:
        set_active_trace_filter(None)
    return Run(tuple(scheduler.choices), scheduler.steps, failure)
