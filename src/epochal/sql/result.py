"""A query's result: Arrow batches as the engine makes them, and where they come from.

A result is a stream: the query runs while you read. It pins the generations of the plugins that it
uses, and no others, until it has given its last batch, is closed, is cancelled, fails, or is
dropped.
"""

from __future__ import annotations

import asyncio
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pyarrow as pa

from epochal.sql.execution import INTERRUPTS, EndReason
from epochal.sql.json_values import convert_columns
from epochal.sql.off_thread import next_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution
    from epochal.sql.off_thread import BatchFetcher
    from epochal.sql.provenance import EpochRecord, Provenance


class Result:
    """The rows of a query, as a stream; made by `Database.query` and `Database.aquery`.

    Iterate it for batches (`for` and `async for` both work), or take all that is left at once with
    `to_table` or `rows`. Whoever reads it to its end, by whatever way, need not close it; anybody
    else should, with `close` or a `with` block. One thread or task reads at a time; `cancel` may be
    called from any.

    Attributes:
        schema: its columns.
        epoch: the epoch that it was planned in.
        provenance: the code behind each plugin function that the SQL calls, in the order of the
            calls; empty when it calls none.

    Example:
        >>> with db.query("SELECT origin, count(*) FROM flights GROUP BY origin") as result:
        ...     for batch in result:
        ...         print(batch.num_rows)
    """

    __slots__ = (
        "__weakref__",
        "_apart",
        "_execution",
        "_explain",
        "_fits",
        "epoch",
        "provenance",
        "schema",
    )

    def __init__(
        self,
        schema: pa.Schema,
        epoch: EpochRecord,
        provenance: tuple[Provenance, ...],
        execution: Execution,
        explain: Callable[[BaseException], BaseException],
        apart: BatchFetcher | None,
    ) -> None:
        self.schema: Final = schema
        self.epoch: Final = epoch
        self.provenance: Final = provenance
        self._execution: Final = execution
        self._explain: Final = explain
        self._apart: Final = apart
        self._fits: bool | None = None

    # --- reading -----------------------------------------------------------------------------

    def __iter__(self) -> Result:
        return self

    def __next__(self) -> pa.RecordBatch:
        batch = self._next()
        if batch is None:
            raise StopIteration
        return batch

    def to_table(self) -> pa.Table:
        """Read all that is left into one table.

        Raises:
            FunctionError: a plugin's function raised (its exception is the cause) or broke its
                promise.
            QueryTimeoutError: the time limit was reached.
            QueryCancelledError: it was cancelled.
            QueryError: the engine failed, or the result was closed before.
        """
        return pa.Table.from_batches(list(self), schema=self.schema)

    def rows(self) -> list[tuple[Any, ...]]:
        """Read all that is left as a list of tuples of Python values.

        Raises:
            QueryError: as `to_table`; or Python has no such value, an instant in nanoseconds say,
                and the error names the column.
        """
        return _rows(self.to_table())

    def __aiter__(self) -> Result:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        batch = await self._anext()
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def ato_table(self) -> pa.Table:
        """`to_table` for event loops. Cancelling the task stops the query.

        Raises:
            QueryError: as `to_table`.
        """
        return pa.Table.from_batches([batch async for batch in self], schema=self.schema)

    async def arows(self) -> list[tuple[Any, ...]]:
        """`rows` for event loops. Cancelling the task stops the query.

        Raises:
            QueryError: as `to_table`.
        """
        return _rows(await self.ato_table())

    # --- ending ------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the query has ended, in whatever way."""
        return self._execution.ending is not None

    def cancel(self) -> None:
        """Stop the query, from any thread; does nothing if it has ended.

        Its plugins are let go at once, except by calls that are under way: those end by themselves.
        Whoever reads gets `QueryCancelledError`: at once where the query has a time limit or calls
        no plugin function, or is read by `async for`; otherwise when the engine asks for the next
        call or gives the next batch. (The same holds for Ctrl-C in a reading main thread.)
        """
        self._end(EndReason.CANCELLED)

    def close(self) -> None:
        """End the query and let its plugins go; does nothing if it has ended."""
        self._end(EndReason.CLOSED)

    async def aclose(self) -> None:
        """`close`, for event loops."""
        self.close()

    def __enter__(self) -> Result:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Result:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Dropping a result ends its query, and that is no mistake of the caller's: no warning.
        self._execution.stop(EndReason.CLOSED)

    def __repr__(self) -> str:
        ending = self._execution.ending
        state = "running" if ending is None else ending.value
        return f"<result on epoch {self.epoch.number}: {state}>"

    # --- how ---------------------------------------------------------------------------------

    def _next(self) -> pa.RecordBatch | None:
        if not self._begin():
            return None
        try:
            batch = self._fetch()
        except INTERRUPTS as error:  # Ctrl-C
            self._end(EndReason.CANCELLED)
            clear_frames(error.__traceback__)
            raise
        except BaseException as error:  # noqa: BLE001  # the engine's, of any class; raised anew
            self._fail(error)
        return self._finish(batch)

    def _fetch(self) -> RecordBatch | None:
        execution = self._execution
        if self._apart is not None:
            return self._apart.fetch(execution)
        return next(execution.stream, None) if execution.stream is not None else None

    async def _anext(self) -> pa.RecordBatch | None:
        if not self._begin():
            return None
        execution, loop = self._execution, asyncio.get_running_loop()
        fetch = asyncio.ensure_future(next_batch(execution))
        try:
            with execution.waking(lambda: loop.call_soon_threadsafe(fetch.cancel)):
                async with asyncio.timeout(execution.remaining):
                    batch = await fetch
        except asyncio.CancelledError as error:
            clear_frames(error.__traceback__)
            self._cancelled()
            raise
        except INTERRUPTS:
            self._end(EndReason.CANCELLED)
            raise
        except BaseException as error:  # noqa: BLE001  # the engine's, of any class; raised anew
            self._fail(error)
        return self._finish(batch)

    def _begin(self) -> bool:
        """Whether there is more to come."""
        self._execution.check()
        return self._execution.ending is None

    def _finish(self, batch: RecordBatch | None) -> pa.RecordBatch | None:
        if batch is None:
            self._end(EndReason.EXHAUSTED)
        self._execution.check()  # it may have been ended meanwhile
        if batch is None:
            return None
        given = batch.to_pyarrow()
        if self._fits is None:  # the same for all batches
            self._fits = given.schema == self.schema
        # Where it does not fit the engine knows better what is never null, by now.
        if self._fits:
            return given
        return pa.RecordBatch.from_arrays(given.columns, schema=self.schema)

    def _fail(self, error: BaseException) -> NoReturn:
        fault = self._explain(error)
        self._end(EndReason.FAILED)
        # The engine's own frames keep its plan, which keeps our adapters.
        clear_frames(error.__traceback__)
        try:
            raise fault from fault.__cause__  # without the engine's error as its context
        finally:
            del fault, error  # no cycle through this frame: it would keep a plugin in use

    def _cancelled(self) -> None:
        """A wait was cancelled: by the query's end, or because the task was."""
        task = asyncio.current_task()
        if self._execution.ending is not None and not (task and task.cancelling()):
            self._execution.check()  # raises
        self._end(EndReason.CANCELLED)

    def _end(self, ending: EndReason) -> None:
        self._execution.stop(ending)


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*convert_columns(table, lambda column: column.to_pylist()), strict=True))
