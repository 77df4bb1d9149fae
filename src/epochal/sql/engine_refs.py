"""Whether the engine may still call Python.

The problem: leaving the process while a thread of the engine is in Python, or about to be, aborts
it. These threads are not ours to join, and a query's plan is dropped by them, some time after the
query has ended.

The idea: whatever of ours the engine holds, and each call of ours into it, is *lent*: an object
that is known here weakly. When none is left alive the engine has nothing left to call. What may end
up in a traceback must not keep a lent object, or an error that is kept would look like a running
query: so no frame has one in a variable, and what the engine calls is no function of our own but a
`partial`.

Who reads, who writes
---------------------

Any thread lends; an object tells of its end from wherever it dies, by one `SimpleQueue.put`, which
may be interrupted by another of itself. One thread at a time waits.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final, TypeVar

import datafusion

from epochal._core.sync.weak_registry import WeakRegistry

T = TypeVar("T")

_NUDGE_S: Final = 0.005


class EngineRef:
    """Something that stands for the engine's hold on a query, where nothing else does."""

    __slots__ = ("__weakref__",)


class Engagement:
    """What the engine holds of ours, and the calls into it, over all queries of a database."""

    __slots__ = ("_gone", "_lent")

    # ``_lent`` is added to by any thread; what is taken out of it is told to ``_gone``, where the
    # one who waits reads.

    def __init__(self) -> None:
        self._gone: SimpleQueue[None] | None = None
        self._lent: Final[WeakRegistry[object]] = WeakRegistry(self._tell)

    def track(self, item: T) -> T:
        """Count an object for as long as it lives."""
        self._lent.add(item)
        return item

    @property
    def is_engaged(self) -> bool:
        """Whether anything is lent."""
        return len(self._lent) > 0

    def wait_ended(self, timeout: float) -> bool:
        """Wait until the engine holds nothing and is in no call; returns whether that came.

        Args:
            timeout: seconds.
        """
        self._gone = gone = SimpleQueue[None]()
        deadline = monotonic() + timeout
        while self.is_engaged:
            # What the engine drops on a thread of its own is let go by the binding when it is
            # called next, so that nobody would tell: call it.
            datafusion.lit(0)
            left = deadline - monotonic()
            if left <= 0.0:
                return not self.is_engaged
            try:
                gone.get(timeout=min(left, _NUDGE_S))
            except Empty:
                continue
        return True

    def _tell(self) -> None:
        if (gone := self._gone) is not None:
            gone.put(None)
