"""Running plugin code inside a change: with a time limit, and without holding anything up.

Plugin code may block for ever, raise anything, end its thread. It runs in the change's own thread,
under a watch. When it does not return in time, or the change is cancelled meanwhile, the thread is
*abandoned*: it cannot be killed and may still run, but another thread takes the change over, and
should the first one return, `Abandoned` carries it out without touching anything.

So the frames under a phase must hold no lease and no epoch: an abandoned thread would pin them for
ever.

Plugin code runs in a copy of the caller's context variables: what it sets there is gone when it
returns. One of them marks it as inside a change, where asking for another change is refused instead
of deadlocking.
"""

from __future__ import annotations

import os
import threading
from contextvars import Context, ContextVar
from time import perf_counter, sleep
from types import EllipsisType
from typing import TYPE_CHECKING, Final, TypeVar

from epochal._core.sync.threads import call_on_thread
from epochal._core.sync.watchdog import Watch, watchdog
from epochal.errors import ChangeCancelledError, PhaseTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

changing: Final[ContextVar[int | None]] = ContextVar("epochal_changing", default=None)
"""The number of the runtime whose change runs the current code, if one does."""


_GIVE_WAY_S: Final = 20e-6
# The interpreter takes its lock from a thread only after its switch interval, 5 ms, and a change
# computes for less: whoever waits for the lock would wait for all of it. So a change pauses between
# its phases, for long enough that one who waits wakes up and takes the lock.


class Abandoned(BaseException):
    """Carries an abandoned thread out of a change that another thread has taken over."""


class Phases:
    """Runs the phases of one change and adds up their times.

    Args:
        runtime: the number of the runtime that changes.
        context: the context variables that plugin code sees (each phase gets its own copy).
        timeout: seconds that plugin code may take for one phase; None for ever.

    Attributes:
        ms: milliseconds for each phase so far. Written by the thread that has the change.
    """

    __slots__ = ("_cancelled", "_context", "_lock", "_pid", "_runtime", "_timeout", "_watch", "ms")

    def __init__(self, runtime: int, context: Context, timeout: float | None) -> None:
        self._runtime: Final = runtime
        self._context: Final = context
        self._timeout: Final = timeout
        self._pid: Final = os.getpid()
        # Both under the lock: whoever cancels either sees the watch that runs, or is seen by the
        # next.
        self._lock: Final = threading.Lock()
        self._watch: Watch | None = None
        self._cancelled = False
        self.ms: Final[dict[str, float]] = {}

    def timed(self, phase: str, work: Callable[[], T]) -> T:
        """Run our own code on the phase's clock."""
        started = perf_counter()
        try:
            return work()
        finally:
            self.ms[phase] = self.ms.get(phase, 0.0) + (perf_counter() - started) * 1000.0

    def call_plugin(
        self,
        phase: str,
        plugin: str,
        work: Callable[[], T],
        take_over: Callable[[BaseException], None],
        *,
        cancellable: bool = True,
        timeout: float | EllipsisType | None = ...,
        spent: float = 0.0,
    ) -> T:
        """Run plugin code, here, on the phase's clock.

        Args:
            phase: what it is, such as `init`.
            plugin: whose code, `plugin#generation`.
            work: what to call; it must hold no lease and no epoch.
            take_over: goes on with the change, given the reason, if this thread is abandoned;
                called on a new thread.
            cancellable: give up when the change is cancelled (undoing is not cancellable).
            timeout: seconds for this phase; None for ever; left out, those of all phases.
            spent: seconds of these that others have spent, where several share them.

        Raises:
            Abandoned: the thread was abandoned, and `take_over` called; touch nothing and leave.
            ChangeCancelledError: the change was cancelled before.
            BaseException: whatever the code raised.
        """
        thread = threading.current_thread().name
        limit = self._timeout if isinstance(timeout, EllipsisType) else timeout
        late = PhaseTimeoutError(phase, plugin, limit or 0.0, thread)
        sleep(_GIVE_WAY_S)
        left = None if limit is None else max(0.0, limit - spent)
        watch = watchdog.watch(left, lambda: self._abandon(take_over, late))
        started = perf_counter()
        context = self._context.copy()
        context.run(changing.set, self._runtime)
        try:
            if cancellable:
                self._set_watch(watch)
                self.check_cancelled()
            return context.run(work)
        finally:
            if os.getpid() != self._pid:
                # Plugin code forked, and this is the child: nothing of the host's may run in it,
                # and locks that other threads held are locked here for ever.
                raise Abandoned
            if not watch.end():
                raise Abandoned
            self._set_watch(None)
            self.ms[phase] = self.ms.get(phase, 0.0) + (perf_counter() - started) * 1000.0

    def cancel(self) -> None:
        """Give the change up: abandon the plugin code that runs, start none that is cancellable."""
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

    def _abandon(self, take_over: Callable[[BaseException], None], late: PhaseTimeoutError) -> None:
        reason: BaseException = late
        if self._cancelled:
            reason = ChangeCancelledError(
                "the change was cancelled and rolled back; plugin code that did not return goes "
                f"on in thread {late.thread!r}"
            )
        call_on_thread(lambda: take_over(reason), name=f"epochal after {late.phase}")
