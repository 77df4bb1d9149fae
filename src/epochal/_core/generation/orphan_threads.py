"""The threads that plugin code started by itself, and the end of those that it left running.

A plugin that starts a thread in `init` must end it in `shutdown()` (or start it with `ctx.spawn`).
No other code can reach a thread that still runs the plugin's code after that: it would keep the
generation's memory, and go on working beside its successor's thread. A timer is cancelled. In any
other thread `SystemExit` is raised (CPython's `PyThreadState_SetAsyncExc`), which arrives when the
thread next runs Python code; a thread that is blocked in a system call does not notice, and is
reported.
"""

from __future__ import annotations

import ctypes
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.running_code import threads_inside

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_JOIN_S: Final = 1.0
"""For threads that have been asked to end. Once for all of them, and it delays only a change that
removes a plugin which left threads behind; a loop that sleeps for longer is reported."""


class OwnThreads:
    """The threads that are a generation's own to end.

    These are the threads that began while the plugin's code linked, initialized or shut down, and
    those threads of changes that are inside its code, or were abandoned there. Written by the
    change's threads; each access is one step of a set, so any thread may read.
    """

    __slots__ = ("inside", "started")

    def __init__(self) -> None:
        self.started: set[int] = set()
        self.inside: Final[set[int]] = set()

    def noting(self) -> AbstractContextManager[None]:
        """Around a call into the plugin's code: note the threads that begin within the block."""
        return _ThreadsNoted(self)

    def idents(self) -> frozenset[int]:
        """The idents of all of them."""
        return frozenset(self.started | self.inside)

    def take_started(self) -> frozenset[int]:
        """The started threads, once: a second call, after an abandoned shutdown, gets none."""
        started, self.started = self.started, set()
        return frozenset(started)


class _ThreadsNoted:
    """One block of `OwnThreads.noting`.

    The thread that runs the block counts as inside until it leaves; a thread that never leaves was
    abandoned there.
    """

    __slots__ = ("_before", "_threads")

    def __init__(self, threads: OwnThreads) -> None:
        self._threads: Final = threads
        self._before: set[int | None] = set()

    def __enter__(self) -> None:
        self._before = {thread.ident for thread in threading.enumerate()}
        self._threads.inside.add(threading.get_ident())

    def __exit__(self, *exc: object) -> None:
        after = {thread.ident for thread in threading.enumerate()}
        began = after - self._before
        self._threads.started.update(ident for ident in began if ident is not None)
        self._threads.inside.discard(threading.get_ident())


def end_threads(
    idents: frozenset[int], globals_ids: frozenset[int], owns: Callable[[object], bool]
) -> tuple[list[str], list[str]]:
    """End those of a removed generation's own threads that still run its code.

    Args:
        idents: the threads that its code started.
        globals_ids: the `id` of each of its module dictionaries.
        owns: whether an object was defined by its code.

    Returns:
        A line for each thread that was ended, and a line for each that did not end.
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
    threads = _join([*timers, *(t for t in threading.enumerate() if t.ident in running)])
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
    deadline = monotonic() + _JOIN_S
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _running(idents: frozenset[int], globals_ids: frozenset[int]) -> dict[int, str]:
    """The threads that are inside the generation's code, each with its place."""
    return {
        ident: f"at {place}" for ident, _, place in threads_inside(globals_ids) if ident in idents
    }


def _is_to_call(timer: threading.Timer, owns: Callable[[object], bool]) -> bool:
    """Whether a timer is yet to call the generation's code."""
    return not timer.finished.is_set() and owns(timer.function)
