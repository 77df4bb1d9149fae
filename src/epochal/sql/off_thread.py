"""Waiting for batches on another thread, so that the caller can stop waiting.

The problem: a thread that fetches a batch is inside native code until that returns, which may take
minutes, and nothing interrupts it: no other thread, no time limit. A query that calls plugin
functions is stopped by these; one that calls none is not.

The idea: in the cases where that matters, an event loop on a thread of its own awaits the batches,
and the caller waits for them or for the query's end, whichever comes first. Cancelling such a wait
stops the engine too, at its next yield. (Planning cannot be awaited: see `planning_threads`.)

Fetching this way costs 0.1 ms a batch, a fifth of a small query, so it is not done for queries that
call plugin functions and have no time limit, nor for those that the engine is done with in a
moment.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Final

from epochal._core.sync.loop_thread import LoopThread
from epochal.sql.contexts import start_awaiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution


async def next_batch(execution: Execution) -> RecordBatch | None:
    """A query's next batch; None at its end. Cancelling it stops the engine."""
    await start_awaiting()
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
                if not fetching.ended.wait(execution.remaining):
                    fetching.cancel()
                return fetching.ended.result()
        except asyncio.CancelledError:
            execution.check()
            raise
        finally:
            fetching.cancel()  # the time ran out, or Ctrl-C; otherwise it does nothing
            del fetching  # it has the error, whose traceback has this frame

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

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_exiting():
            self.close(0.0)  # the loop's thread does not refer to the fetcher
