"""Knows whether the engine may still call Python.

The problem: if the process exits while a thread of the engine is in Python, or about to enter it,
the process aborts. These threads cannot be joined, and they drop a query's plan some time after the
query has ended.

The idea: every object of ours that the engine holds, and every call into the engine, is *tracked*:
this module holds a weak reference to it. Once none of these objects is alive, the engine has
nothing left to call. An object that a traceback may reach must not keep a tracked object alive, or
an error that the caller keeps would look like a running query. Therefore no frame has a tracked
object in a variable, and the engine calls a `partial`, not a function of ours.

Which thread does what
----------------------

Any thread tracks objects. The death of an object is reported by one `SimpleQueue.put`, from
whichever thread drops it; it may interrupt another such `put`. One thread at a time waits.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

import datafusion

from epochal._core.sync.weak_registry import WeakRegistry
from epochal._core.use.drain_schedule import CollectionSchedule

T = TypeVar("T")

_NUDGE_S: Final = 0.005
"""How often a waiting thread calls the engine, so that the binding drops dead objects."""


class EngineRef:
    """Stands for the engine's hold on a query, where no other object does."""

    __slots__ = ("__weakref__",)


class EngineRefs:
    """The tracked objects of all queries of one database."""

    __slots__ = ("_deaths", "_live")

    def __init__(self) -> None:
        self._deaths: SimpleQueue[None] | None = None
        self._live: Final[WeakRegistry[object]] = WeakRegistry(self._notify)

    def track(self, item: T) -> T:
        """Count an object for as long as it lives."""
        self._live.add(item)
        return item

    @property
    def is_empty(self) -> bool:
        """Whether no tracked object is alive."""
        return len(self._live) == 0

    def wait_empty(self, timeout: float) -> bool:
        """Wait until the engine holds no object of ours and runs no call.

        Args:
            timeout: seconds.

        Returns:
            False on a timeout.
        """
        # Set before the first look: a death after that look is then in the queue.
        self._deaths = deaths = SimpleQueue[None]()
        # An error that its own frame refers to may hold one, until the collector runs.
        schedule = CollectionSchedule(timeout)
        while not self.is_empty:
            # An object that the engine drops on its own thread is freed by the binding at its next
            # call, and only then reported: so call it.
            datafusion.lit(0)
            if schedule.is_over:
                return self.is_empty
            with suppress(Empty):
                deaths.get(timeout=min(schedule.until_next(), _NUDGE_S))
            schedule.collect()
        return True

    def _notify(self) -> None:
        if (deaths := self._deaths) is not None:
            deaths.put(None)
