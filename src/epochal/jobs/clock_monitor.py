"""Detects that the wall clock was set, by comparing it with the monotonic clock.

Schedules are kept in wall time, so that they survive a restart and mean what people mean. But a
clock that is set back by an hour would delay every job by an hour. Every few seconds a thread
compares how far the two clocks went. A machine that slept looks like a clock that was set forward:
its monotonic clock stood still meanwhile.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from epochal._core.sync.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_S: Final = 10.0
_AT_ONCE_S: Final = 0.1
"""Two readings of the monotonic clock less than this apart were made without a long stop."""


class Clock:
    """The two clocks; tests put their own in its place."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time()

    def monotonic(self) -> float:
        """Seconds of a clock that is never set."""
        return monotonic()


class Drift:
    """Measures by how much the wall clock was set; for one thread."""

    __slots__ = ("_clock", "_offset")

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._offset = self._read_offset()

    def _read_offset(self) -> float:
        while True:
            before = self._clock.monotonic()
            now = self._clock.now()
            # Stopped between the two readings, the process would see a clock that was set.
            if self._clock.monotonic() - before < _AT_ONCE_S:
                return now - before

    def measure(self) -> float:
        """Seconds by which the clock was set since the last call; negative if it was set back."""
        before, self._offset = self._offset, self._read_offset()
        return self._offset - before


class Heartbeat:
    """Calls a function every `HEARTBEAT_S` seconds on a thread of its own, until it is stopped.

    Args:
        callback: the function; it must not raise.
    """

    __slots__ = ("_callback", "_stop", "_thread")

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Final = callback
        # Not an Event, which is written in Python: a caller's Ctrl-C may leave its lock taken.
        self._stop: Final[SimpleQueue[None]] = SimpleQueue()
        self._thread: Final = start_thread(self._run, name="epochal-heartbeat")

    def _run(self) -> None:
        while True:
            try:
                return self._stop.get(timeout=HEARTBEAT_S)
            except Empty:
                self._callback()

    def stop(self) -> None:
        """Stop, after the call in progress."""
        self._stop.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
