"""The threads and tasks that are inside a generation's code.

An export may start a thread or a task on the plugin's own helper and return; those frames run
functions that carry no lease. So before a generation is shut down the runtime looks at every
thread's stack and at the suspended work of every scheduler (`schedulers`) for frames whose globals
are one of the generation's module dictionaries, and at what is about to begin with such a function:
`Thread.start` returns before the new thread has reached its target.

One look proves nothing. While it goes from the threads to the tasks, a task that it has yet to
reach may start a thread and end; a task may start its successor and end. Code that goes on in this
way begins something new each time. So a look is repeated until it has found nothing new twice: at
first in full, since work is also handed to threads and tasks that were there before; then only what
is new, which takes microseconds, so that it comes to an end in a busy process too. A look that does
not come to an end in time is no proof, and counts as a use.

A frame that is held holds the function it runs and all its variables: nothing here outlives the
look.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.introspect.findings import Holder, Straggler
from epochal._core.introspect.frames import (
    all_calls_of,
    calls_of,
    innermost_calls,
    innermost_inside,
    locals_of,
)
from epochal._core.introspect.origins import bare_threads, begun_by, first_functions, plain_function
from epochal._core.introspect.places import place_in, place_of
from epochal._core.introspect.schedulers import ASYNCIO_TASKS, SCHEDULERS, SoughtCode, all_tasks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import FrameType

    from epochal._core.introspect.origins import BareThread, Origin
    from epochal._core.introspect.schedulers import Scheduler

_FULL_ROUNDS: Final = 2
_LOOK_S: Final = 0.25
"""Two rounds over 5,000 tasks take 20 ms. The look is repeated by the drain that asked for it."""

_GIVE_WAY_S: Final = 20e-6

UNSETTLED: Final = Straggler("task", "(threads and tasks begin faster than a look can follow)")
"""Stands for the code that a look without an end may have missed."""


class RunningThread(NamedTuple):
    """A thread that is inside a generation's code.

    Attributes:
        ident: of the thread, now.
        thread: its object; None for a thread that was not started by `threading`, or that cannot be
            told from another one with its ident.
        name: its name.
        place: `geo.py:41 in poll`.
        bare: its beginning, if plugin code began it without an object.
    """

    ident: int | None
    thread: threading.Thread | None
    name: str
    place: str
    bare: BareThread | None = None

    def is_own_of(self, own: Origin | None) -> bool:
        """Whether a generation's own code began it in a change."""
        return own is not None and (own.is_own(self.thread) or own.is_own_bare(self.bare))


def find_stragglers(
    globals_ids: frozenset[int], *, own: Origin | None = None
) -> tuple[Straggler, ...]:
    """Look at every thread and every task until nothing new begins.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.
        own: leaves out what the generation's own code began in a change, which its shutdown ends.

    Returns:
        What is inside the code; empty if that is proven to be nothing.
    """
    if not globals_ids:
        return ()
    look = _RunningCodeLook(globals_ids, own)
    deadline = monotonic() + _LOOK_S  # for the rounds over what is new
    while not (found := look.go_round()) and look.found_new:
        if look.is_in_full:  # takes as long as there are tasks
            deadline = monotonic() + _LOOK_S
        elif monotonic() > deadline:
            return (UNSETTLED,)
        # Without the interpreter's lock: work that is on its way from one thread to another when a
        # round begins (a worker has taken it from a queue and has yet to call it) goes on.
        sleep(_GIVE_WAY_S)
    return found


class _RunningCodeLook:
    """The rounds of one look.

    Attributes:
        found_new: whether another round is needed.
    """

    __slots__ = ("_code", "_own", "_rounds", "_seen", "found_new")

    def __init__(self, globals_ids: frozenset[int], own: Origin | None) -> None:
        self._code: Final = SoughtCode(globals_ids, {})
        self._own: Final = own
        self._rounds = 0
        # By `id`; held, so that no `id` is used again before the look is over.
        self._seen: Final[dict[int, Any]] = {}
        self.found_new = True

    @property
    def is_in_full(self) -> bool:
        """Whether the last round was not the last one in full."""
        return self._rounds < _FULL_ROUNDS

    def go_round(self) -> tuple[Straggler, ...]:
        """Look at all threads, and at all work or (after two rounds) all new work."""
        self._rounds += 1
        self.found_new = self._rounds < _FULL_ROUNDS
        threads = {thread.ident: thread for thread in threading.enumerate()}
        for thread in threads.values():
            self.found_new |= self._is_new(thread)
        found = [
            Straggler("thread", running.name, running.place)
            for running in threads_inside(self._code.globals_ids)
            if not running.is_own_of(self._own)
        ]
        for scheduler in SCHEDULERS:
            for item in scheduler.items():
                is_new = self._is_new(item)
                if not is_new and self._rounds > _FULL_ROUNDS:
                    continue
                place = scheduler.place(item, self._code)
                self.found_new |= is_new and scheduler.may_hide(item)
                if place is not None and not _is_own(scheduler, item, threads, self._own):
                    found.append(Straggler(scheduler.kind, scheduler.name(item), place))
        return tuple(found)

    def _is_new(self, item: object) -> bool:
        if id(item) in self._seen:
            return False
        self._seen[id(item)] = item
        return True


def _is_own(
    scheduler: Scheduler, item: Any, threads: dict[int | None, threading.Thread], own: Origin | None
) -> bool:
    """Whether a generation's own code began a task in a change, or began its thread."""
    if own is None:
        return False
    context = scheduler.context(item)
    if context is not None and context.get(begun_by) is own:
        return True
    thread = threads.get(scheduler.ident(item))
    return thread is not None and thread.is_alive() and own.is_own(thread)


# --- threads -------------------------------------------------------------------------------------


def threads_inside(globals_ids: frozenset[int]) -> Iterator[RunningThread]:
    """The threads that are inside a generation's code, or will begin with it; each once.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.
    """
    # Before the stacks: a thread that reaches its target between the two looks is seen by both. The
    # other way round, neither would see it.
    beginning = [
        RunningThread(thread.ident, thread, thread.name, place_in(function.__code__, None))
        for thread in threading.enumerate()
        for function in first_functions(thread)
        if id(function.__globals__) in globals_ids
    ]
    bare = bare_threads()
    by_ident: dict[int | None, BareThread] = {one.ident: one for one in bare}
    beginning += [
        RunningThread(one.ident, None, str(one.ident), place_in(function.__code__, None), one)
        for one in bare
        for function in plain_function(one.function)
        if id(function.__globals__) in globals_ids
    ]
    seen: set[int | None] = set()
    for ident, thread, name, frame in _frames_of_threads(globals_ids):
        seen.add(ident)
        yield RunningThread(ident, thread, name, place_of(frame), by_ident.get(ident))
    yield from (running for running in beginning if running.ident not in seen)


def frames_of_threads() -> Iterator[tuple[int, str, FrameType]]:
    """Every frame that runs: its thread's ident and name, and the frame, innermost first.

    Frames of this library are left out.
    """
    for ident, _, name, frame in _frames_of_threads():
        yield ident, name, frame


def _frames_of_threads(
    globals_ids: frozenset[int] | None = None,
) -> Iterator[tuple[int, threading.Thread | None, str, FrameType]]:
    """Every frame that runs; or of each thread the innermost one with these globals."""
    before = {thread.ident: thread for thread in threading.enumerate()}
    innermost = innermost_calls()
    # An ident is used again at once: a stack is that of a thread which was there before and is
    # there still.
    after = {thread.ident: thread for thread in threading.enumerate()}
    for ident in tuple(innermost):
        thread = before.get(ident)
        known = thread or after.get(ident)
        name = known.name if known is not None else str(ident)
        # The popped frame goes into no variable: this thread's own was called by this function, and
        # would be in a cycle with it.
        calls = (
            calls_of(innermost.pop(ident))
            if globals_ids is None
            else innermost_inside(innermost.pop(ident), globals_ids)
        )
        for call in calls:
            yield ident, thread if thread is after.get(ident) else None, name, call


# --- tasks ---------------------------------------------------------------------------------------


def cancel_tasks(globals_ids: frozenset[int], *, own: Origin | None = None) -> tuple[Holder, ...]:
    """Cancel every asyncio task that is inside a generation's code.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.
        own: leaves out the tasks that the generation's own code began in a change.

    Returns:
        The tasks that were cancelled.
    """
    asked: list[Holder] = []
    threads: dict[int | None, threading.Thread] = {t.ident: t for t in threading.enumerate()}
    for task in tasks_inside(globals_ids):
        if not _is_own(ASYNCIO_TASKS, task, threads, own):
            with suppress(RuntimeError):  # its loop was closed
                task.get_loop().call_soon_threadsafe(task.cancel)
                asked.append(Holder("task", task.get_name()))
    return tuple(asked)


def tasks_inside(globals_ids: frozenset[int]) -> list[asyncio.Task[Any]]:
    """The asyncio tasks that are inside a generation's code."""
    code = SoughtCode(globals_ids, {})
    return [task for task in all_tasks() if ASYNCIO_TASKS.place(task, code) is not None]


# --- what a generation's own work refers to ------------------------------------------------------


def own_work(own: Origin) -> tuple[list[Any], list[Any]]:
    """The threads and tasks that a generation's own code began in a change, and what they work on.

    Returns:
        The objects that are a part of that work: the threads, what they were made to call, the
        tasks' coroutines; and the values of the local variables of the threads' calls.
    """
    parts: list[Any] = []
    variables: list[Any] = []
    threads = {thread.ident: thread for thread in threading.enumerate() if own.is_own(thread)}
    innermost = innermost_calls() if threads else {}
    for ident, thread in threads.items():
        parts += [thread, *(vars(thread).get(name) for name in ("_target", "_args"))]
        if ident in innermost:
            for call in all_calls_of(innermost.pop(ident)):
                variables += locals_of(call).values()
    innermost.clear()  # this very call is among them, and has it in a variable
    for task in all_tasks():
        if _is_own(ASYNCIO_TASKS, task, threads, own):
            parts.append(task.get_coro())
    return parts, variables
