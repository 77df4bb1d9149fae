"""The batches of a small result, which the thread that planned it reads before anybody asks.

The thread adds, and the reader takes. A reader who comes while the thread still reads waits for its
end: then there is at most what a small result has.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import deque
from traceback import clear_frames
from typing import TYPE_CHECKING, Final

from epochal._core.sync.completion import Completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution


class ReadAhead:
    """Batches that have been read, or are being read."""

    __slots__ = ("_batches", "_done", "_error")

    def __init__(self) -> None:
        self._batches: Final[deque[RecordBatch]] = deque()
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

    def wait(self, execution: Execution) -> RecordBatch | None:
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

    async def await_next(self) -> RecordBatch | None:
        """The next batch, for an event loop; None at the end.

        Raises:
            BaseException: the error that ended the reading.
        """
        if not self.is_done:
            await self._done.wait_async()
            self._done.result()
        return self.take()

    def take(self) -> RecordBatch | None:
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
