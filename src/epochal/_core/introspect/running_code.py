"""Who is inside a generation's code without a lease.

An export may start a thread or a task on the plugin's own helper and return; those frames run
functions that carry nothing. So before a generation is shut down the runtime looks, once, at every
thread's stack and every asyncio task for frames whose globals are one of the generation's module
dictionaries, and at the threads that are yet to call such a function: `Thread.start` returns before
the new thread has come as far as its target.

A frame that is held holds the function it runs and all its variables: nothing here outlives the
look.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any

from epochal._core.introspect.frames import calls_of, innermost_calls, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType


@dataclass(frozen=True, slots=True)
class Straggler:
    """A thread or task inside a generation's code, in a person's words.

    Attributes:
        kind: `thread` or `task`.
        name: its name.
        place: file and line, and the function.
    """

    kind: str
    name: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} {self.place}"


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
        own_loops: the `id` of each event loop whose tasks end then too.
    """
    if not globals_ids:
        return ()
    return (*_threads(globals_ids, own_threads), *_tasks(globals_ids, own_loops))


def _threads(globals_ids: frozenset[int], own: frozenset[int]) -> Iterator[Straggler]:
    for ident, name, place in threads_inside(globals_ids):
        if ident not in own:
            yield Straggler("thread", name, place)


def threads_inside(globals_ids: frozenset[int]) -> Iterator[tuple[int, str, str]]:
    """The threads that are inside a generation's code, or begin with it.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.

    Yields:
        Of each, once: its ident, its name, and where it is.
    """
    # Before the stacks: one that gets to its target between the two looks is seen by both.
    beginning = [
        (thread.ident, thread.name, place_in(code, None))
        for thread in threading.enumerate()
        if thread.ident is not None and (code := _begins_with(thread, globals_ids)) is not None
    ]
    told: set[int] = set()
    for ident, name, frame in frames_of_threads():
        if ident not in told and id(frame.f_globals) in globals_ids:
            told.add(ident)
            yield ident, name, place_of(frame)
    yield from (one for one in beginning if one[0] not in told)


def _begins_with(thread: threading.Thread, globals_ids: frozenset[int]) -> CodeType | None:
    """The code of a generation that a thread calls first; the thread forgets it at its end."""
    # `_target` has no public name, and is gone from a thread whose target has returned.
    for first in (type(thread).run, getattr(thread, "_target", None)):
        while isinstance(first, (partial, MethodType)):
            first = first.func if isinstance(first, partial) else first.__func__
        if isinstance(first, FunctionType) and id(first.__globals__) in globals_ids:
            return first.__code__
    return None


def frames_of_threads() -> Iterator[tuple[int, str, FrameType]]:
    """Every frame that runs, innermost first: its thread's ident and name, and the frame.

    Frames of this library are left out.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    innermost = innermost_calls()
    for ident in tuple(innermost):
        # In no variable: this thread's was called by this function, and would be held by it.
        for call in calls_of(innermost.pop(ident)):
            yield ident, names.get(ident, str(ident)), call


def _tasks(globals_ids: frozenset[int], own_loops: frozenset[int]) -> Iterator[Straggler]:
    for task, frame in _tasks_inside(globals_ids):
        if id(task.get_loop()) not in own_loops:
            yield Straggler("task", task.get_name(), place_of(frame))


def cancel_tasks(globals_ids: frozenset[int]) -> tuple[str, ...]:
    """Cancel every asyncio task that is inside a generation's code.

    Args:
        globals_ids: the `id` of each module dictionary of the generation.

    Returns:
        Which, in a person's words.
    """
    asked: list[str] = []
    for task, _ in _tasks_inside(globals_ids):
        with suppress(RuntimeError):  # its loop was closed
            task.get_loop().call_soon_threadsafe(task.cancel)
            asked.append(f"task {task.get_name()!r}")
    return tuple(asked)


def _tasks_inside(
    globals_ids: frozenset[int],
) -> Iterator[tuple[asyncio.Task[Any], FrameType]]:
    """Every asyncio task that is inside a generation's code, and where: its outermost frame."""
    elsewhere: dict[int, CodeType] = {}
    for task in all_tasks():
        frame = _frame_inside(task.get_coro(), globals_ids, elsewhere)
        if frame is not None:
            yield task, frame


def all_tasks() -> list[asyncio.Task[Any]]:
    """The asyncio tasks of every event loop of the process that have not ended.

    `asyncio.all_tasks` knows one loop's; the sets behind it have no public name.
    """
    found: list[asyncio.Task[Any]] = []
    for name in ("_scheduled_tasks", "_eager_tasks", "_all_tasks"):  # 3.12, 3.12, 3.11
        tasks = getattr(asyncio.tasks, name, None)
        if tasks is not None:
            found += _copied(tasks)
    return [task for task in found if not task.done()]


def _copied(tasks: Any) -> list[asyncio.Task[Any]]:
    """A copy of a set that other threads change meanwhile; `asyncio` itself does it this way."""
    for _ in range(1000):
        try:
            return list(tasks)
        except RuntimeError:
            continue
    return []


def _frame_inside(
    awaitable: Any, globals_ids: frozenset[int], elsewhere: dict[int, CodeType]
) -> FrameType | None:
    """The outermost frame of a suspended coroutine (generator, …) that is the generation's.

    A web server has many tasks, each thirty coroutines deep, all of the same code, and to ask for a
    frame makes one: so code that was seen to be elsewhere is passed over in the rest of the look.

    Args:
        awaitable: the coroutine.
        globals_ids: the `id` of each module dictionary of the generation.
        elsewhere: that code by its `id`; added to.
    """
    while awaitable is not None:
        if type(awaitable) is CoroutineType:
            if id(awaitable.cr_code) in elsewhere:
                awaitable = awaitable.cr_await
                continue
            with undisturbed():  # it may run, in another thread
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
    """The frame of what is like a coroutine, and what it waits for."""
    if type(awaitable) in (GeneratorType, AsyncGeneratorType):
        with undisturbed():
            return _step_of(awaitable)
    return _step_of(awaitable)  # whatever its code does is not done under a lock


def _step_of(awaitable: Any) -> tuple[FrameType | None, Any]:
    for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        frame = getattr(awaitable, f"{prefix}_frame", None)
        if frame is not None:
            return frame, getattr(awaitable, inner, None)
    return None, None


def place_of(frame: FrameType) -> str:
    """`at geo.py:41 in poll`, without holding the frame."""
    return place_in(frame.f_code, frame.f_lineno)


def place_in(code: CodeType, line: int | None) -> str:
    """`at geo.py:41 in poll`; the generation's tag on the file name is left out."""
    file = PurePath(code.co_filename).name.partition("@")[0]
    return f"at {file}:{line if line is not None else code.co_firstlineno} in {code.co_qualname}"
