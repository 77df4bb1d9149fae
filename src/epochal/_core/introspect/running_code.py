"""The threads and tasks that are inside a generation's code.

An export may start a thread or a task on the plugin's own helper and return; those frames run
functions that carry no lease. So before a generation is shut down the runtime looks, once, at every
thread's stack and every asyncio task for frames whose globals are one of the generation's module
dictionaries, and at the threads that will begin with such a function: `Thread.start` returns before
the new thread has reached its target.

A frame that is held holds the function it runs and all its variables: nothing here outlives the
look.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.findings import Holder, Straggler
from epochal._core.introspect.frames import calls_of, innermost_calls, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_COPY_ATTEMPTS: Final = 1000
"""As `asyncio.all_tasks` has it, for a set that other threads change while it is copied."""


# --- threads -------------------------------------------------------------------------------------


def find_stragglers(
    globals_ids: frozenset[int],
    *,
    own_threads: frozenset[int] = frozenset(),
    own_loops: frozenset[int] = frozenset(),
) -> tuple[Straggler, ...]:
    """Look at every thread and every asyncio task.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.
        own_threads: the idents of threads that the plugin itself ends at shutdown.
        own_loops: the `id` of each event loop that ends its tasks then too.
    """
    if not globals_ids:
        return ()
    threads = [
        Straggler("thread", name, place)
        for ident, name, place in threads_inside(globals_ids)
        if ident not in own_threads
    ]
    tasks = [
        Straggler("task", task.get_name(), place_of(frame))
        for task, frame in _tasks_inside(globals_ids)
        if id(task.get_loop()) not in own_loops
    ]
    return (*threads, *tasks)


def threads_inside(globals_ids: frozenset[int]) -> Iterator[tuple[int, str, str]]:
    """The threads that are inside a generation's code, or will begin with it.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.

    Yields:
        For each thread, once: its ident, its name, and its place (`geo.py:41 in poll`).
    """
    # Before the stacks: a thread that reaches its target between the two looks is seen by both. The
    # other way round, neither would see it.
    beginning = [
        (thread.ident, thread.name, place_in(code, None))
        for thread in threading.enumerate()
        if thread.ident is not None and (code := _begins_with(thread, globals_ids)) is not None
    ]
    seen: set[int] = set()
    for ident, name, frame in frames_of_threads():
        if ident not in seen and id(frame.f_globals) in globals_ids:
            seen.add(ident)
            yield ident, name, place_of(frame)
    yield from (thread for thread in beginning if thread[0] not in seen)


def _begins_with(thread: threading.Thread, globals_ids: frozenset[int]) -> CodeType | None:
    """The generation's code that a thread calls first; None if that is other code, or has ended."""
    # `_target` has no public name; a thread deletes it when its target has returned.
    for function in (type(thread).run, getattr(thread, "_target", None)):
        while isinstance(function, (partial, MethodType)):
            function = function.func if isinstance(function, partial) else function.__func__
        if isinstance(function, FunctionType) and id(function.__globals__) in globals_ids:
            return function.__code__
    return None


def frames_of_threads() -> Iterator[tuple[int, str, FrameType]]:
    """Every frame that runs: its thread's ident and name, and the frame, innermost first.

    Frames of this library are left out.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    innermost = innermost_calls()
    for ident in tuple(innermost):
        # The popped frame goes into no variable: this thread's own was called by this function, and
        # would be in a cycle with it.
        for call in calls_of(innermost.pop(ident)):
            yield ident, names.get(ident, str(ident)), call


# --- tasks ---------------------------------------------------------------------------------------


def cancel_tasks(globals_ids: frozenset[int]) -> tuple[Holder, ...]:
    """Cancel every asyncio task that is inside a generation's code.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.

    Returns:
        The tasks that were cancelled.
    """
    asked: list[Holder] = []
    for task, _ in _tasks_inside(globals_ids):
        with suppress(RuntimeError):  # its loop was closed
            task.get_loop().call_soon_threadsafe(task.cancel)
            asked.append(Holder("task", task.get_name()))
    return tuple(asked)


def _tasks_inside(
    globals_ids: frozenset[int],
) -> Iterator[tuple[asyncio.Task[Any], FrameType]]:
    """Every asyncio task that is inside a generation's code, with its outermost frame there."""
    elsewhere: dict[int, CodeType] = {}
    for task in all_tasks():
        frame = _frame_inside(task.get_coro(), globals_ids, elsewhere)
        if frame is not None:
            yield task, frame


def all_tasks() -> list[asyncio.Task[Any]]:
    """The unfinished asyncio tasks of every event loop of the process.

    `asyncio.all_tasks` knows one loop's; the sets behind it have no public name.
    """
    found: list[asyncio.Task[Any]] = []
    for name in ("_scheduled_tasks", "_eager_tasks", "_all_tasks"):  # 3.12, 3.12, 3.11
        tasks = getattr(asyncio.tasks, name, None)
        if tasks is not None:
            found += _copied(tasks)
    return [task for task in found if not task.done()]


def _copied(tasks: Any) -> list[asyncio.Task[Any]]:
    for _ in range(_COPY_ATTEMPTS):
        try:
            return list(tasks)
        except RuntimeError:  # another thread changed the set meanwhile
            continue
    return []


def _frame_inside(
    awaitable: Any, globals_ids: frozenset[int], elsewhere: dict[int, CodeType]
) -> FrameType | None:
    """The outermost frame of a suspended coroutine (generator, …) that is the generation's.

    A web server has many tasks, each thirty coroutines deep, all of the same code, and reading a
    frame makes a frame object: so code that was seen to be elsewhere is skipped for the rest of the
    look.

    Args:
        awaitable: the coroutine.
        globals_ids: the `id` of each module dictionary of the generation.
        elsewhere: code that is not the generation's, by its `id`; added to.
    """
    while awaitable is not None:
        if type(awaitable) is CoroutineType:
            if id(awaitable.cr_code) in elsewhere:
                awaitable = awaitable.cr_await
                continue
            with undisturbed():  # it may be running, in another thread
                frame, inner = awaitable.cr_frame, awaitable.cr_await
        else:
            frame, inner = _step_into(awaitable)
        if frame is None:
            return None
        if id(frame.f_globals) in globals_ids:
            return frame
        elsewhere[id(frame.f_code)] = frame.f_code
        awaitable = inner
    return None


def _step_into(awaitable: Any) -> tuple[FrameType | None, Any]:
    """The frame of an awaitable, and the awaitable that it waits for."""
    if type(awaitable) in (GeneratorType, AsyncGeneratorType):
        with undisturbed():
            return _read_step(awaitable)
    return _read_step(awaitable)  # its attributes are foreign code, which must not run under a lock


def _read_step(awaitable: Any) -> tuple[FrameType | None, Any]:
    for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        frame = getattr(awaitable, f"{prefix}_frame", None)
        if frame is not None:
            return frame, getattr(awaitable, inner, None)
    return None, None


# --- places --------------------------------------------------------------------------------------


def place_of(frame: FrameType) -> str:
    """`geo.py:41 in poll`, without holding the frame."""
    return place_in(frame.f_code, frame.f_lineno)


def place_in(code: CodeType, line: int | None) -> str:
    """`geo.py:41 in poll`; the generation's tag on the file name is left out."""
    file = PurePath(code.co_filename).name.partition("@")[0]
    return f"{file}:{line if line is not None else code.co_firstlineno} in {code.co_qualname}"
