"""The batches of a small result: in one call of the engine, and before the reader asks for them.

The engine's stream costs a small query three waits for the engine, on threads of the engine: one to
begin, one for the batch, one for the end. `collect` is one wait, on the thread that asks: 0.23 ms
instead of 0.33 ms for a query of one row.

`ReadAhead`: the thread that planned a query adds, and the reader takes. A reader that comes while
the thread still reads waits for its end: then there is at most what a small result has.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import deque
from traceback import clear_frames
from typing import TYPE_CHECKING, Final

from epochal._core.sync.completion import Completion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    import pyarrow as pa
    from datafusion import DataFrame, RecordBatchStream
    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution

    Batch: TypeAlias = pa.RecordBatch | RecordBatch


class CollectedBatches:
    """The batches of a plan that the engine runs in one call, once the first is asked for.

    Args:
        frame: the plan. The engine does not stop between its batches, so it must be a small one.
    """

    __slots__ = ("__weakref__", "_batches", "_frame", "_stream")

    def __init__(self, frame: DataFrame) -> None:
        self._frame: Final = frame
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._stream: RecordBatchStream | None = None

    def __next__(self) -> pa.RecordBatch | RecordBatch:
        if self._stream is not None:  # an event loop has begun to read it
            return next(self._stream)
        if self._batches is None:
            self._batches = iter(self._frame.collect())
        return next(self._batches)

    async def __anext__(self) -> pa.RecordBatch | RecordBatch:
        """The next batch, for an event loop, which must not wait for the engine."""
        if self._batches is not None:
            try:
                return next(self._batches)
            except StopIteration:
                raise StopAsyncIteration from None
        if self._stream is None:
            self._stream = self._frame.execute_stream()
        return await self._stream.__anext__()


class ReadAhead:
    """Batches that have been read, or are being read."""

    __slots__ = ("_batches", "_done", "_error")

    def __init__(self) -> None:
        self._batches: Final[deque[Batch]] = deque()
        self._error: BaseException | None = None
        self._done: Final[Completion[None]] = Completion()

    def fill(self, execution: Execution, explain: Callable[[BaseException], BaseException]) -> None:
        """Read to the end; an error is kept for the reader."""
        try:
            while execution.stream is not None:
                batch = next(execution.stream, None)
                if batch is None:
                    break
                self._batches.append(batch)
        except BaseException as error:  # noqa: BLE001  # the engine raises any class
            self._error = explain(error)
            clear_frames(error.__traceback__)  # they keep the plan, and the plan our adapters
        finally:
            self._done.set_result(None)

    def wait(self, execution: Execution) -> Batch | None:
        """The next batch, for a thread; None at the end.

        Raises:
            QueryError: the query ended first.
            BaseException: the error that ended the reading.
        """
        if not self.is_done:
            with execution.waking(self._cancel):
                has_come = self._done.wait(execution.remaining)
            if not has_come or self._done.exception() is not None:
                execution.check()
                raise TimeoutError
        return self.take()

    def _cancel(self) -> None:
        self._done.set_exception(CancelledError())

    async def await_next(self) -> Batch | None:
        """The next batch, for an event loop; None at the end.

        Raises:
            BaseException: the error that ended the reading.
        """
        if not self.is_done:
            await self._done.wait_async()
            self._done.result()
        return self.take()

    def take(self) -> Batch | None:
        """The next batch of those that have been read; None at the end.

        Raises:
            BaseException: the error that ended the reading.
        """
        if self._batches:
            return self._batches.popleft()
        if (error := self._error) is not None:
            self._error = None
            try:
                raise error
            finally:
                del error  # a cycle through this frame would keep a plugin in use
        return None

    @property
    def is_done(self) -> bool:
        """Whether all has been read."""
        return self._done.done()
