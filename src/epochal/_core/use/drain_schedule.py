"""When a waiting drain asks the collector.

A reference cycle (an exception that its own frame refers to, for example) holds a lease until the
collector runs. A full collection stops every thread, half a second on a heap of ten million
objects. So a waiting drain asks for young collections first, and for a full one late and rarely;
no thread collects when none waits.
"""

from __future__ import annotations

import itertools
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.collector import collect

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLLECT_AFTER_S: Final = ((0.05, 0), (0.25, 1), (1.0, 1), (5.0, 2))
"""After how many seconds of waiting, and which generation: most cycles die in the first."""
_COLLECT_FULL_EVERY_S: Final = 60.0
_COLLECT_AGAIN_S: Final = 0.05
"""After a collection that was refused, because another thread was within one."""


class CollectionSchedule:
    """How long to wait, and when to ask the collector on the way.

    Args:
        timeout: seconds from now; None for no limit.
    """

    __slots__ = ("_alarms", "_collect_at", "_deadline", "_generation", "_started")

    def __init__(self, timeout: float | None) -> None:
        self._started: Final = monotonic()
        self._deadline: Final = None if timeout is None else self._started + timeout
        self._alarms: Final = _alarms(self._started)
        self._collect_at, self._generation = next(self._alarms)

    @property
    def waited(self) -> float:
        """Seconds since the wait began."""
        return monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """Whether the time has run out."""
        return self._deadline is not None and monotonic() >= self._deadline

    def until_next(self) -> float:
        """Seconds until the next collection is due or the time runs out, whichever is first."""
        until = self._collect_at
        if self._deadline is not None:
            until = min(until, self._deadline)
        return max(0.0, until - monotonic())

    def collect(self) -> None:
        """Run the collection that is due, if one is; retry soon if another thread is in one."""
        if monotonic() >= self._collect_at:
            if collect(self._generation):
                self._collect_at, self._generation = next(self._alarms)
            else:
                self._collect_at = monotonic() + _COLLECT_AGAIN_S


def _alarms(started: float) -> Iterator[tuple[float, int]]:
    for after, generation in _COLLECT_AFTER_S:
        yield started + after, generation
    last = started + _COLLECT_AFTER_S[-1][0]
    for minute in itertools.count(1):
        yield last + minute * _COLLECT_FULL_EVERY_S, 2
