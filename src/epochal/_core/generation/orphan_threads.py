"""Threads that plugin code started by itself, and what is done about those that it did not end.

A plugin that starts a thread in `init` must end it in `shutdown()` (or start it with `ctx.spawn`).
One that still runs the plugin's code after that can never be reached again by anybody: it would
keep the generation's memory, and do its work, for ever, beside its successor's thread. A timer is
cancelled. Any other thread has `SystemExit` raised in it (CPython's `PyThreadState_SetAsyncExc`),
which arrives when it next runs Python code; one that is blocked in a system call does not notice,
and is reported.
"""

from __future__ import annotations

import ctypes
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.running_code import threads_inside

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S: Final = 1.0


def end_threads(
    idents: frozenset[int], globals_ids: frozenset[int], owns: Callable[[object], bool]
) -> tuple[list[str], list[str]]:
    """End what still runs a removed generation's code, of the threads that are its own.

    Args:
        idents: the threads that its code started.
        globals_ids: the `id` of each of its module dictionaries.
        owns: whether an object was defined by its code.

    Returns:
        Who was ended, and who did not end, a line each.
    """
    timers = [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer)
        and thread.ident in idents
        and _is_to_call(thread, owns)
    ]
    for timer in timers:
        timer.cancel()
    running = _running(idents, globals_ids)
    threads: list[threading.Thread] = _join(
        [*timers, *(t for t in threading.enumerate() if t.ident in running)]
    )
    for thread in threads:
        if thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
    alive = _join(threads)
    ended = [thread for thread in (*timers, *threads) if thread not in alive]
    return (
        [f"thread {thread.name!r}, which shutdown() had left running" for thread in ended],
        [
            f"thread {thread.name!r} still runs {running.get(thread.ident or 0, '')}: "
            "shutdown() must end it"
            for thread in alive
        ],
    )


def _join(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Wait for threads to end by themselves; returns those that did not."""
    deadline = monotonic() + _PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _running(idents: frozenset[int], globals_ids: frozenset[int]) -> dict[int, str]:
    """The threads that are inside the generation's code, and where."""
    return {ident: place for ident, _, place in threads_inside(globals_ids) if ident in idents}


def _is_to_call(timer: threading.Timer, owns: Callable[[object], bool]) -> bool:
    """Whether a timer is yet to call the generation's code."""
    return not timer.finished.is_set() and owns(timer.function)
