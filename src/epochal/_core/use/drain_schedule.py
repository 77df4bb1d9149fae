"""When a waiting drain asks the collector.

A reference cycle (an exception that its own frame refers to, for example) holds a lease until the
collector runs. A full collection stops every thread, half a second on a heap of ten million
objects. So a waiting drain asks for young collections first, and for a full one late and rarely;
no thread collects when none waits.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from epochal._core.introspect.collector import collect

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

    __slots__ = ("_collect_at", "_collected", "_deadline", "_generation", "_started")

    def __init__(self, timeout: float | None) -> None:
        self._started: Final = monotonic()
        self._deadline: Final = None if timeout is None else self._started + timeout
        self._collected = 0  # a count, and no generator: an exception within one would end it
        self._collect_at, self._generation = self._next()

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
                self._collected += 1
                self._collect_at, self._generation = self._next()
            else:
                self._collect_at = monotonic() + _COLLECT_AGAIN_S

    def _next(self) -> tuple[float, int]:
        """When the next collection is due, and of which generation."""
        late = self._collected - (len(_COLLECT_AFTER_S) - 1)
        after, generation = _COLLECT_AFTER_S[min(self._collected, len(_COLLECT_AFTER_S) - 1)]
        return self._started + after + max(0, late) * _COLLECT_FULL_EVERY_S, generation
