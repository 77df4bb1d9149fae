"""Timers of an event loop that almost never fire, such as time limits, for next to nothing.

The problem: an asyncio timer costs 12 µs to set and to cancel, and a query of a service has four: a
tenth of its processor time, for limits that nothing reaches.

The idea: a dict of what is due when, and one asyncio timer that looks through it twenty times a
second while there is anything in it. A timer fires up to `TICK_S` late.

Everything belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from epochal.sql.loop_local import LoopLocal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

TICK_S: Final = 0.05


class CoarseTimer:
    """A call that is due.

    Args:
        due: the loop's time.
        call: is called then.
    """

    __slots__ = ("_call", "_timers", "due")

    def __init__(
        self, timers: dict[int, CoarseTimer], due: float, call: Callable[[], object]
    ) -> None:
        self._timers: Final = timers
        self._call: Callable[[], object] | None = call
        self.due: Final = due

    def cancel(self) -> None:
        """Do not call; does nothing after the call."""
        self._timers.pop(id(self), None)
        # Mostly a method of the object that has this timer: a request in a cycle with itself would
        # keep its task until a collection, 400 of them under load.
        self._call = None

    def fire(self) -> None:
        """Call, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class _LoopTimers:
    """The timers of one loop, to which this does not refer."""

    __slots__ = ("__weakref__", "_is_ticking", "_timers")

    def __init__(self, _: asyncio.AbstractEventLoop) -> None:
        self._timers: Final[dict[int, CoarseTimer]] = {}
        self._is_ticking = False

    def add(self, seconds: float, call: Callable[[], object]) -> CoarseTimer:
        loop = asyncio.get_running_loop()
        timer = CoarseTimer(self._timers, loop.time() + seconds, call)
        self._timers[id(timer)] = timer
        if not self._is_ticking:
            self._is_ticking = True
            loop.call_later(TICK_S, self._tick, loop)
        return timer

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        due = [timer for timer in self._timers.values() if timer.due <= now]
        # Before the calls: should one raise, the others fire at the next look.
        self._is_ticking = bool(self._timers)
        if self._is_ticking:
            loop.call_later(TICK_S, self._tick, loop)
        for timer in due:
            self._timers.pop(id(timer), None)
            timer.fire()  # unless one that fired before has cancelled it


_loops: Final = LoopLocal(_LoopTimers)


def call_later(seconds: float, call: Callable[[], object]) -> CoarseTimer:
    """Have the running loop call something, `TICK_S` late at most."""
    return _loops.get().add(seconds, call)


class TimeLimit:
    """`asyncio.timeout` with a coarse timer.

    Args:
        seconds: the time that the block may take.
    """

    __slots__ = ("_cancelling", "_has_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._has_expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._timer = call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._has_expired = True
        self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        if self._has_expired and self._task.uncancel() <= self._cancelling and is_cancelled:
            raise TimeoutError from error
