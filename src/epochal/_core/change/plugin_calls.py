"""Running plugin code inside a change: with a time limit, and without holding anything up.

Plugin code may block for ever, raise anything, end its thread. It runs in the change's own thread,
under a watch. If it does not return in time, or the change is cancelled meanwhile, the thread is
*abandoned*: it cannot be killed and may still run. The watchdog starts a new thread that resumes
the machine, which has all its state in its own attributes and goes on from there. Should the
plugin's code return after all, `Abandoned` carries its thread out without touching anything.

So the frames under plugin code must hold no lease and no epoch: an abandoned thread would pin them
for ever.

Plugin code runs in a copy of the caller's context variables: what it sets there is gone when it
returns. One of them marks it as inside a change, where asking for another change is refused instead
of deadlocking; once the call is over, the tasks that it began may ask for changes.

Threads
-------

``_cancelled`` and ``_watch`` are written under ``_lock``. A canceller sets the first, then reads
the second; the change's thread sets the second, then reads the first (`check_cancelled`). So one of
the two always notices the other: swap either pair, and a cancellation can be lost. ``ms`` and
``machine`` belong to the thread that has the change. A watch ends exactly once (`watchdog`), so
either the thread goes on or its successor does, never both.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from epochal._core.generation.generation import calling
from epochal._core.sync.threads import call_on_thread
from epochal._core.sync.watchdog import Watch, watchdog
from epochal.errors import ChangeCancelledError, PhaseTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.change.plan import Step
    from epochal._core.generation.generation import Generation

T = TypeVar("T")


class PluginCall:
    """One call of plugin code within a change.

    The tasks that the code begins have it among their context variables for as long as they live.

    Attributes:
        runtime: the number of the runtime that changes.
        is_running: whether the call has yet to return. Written by the thread that makes the call;
            a thread that is abandoned in it leaves it as it is.
    """

    __slots__ = ("is_running", "runtime")

    def __init__(self, runtime: int) -> None:
        self.runtime: Final = runtime
        self.is_running = True


changing: Final[ContextVar[PluginCall | None]] = ContextVar("epochal_changing", default=None)
"""The call of plugin code that the current code is part of, or that began its task."""


def is_changing(runtime: int) -> bool:
    """Whether the current code is part of a change of a runtime, or may be waited for by one."""
    call = changing.get()
    return call is not None and call.runtime == runtime and call.is_running


_GIVE_WAY_S: Final = 20e-6
# The interpreter takes its lock from a thread only after its switch interval, 5 ms, and a change
# computes for less: a thread that waits for the lock would wait for all of it. So a change pauses
# between its steps, for long enough that a waiting thread wakes up and takes the lock.


class Abandoned(BaseException):
    """Carries an abandoned thread out of a change that another thread goes on with."""


class Machine(Protocol):
    """Something that runs steps, and can go on with them on another thread."""

    def resume(self, error: BaseException) -> None:
        """Go on, on a new thread, after plugin code of a step did not return.

        Args:
            error: why it was given up.
        """
        ...


class StepRunner:
    """Runs the steps of one change and adds up their times.

    Args:
        runtime: the number of the runtime that changes.
        context: the context variables that plugin code sees (each call gets its own copy).

    Attributes:
        ms: milliseconds by the name of the step, so far.
        cancelled: done once the change is to be given up.
        machine: what goes on if this thread is abandoned.
    """

    __slots__ = (
        "_cancelled",
        "_context",
        "_lock",
        "_pid",
        "_runtime",
        "_watch",
        "cancelled",
        "machine",
        "ms",
    )

    machine: Machine

    def __init__(self, runtime: int, context: Context) -> None:
        self._runtime: Final = runtime
        self._context: Final = context
        self._pid: Final = os.getpid()
        self._lock: Final = threading.Lock()
        self._watch: Watch | None = None
        self._cancelled = False
        self.cancelled: Final[Future[None]] = Future()
        self.ms: Final[dict[str, float]] = {}

    def run(self, step: Step) -> Any:
        """Run a step on its clock; returns what it returns."""
        started = perf_counter()
        try:
            returned = step.do(step)
        except Abandoned:
            raise  # the clock is another thread's now
        except BaseException:
            self._add(step, started)
            raise
        self._add(step, started)
        return returned

    def call_plugin(self, step: Step, generation: Generation, work: Callable[[], T]) -> T:
        """Run plugin code for a step, in this thread.

        Args:
            step: has the deadline.
            generation: the owner of the code.
            work: what to call; it must hold no lease and no epoch.

        Raises:
            Abandoned: the thread was abandoned, and the machine resumed; touch nothing and leave.
            ChangeCancelledError: the change was cancelled before.
            BaseException: whatever the code raised.
        """
        assert step.deadline is not None
        sleep(_GIVE_WAY_S)
        thread = threading.current_thread().name
        watch = watchdog.watch(
            step.deadline.left_s, partial(self._abandon, step, str(generation), thread)
        )
        context = self._context.copy()
        call = PluginCall(self._runtime)
        context.run(changing.set, call)
        context.run(calling.set, generation)
        try:
            if step.deadline.is_cancellable:
                # First the watch, then the look: see above.
                self._set_watch(watch)
                self.check_cancelled()
            return context.run(work)
        finally:
            if os.getpid() != self._pid:
                # Plugin code forked, and this is the child: nothing of the host's may run in it,
                # and locks that other threads held are locked here for ever.
                raise Abandoned
            call.is_running = False
            # Before anything else of the change is touched: another thread may have it.
            if not watch.end():
                raise Abandoned
            self._set_watch(None)

    def cancel(self) -> None:
        """Give the change up: abandon the plugin code that runs, start none that is cancellable."""
        with suppress(InvalidStateError):
            self.cancelled.set_result(None)
        with self._lock:
            self._cancelled = True
            watch = self._watch
        if watch is not None:
            watch.expire()

    def check_cancelled(self) -> None:
        """Raise `ChangeCancelledError` if the change is to be given up."""
        if self._cancelled:
            raise ChangeCancelledError("the change was cancelled and rolled back")

    def _set_watch(self, watch: Watch | None) -> None:
        with self._lock:
            self._watch = watch

    def _abandon(self, step: Step, generation: str, thread: str) -> None:
        """Have another thread go on; on the watchdog's thread, or the canceller's."""
        error: BaseException
        if self._cancelled:
            error = ChangeCancelledError(
                "the change was cancelled and rolled back; plugin code that did not return goes "
                f"on in thread {thread!r}"
            )
        else:
            assert step.deadline is not None
            error = PhaseTimeoutError(
                step.name.value, generation, step.deadline.limit_s or 0.0, thread
            )
        call_on_thread(partial(self.machine.resume, error), name=f"epochal after {step.name}")

    def _add(self, step: Step, started: float) -> None:
        spent_ms = (perf_counter() - started) * 1000.0
        self.ms[step.name.value] = self.ms.get(step.name.value, 0.0) + spent_ms
