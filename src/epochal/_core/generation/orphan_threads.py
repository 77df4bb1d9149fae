"""The end of the threads and tasks that a removed generation's code began and left running.

A plugin that starts a thread or a task must end it in `shutdown()` (or start it with `ctx.spawn`,
`ctx.create_task`). No other code can reach what still runs the plugin's code after that: it would
keep the generation's memory, and go on working beside its successor. So it is ended in the way that
its kind has for that:

- a timer that would call the plugin is cancelled, and so is a task inside the plugin's code;
- an executor that the plugin made is shut down, without the calls that it has yet to begin;
- a socket server of the plugin, or with a handler of the plugin, is shut down and closed;
- a log queue's listener with a handler of the plugin is stopped;
- an event loop that the plugin's thread runs for ever is stopped;
- in any other thread that is inside the plugin's code `SystemExit` is raised (CPython's
  `PyThreadState_SetAsyncExc`), which arrives when the thread next runs Python code.

Other libraries' threads cannot be ended from outside. Each thread that still runs is reported with
the line that began it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from operator import call
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.frames import innermost_calls
from epochal._core.introspect.object_names import class_of_library
from epochal._core.introspect.origins import executor_of
from epochal._core.introspect.places import place_of
from epochal._core.introspect.running_code import tasks_inside, threads_inside
from epochal._core.sync.threads import call_on_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from epochal._core.introspect.origins import Origin

_JOIN_S: Final = 1.0
"""For threads and tasks that have been asked to end. Once for all of them, and it delays only a
change that removes a plugin which left some behind; a loop that sleeps for longer is reported."""
_TASK_LOOK_S: Final = 0.002
_LEFT: Final = "which shutdown() had left running"


def end_threads(
    origin: Origin, globals_ids: frozenset[int], owns: Callable[[object], bool]
) -> tuple[list[str], list[str]]:
    """End what a removed generation's code began and left running.

    Args:
        origin: that code.
        globals_ids: the `id` of each of its module dictionaries.
        owns: whether an object was defined by its code.

    Returns:
        A line for each thread and task that was ended, and a line for each that did not end.
    """
    begun = origin.take_threads()
    deadline = monotonic() + _JOIN_S
    tasks = tasks_inside(globals_ids)
    for task in tasks:
        with suppress(RuntimeError):  # its loop was closed
            task.get_loop().call_soon_threadsafe(task.cancel)
    closing = [future for thread in begun if (future := _ask(thread, origin, owns)) is not None]
    wait(closing, _JOIN_S)
    alive = _join(begun, deadline)
    if alive:
        inside = {running.thread for running in threads_inside(globals_ids)}
        for thread in alive:
            if thread in inside:
                _raise_in(thread)
    alive = _join(alive, deadline + _JOIN_S)
    left = _wait(tasks, deadline)
    return (
        [f"thread {thread.name!r}, {_LEFT}" for thread in begun if thread not in alive]
        + [f"task {task.get_name()!r}, {_LEFT}" for task in tasks if task not in left],
        [
            f"thread {thread.name!r}, {begun[thread]}, still runs{_place_in(thread)}: "
            "shutdown() must end it"
            for thread in alive
        ]
        + [
            f"task {task.get_name()!r} has not ended since it was cancelled: shutdown() must end it"
            for task in left
        ],
    )


def _ask(
    thread: threading.Thread, origin: Origin, owns: Callable[[object], bool]
) -> Future[None] | None:
    """Ask a thread to end, where its library has a way for that.

    Returns:
        Done when a server has been closed; None if there is nothing to wait for but the thread.
    """
    executor = executor_of(thread)
    target: Any = getattr(thread, "_target", None)  # without a public name
    server: Any = getattr(target, "__self__", None)
    if isinstance(thread, threading.Timer):
        if owns(thread.function):
            thread.cancel()
    elif executor is not None and origin.made(executor):
        executor.shutdown(wait=False, cancel_futures=True)
    elif isinstance(server, class_of_library("asyncio.events", "AbstractEventLoop")):
        with suppress(RuntimeError):  # closed
            server.call_soon_threadsafe(server.stop)
    elif isinstance(server, class_of_library("socketserver", "BaseServer")) and (
        owns(server) or owns(server.RequestHandlerClass)
    ):
        # Both wait for the requests that it serves.
        return call_on_thread(partial(_close_server, server), name="epochal closing a server")
    elif isinstance(server, class_of_library("logging.handlers", "QueueListener")) and any(
        map(owns, (server, *server.handlers))
    ):
        server.enqueue_sentinel()  # `stop` would wait for the thread, without a limit
    return None


def _close_server(server: Any) -> None:
    server.shutdown()
    server.server_close()


def _join(threads: Iterable[threading.Thread], deadline: float) -> list[threading.Thread]:
    """Wait for threads to end by themselves; returns those that did not."""
    threads = list(threads)
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _wait(tasks: list[asyncio.Task[Any]], deadline: float) -> list[asyncio.Task[Any]]:
    """Wait for tasks to end; returns those that did not."""
    while (left := [task for task in tasks if not task.done()]) and monotonic() < deadline:
        sleep(_TASK_LOOK_S)  # a task's callbacks run in its own loop alone
    return left


def _raise_in(thread: threading.Thread) -> None:
    """Raise `SystemExit` in a thread, if it is alive.

    Both steps are one for the interpreter, which gives way between two calls in Python only: else
    the thread could end in between, and another one have its ident.
    """
    raise_exit = partial(
        ctypes.pythonapi.PyThreadState_SetAsyncExc,
        ctypes.c_ulong(thread.ident or 0),
        ctypes.py_object(SystemExit),
    )
    if sys.version_info >= (3, 13):
        any(map(call, (thread._handle.is_done, raise_exit)))  # type: ignore[attr-defined]  # noqa: SLF001  its only name
    elif (lock := getattr(thread, "_tstate_lock", None)) is not None:  # its only name
        all(map(call, (lock.locked, raise_exit)))


def _place_in(thread: threading.Thread) -> str:
    """` at queue.py:171 in get`: the line that a thread runs; empty if it has just ended."""
    calls = innermost_calls()
    frame = calls.pop(thread.ident or 0, None)
    calls.clear()
    return f" at {place_of(frame)}" if frame is not None and thread.is_alive() else ""
