"""Notices that the wall clock was set: it is compared with the one that is never set.

Schedules are kept in wall time, so that they survive a restart and mean what people mean. But a
clock that is set back by an hour would hold every job for an hour. A thread looks every few seconds
whether the two clocks went on alike. A machine that slept looks like a clock that was set forward:
the monotonic one stands still meanwhile.
"""

from __future__ import annotations

import threading
from time import monotonic, time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT_S: Final = 10.0
_AT_ONCE_S: Final = 0.1


class Clock:
    """What the time is; replaced in tests."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time()

    def monotonic(self) -> float:
        """Seconds of a clock that is never set."""
        return monotonic()


class Drift:
    """By how much the wall clock was set since the last look; for one thread."""

    __slots__ = ("_clock", "_offset")

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._offset = self._now()

    def _now(self) -> float:
        while True:
            before = self._clock.monotonic()
            now = self._clock.now()
            # Stopped between the two, the process would see a clock that was set back.
            if self._clock.monotonic() - before < _AT_ONCE_S:
                return now - before

    def look(self) -> float:
        """Seconds; negative if it was set back."""
        before, self._offset = self._offset, self._now()
        return self._offset - before


class Pulse:
    """Calls a function every `BEAT_S` seconds on a thread of its own, until it is stopped.

    Args:
        beat: what to call; it raises nothing.
    """

    __slots__ = ("_beat", "_over", "_thread")

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat: Final = beat
        self._over: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="epochal-pulse", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            self._beat()

    def stop(self) -> None:
        """Beat no more; waits for the beat under way."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
