"""Waiting for the engine on other threads, so that the caller can stop waiting.

The problem: a thread that plans a query or fetches a batch is inside native code until that
returns, which may take minutes, and nothing interrupts it: no other thread, no time limit. A query
that calls plugin functions is stopped by these; one that calls none is not.

The idea: in the cases where that matters, another thread does the work, and the caller waits for
the result or for the query's end, whichever comes first. An event loop on a thread of its own
awaits batches (`BatchFetcher`): cancelling such a wait stops the engine too, at its next yield.
Planning cannot be awaited, so threads do it (`PlanningThreads`). An abandoned planning runs to its
end, and its thread then takes the next.

Fetching this way costs 0.1 ms a batch, a fifth of a small query, so it is not done for queries that
call plugin functions and have no time limit.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

from epochal._core.sync.threads import LoopThread, ThreadPool
from epochal.errors import BusyError
from epochal.sql.execution import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution

T = TypeVar("T")

_PLANNING: Final = 16
_WAITING: Final = 256
"""So many queries of event loops are planned at once, and so many wait for that."""


async def next_batch(execution: Execution) -> RecordBatch | None:
    """A query's next batch; None at its end. Cancelling it stops the engine."""
    if execution.stream is None:
        return None
    try:
        return await execution.stream.__anext__()
    except StopAsyncIteration:
        return None


class BatchFetcher:
    """An event loop that awaits batches for threads; its thread starts with the first batch.

    Should the thread end before `close`, the next batch starts another.
    """

    __slots__ = ("_closed", "_lock", "_loop")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        # Both are written under `_lock`.
        self._loop: LoopThread | None = None
        self._closed = False

    def fetch(self, execution: Execution) -> RecordBatch | None:
        """A query's next batch; None at its end.

        Raises:
            QueryError: the query ended first: its time ran out, or another thread ended it.
            NoThreadError: the system starts no more threads.
            Exception: as raised by the engine.
        """
        fetching = self._running_loop().submit(next_batch(execution))
        try:
            with execution.waking(fetching.cancel):
                return fetching.result(execution.remaining)
        except (asyncio.CancelledError, TimeoutError):
            execution.check()
            raise
        finally:
            fetching.cancel()  # the time ran out, or Ctrl-C; otherwise it does nothing

    def _running_loop(self) -> LoopThread:
        with self._lock:
            loop = self._loop
            if loop is None or not (loop.is_alive or self._closed):
                loop = self._loop = LoopThread("epochal-fetcher")
            return loop

    def close(self, timeout: float) -> None:
        """End the thread; waits `timeout` seconds for it. May be called again, to wait longer."""
        with self._lock:
            loop, self._closed = self._loop, True
        if loop is not None:
            loop.stop(timeout)

    def __del__(self) -> None:
        self.close(0.0)  # the loop's thread does not refer to the fetcher


class PlanningThreads:
    """Threads that plan queries: for event loops, and for threads that have a time limit.

    A query text of a few kilobytes can take minutes of planning. In an event loop's own thread pool
    a handful of such texts would hold up all other work there, and an unbounded pool would let
    clients start any number of threads. So event loops share a bounded pool with a bounded queue.
    A thread that plans with a time limit waits for its own planning alone, and needs no bound.

    Args:
        threads: how many plan for event loops at once.
        waiting: how many more may wait for one of them.
    """

    __slots__ = ("_bounded", "_unbounded")

    def __init__(self, threads: int = _PLANNING, waiting: int = _WAITING) -> None:
        self._bounded: Final = ThreadPool(
            "epochal-planner", max_threads=threads, max_waiting=waiting
        )
        self._unbounded: Final = ThreadPool("epochal-planner")

    async def arun(self, work: Callable[[], T]) -> T:
        """Run `work` on a thread, in this context; cancelling drops it if it has not begun.

        Raises:
            BusyError: too many are waiting already.
            Exception: as raised by `work`.
        """
        planning = self._bounded.try_submit(partial(copy_context().run, work))
        del work  # a cancelled task leaves this frame behind, which must not keep a query
        if planning is None:
            raise BusyError
        try:
            return await asyncio.wrap_future(planning)
        finally:
            planning.cancel()
            del planning  # no cycle through this frame, which an error's traceback holds

    def run(self, work: Callable[[], T], execution: Execution) -> T:
        """Run `work` on another thread until it is done or the query ends.

        Raises:
            QueryError: the query ended first: its time ran out, or another thread ended it.
            BaseException: as raised by `work`.
        """
        planning = self._unbounded.try_submit(work)
        assert planning is not None, "the pool has no bound"
        # True when the planning is done, False when the query ends. Not the future itself: one that
        # its own callback keeps would wait for the collector, and the query with it.
        news: SimpleQueue[bool] = SimpleQueue()
        planning.add_done_callback(lambda _: news.put(True))
        try:
            with execution.waking(lambda: news.put(False)):
                is_done = _next(news, execution)
            # A query that failed did so in its own planning, which returns the error in a moment.
            while not is_done and execution.end_reason is EndReason.FAILED:
                is_done = news.get()
            if not is_done:
                execution.check()
                raise AssertionError("woken without an end")  # pragma: no cover
            return planning.result()
        finally:
            del planning  # no cycle through this frame, which an error's traceback holds


def _next(news: SimpleQueue[bool], execution: Execution) -> bool:
    try:
        return news.get(timeout=execution.remaining)
    except Empty:
        execution.stop(EndReason.EXPIRED)
        return False
