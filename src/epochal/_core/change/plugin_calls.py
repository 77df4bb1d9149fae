"""Running plugin code inside a change: with a time limit, and without holding anything up.

Plugin code may block for ever, raise anything, end its thread. It runs in the change's own thread,
under a watch. If it does not return in time, or the change is cancelled meanwhile, the thread is
*abandoned*: it cannot be killed and may still run. The watchdog starts a new thread that resumes
the machine, which has all its state in its own attributes and goes on from there. Should the
plugin's code return after all, `Abandoned` carries its thread out without touching anything. As
long as the system starts no thread, the code goes on, and may return late.

So the frames under plugin code must hold no lease and no epoch: an abandoned thread would pin them
for ever.

Plugin code runs in a copy of the caller's context variables: what it sets there is gone when it
returns. One of them marks it as inside a change, where asking for another change is refused instead
of deadlocking; once the call is over, the tasks that it began may ask for changes.

Threads
-------

A change is given up or commits, and ``_fate`` says which, from the first thread that decides it: a
canceller at any time, the change's thread before the first step that cannot be cancelled. One dict
step decides: a canceller that is interrupted right after it has given the change up for good.

A canceller decides, then reads ``_cancellable``; the change's thread sets that, then looks whether
the change is given up (`check_cancelled`). So one of the two always notices the other: swap either
pair, and a cancellation can be lost. ``ms`` and ``machine`` belong to the thread that has the
change. A watch ends exactly once (`watchdog`), so either the thread goes on or its successor does,
never both.
"""

from __future__ import annotations

import os
import threading
from contextvars import Context, ContextVar
from enum import Enum, auto
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from epochal._core.generation.generation import calling
from epochal._core.sync.completion import Completion
from epochal._core.sync.threads import begin_giving_way, give_way, start_thread
from epochal._core.sync.watchdog import Watch, watchdog
from epochal.errors import ChangeCancelledError, PhaseTimeoutError
from epochal.report import StepName

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


_MAY_PAUSE: Final = frozenset(
    {StepName.PLAN, StepName.LINK, StepName.COMPARE, StepName.VALIDATE, StepName.BUILD}
)
"""Steps before which a change gives way: no call waits for it yet."""


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


class _Fate(Enum):
    COMMITS = auto()
    GIVEN_UP = auto()


class StepRunner:
    """Runs the steps of one change and adds up their times.

    Args:
        runtime: the number of the runtime that changes.
        context: the context variables that plugin code sees (each call gets its own copy).

    Attributes:
        ms: milliseconds by the name of the step, so far.
        forbid_commit: gives the change up unless it commits, in one step of C code: no exception
            of a signal handler comes before its end.
        gives_way: whether to pause before each call of plugin code, for operations that run.
        cancelled: done once a caller has given up: the change, or its wait if that commits.
        machine: what goes on if this thread is abandoned.
    """

    __slots__ = (
        "_cancellable",
        "_context",
        "_fate",
        "_pid",
        "_runtime",
        "_watch",
        "cancelled",
        "forbid_commit",
        "gives_way",
        "machine",
        "ms",
    )

    machine: Machine

    def __init__(self, runtime: int, context: Context) -> None:
        self.gives_way = True
        self._runtime: Final = runtime
        self._context: Final = context
        self._pid: Final = os.getpid()
        self._fate: Final[dict[None, _Fate]] = {}
        self.forbid_commit: Final = partial(self._fate.setdefault, None, _Fate.GIVEN_UP)
        self._watch: Watch | None = None  # of the plugin code that runs
        self._cancellable: Watch | None = None  # the same, if a canceller may end it
        self.cancelled: Final[Completion[None]] = Completion()
        self.ms: Final[dict[str, float]] = {}

    def run(self, step: Step) -> Any:
        """Run a step on its clock; returns what it returns."""
        if step.name in _MAY_PAUSE:
            give_way()
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
        if self.gives_way:
            begin_giving_way()
        context = self._context.copy()
        call = PluginCall(self._runtime)
        context.run(changing.set, call)
        context.run(calling.set, generation)
        give_up = partial(
            self._start_successor, step, str(generation), threading.current_thread().name
        )
        self._watch = watch = Watch(watchdog, step.deadline.left_s, give_up)
        try:
            watch.begin()
            if step.deadline.is_cancellable:
                # First the watch, then the look: see above.
                self._cancellable = watch
                self.check_cancelled()
            return context.run(work)
        finally:
            call.is_running = False
            # Before anything else of the change is touched: another thread may have it. Or plugin
            # code forked, and this is the child: nothing of the host's may run in it, and locks
            # that other threads held are locked here for ever.
            if not watch.end() or os.getpid() != self._pid:
                raise Abandoned
            self._watch = self._cancellable = None

    def cancel(self) -> bool:
        """Give the change up: abandon the plugin code that runs, start none that is cancellable.

        Returns:
            False if the change commits all the same: that was decided before.
        """
        is_given_up = self.forbid_commit() is _Fate.GIVEN_UP
        self.cancelled.set_result(None)
        watch = self._cancellable
        if watch is not None:
            watch.expire()
        return is_given_up

    def check_cancelled(self) -> None:
        """Raise `ChangeCancelledError` if the change is to be given up."""
        if self._is_given_up:
            raise ChangeCancelledError("the change was cancelled and rolled back")

    def commit(self) -> None:
        """From now on the change cannot be given up.

        Raises:
            ChangeCancelledError: it was given up before.
        """
        self._fate.setdefault(None, _Fate.COMMITS)
        self.check_cancelled()

    @property
    def commits(self) -> bool:
        """Whether it cannot be given up any more; what it has still to do may yet fail."""
        return self._fate.get(None) is _Fate.COMMITS

    @property
    def _is_given_up(self) -> bool:
        return self._fate.get(None) is _Fate.GIVEN_UP

    def _start_successor(self, step: Step, generation: str, thread: str, watch: Watch) -> None:
        """Have another thread go on; on the watchdog's thread."""
        error: BaseException
        if self._is_given_up:
            error = ChangeCancelledError(
                "the change was cancelled and rolled back; plugin code that did not return goes "
                f"on in thread {thread!r}"
            )
        else:
            assert step.deadline is not None
            error = PhaseTimeoutError(
                step.name.value, generation, step.deadline.limit_s or 0.0, thread
            )
        start_thread(partial(self._take_over, watch, error), name=f"epochal after {step.name}")

    def _take_over(self, watch: Watch, error: BaseException) -> None:
        """Go on, unless the plugin's code has returned meanwhile; on a new thread."""
        # The look first: the end of a watch may have been interrupted, and the change went on.
        if self._watch is watch and watch.take_over():
            self.machine.resume(error)

    def _add(self, step: Step, started: float) -> None:
        spent_ms = (perf_counter() - started) * 1000.0
        self.ms[step.name.value] = self.ms.get(step.name.value, 0.0) + spent_ms
