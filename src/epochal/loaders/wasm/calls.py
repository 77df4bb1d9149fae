"""Time limits of calls into WebAssembly, and how a call is ended that does not return.

Compiled code looks at the engine's epoch, a counter, at each loop and function. When the counter
passes a store's deadline, the engine asks a callback here whether to go on. So nothing ticks: when
the time of a call is up, the counter is raised, and every running call asks once; the one whose
time is up gets an error, the others go on.

A call that asked an instant before its time was up goes on until the counter moves again. So from
then on it is raised every two milliseconds until the call has ended.

The process's watchdog looks at the earliest deadline of all running calls. A call whose deadline is
later than the planned look costs a dictionary step, and no watch of its own.

Threads
-------

A call's thread enters it into `_running`, then reads `_planned`; a look sets `_planned`, then reads
`_running`: so either the look sees the call, or the call plans a look. `_alarm` and `_planned` are
written by any thread: of two that plan at once, both looks take place, and a `_planned` that has
passed counts for nothing. `reason` is written by the thread that stops a call, `_ended` by the
call's own; whichever of `stop` and the end comes second ends the last watch. The callback runs in
the call's thread.
"""

from __future__ import annotations

import itertools
import math
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.sync.forks import in_forked_child
from epochal._core.sync.watchdog import Watch, watchdog
from epochal.loaders.wasm.binding import answer_with, ask_when_epoch_moves
from epochal.loaders.wasm.engine import engine

if TYPE_CHECKING:
    import wasmtime

_AGAIN_S: Final = 0.002

_keys: Final = itertools.count(1)
_running: Final[dict[int, RunningCall]] = {}  # by the key of the store
_alarm: Watch | None = None
_planned = math.inf


class RunningCall:
    """One call into a guest under a time limit, as a context manager.

    Args:
        key: the store's, from `watch_store`.
        timeout: seconds.

    Attributes:
        deadline: when its time is up, by the monotonic clock.
        reason: why it was stopped; empty for a call that was not.
    """

    __slots__ = ("_again", "_ended", "_key", "_timeout", "deadline", "reason")

    def __init__(self, key: int, timeout: float) -> None:
        self._key: Final = key
        self._timeout: Final = timeout
        self._again: Watch | None = None
        self._ended = False
        self.reason = ""
        self.deadline = math.inf

    def __enter__(self) -> RunningCall:
        now = monotonic()
        self.deadline = now + self._timeout
        _running[self._key] = self
        # Read after the line above. A look that has passed was planned too late to be noted.
        if not now < _planned <= self.deadline:
            try:
                _plan(self.deadline)
            except BaseException:  # no thread can be started: no call without its limit
                del _running[self._key]
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        del _running[self._key]
        if self._again is not None:
            self._again.end()

    def expire(self) -> None:
        """Stop it, since its time is up."""
        self.stop(f"did not return within {self._timeout:g} s")

    def stop(self, reason: str) -> None:
        """Have the call end with an error, for certain. Any thread; idempotent."""
        if self._ended:
            return
        self.reason = self.reason or reason
        # After the reason, which the callback looks for.
        engine().increment_epoch()
        again = self._again = Watch(watchdog, _AGAIN_S, lambda _: self.stop(reason))
        again.begin()
        self._end_if_ended(again)

    def _end_if_ended(self, again: Watch) -> None:
        if self._ended:
            again.end()


def watch_store(store: wasmtime.Store) -> int:
    """Have a store's calls ask here when the engine's epoch moves; returns the store's key."""
    key = next(_keys)
    ask_when_epoch_moves(store, key)
    return key


def running(key: int) -> RunningCall | None:
    """The call that runs in a store."""
    return _running.get(key)


def _plan(deadline: float) -> None:
    global _alarm, _planned
    alarm = Watch(watchdog, max(0.0, deadline - monotonic()), _look)
    alarm.begin()
    _alarm, _planned = alarm, deadline


def _look(alarm: Watch) -> None:
    """Stop the calls whose time is up, and plan the next look; runs in the watchdog's thread."""
    global _planned
    is_latest = alarm is _alarm
    if is_latest:
        _planned = math.inf  # before the copy
    calls, now = list(_running.values()), monotonic()
    for call in calls:
        if call.deadline <= now and not call.reason:
            call.expire()
    left = min((call.deadline for call in calls if call.deadline > now), default=math.inf)
    # A call that stands in the way of another's look plans its own.
    if is_latest and left < _planned:
        _plan(left)


def _why_to_stop(key: int) -> str:
    call = _running.get(key)
    return call.reason if call is not None else ""


answer_with(_why_to_stop)


def _leave_to_parent() -> None:
    global _alarm, _planned
    _running.clear()
    _alarm, _planned = None, math.inf


in_forked_child(_leave_to_parent)
