"""The result of a query: a stream of Arrow batches, with their provenance.

The query runs while its result is read. It pins the generations of the plugins that it uses, and no
others, until it has given its last batch, is closed, is cancelled, fails, or is dropped.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pyarrow as pa

from epochal.sql.execution import INTERRUPTS, EndReason
from epochal.sql.json_values import convert_columns
from epochal.sql.off_thread import next_batch
from epochal.sql.read_ahead import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable

    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution
    from epochal.sql.off_thread import BatchFetcher
    from epochal.sql.provenance import EpochRef, Provenance


class Result:
    """The rows of a query, as a stream; made by `Database.query` and `Database.aquery`.

    Iterate over it for batches (`for` and `async for` both work), or read the rest at once with
    `to_table` or `rows`. A result that is read to its end needs no `close`; close any other with
    `close` or a `with` block. One thread or task reads at a time; any may call `cancel`.

    Attributes:
        schema: its columns.
        epoch: the epoch that it was planned in.
        provenance: the code of each plugin function and table that the SQL names, in the order of
            the calls; empty if it names none.
        is_small: whether the engine reads few rows for it, so that a thread may wait for its end.
        explains: whether it is the plan of an EXPLAIN, and not rows.
        memo: for hosts, which may keep here what they compute of `schema` and `provenance`: another
            result of the same text in the same epoch may have it too. It must hold no plugin.

    Example:
        >>> with db.query("SELECT origin, count(*) FROM flights GROUP BY origin") as result:
        ...     for batch in result:
        ...         print(batch.num_rows)
    """

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_execution",
        "_explain",
        "_fetcher",
        "_has_schema",
        "epoch",
        "explains",
        "is_small",
        "memo",
        "provenance",
        "schema",
    )

    def __init__(
        self,
        schema: pa.Schema,
        epoch: EpochRef,
        provenance: tuple[Provenance, ...],
        execution: Execution,
        explain: Callable[[BaseException], BaseException],
        fetcher: BatchFetcher | None,
        *,
        is_small: bool,
        explains: bool,
        memo: dict[str, Any],
    ) -> None:
        self.schema: Final = schema
        self.epoch: Final = epoch
        self.provenance: Final = provenance
        self._execution: Final = execution
        self._explain: Final = explain
        self._fetcher: Final = fetcher
        self._has_schema: bool | None = None
        self._ahead: ReadAhead | None = None
        self.is_small: Final = is_small
        self.explains: Final = explains
        self.memo: Final = memo

    # --- reading -----------------------------------------------------------------------------

    def __iter__(self) -> Result:
        return self

    def __next__(self) -> pa.RecordBatch:
        batch = self._next()
        if batch is None:
            raise StopIteration
        return batch

    def to_table(self) -> pa.Table:
        """Read the rest into one table.

        Raises:
            FunctionError: a plugin's function raised (its exception is the cause) or returned a
                value of the wrong type.
            QueryTimeoutError: the time limit was reached.
            QueryCancelledError: the query was cancelled.
            QueryError: the engine failed, or the result was closed before.
        """
        return pa.Table.from_batches(list(self), schema=self.schema)

    def rows(self) -> list[tuple[Any, ...]]:
        """Read the rest as a list of tuples of Python values.

        Raises:
            QueryError: as `to_table`; or a value has no equivalent in Python, such as an instant in
                nanoseconds: the message names the column.
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

    # --- the end -----------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the query has ended, for any reason."""
        return self._execution.end_reason is not None

    def cancel(self) -> None:
        """Stop the query, from any thread; does nothing if it has ended.

        Its plugins are released at once, except by calls under way, which run to their end. The
        reader gets `QueryCancelledError`: at once if the query has a time limit, is read by
        `async for`, or calls no plugin function and is not small; otherwise at the engine's next
        call or next batch. (The same holds for Ctrl-C in a reading main thread.)
        """
        self._execution.stop(EndReason.CANCELLED)

    def close(self) -> None:
        """End the query and release its plugins; does nothing if it has ended."""
        self._execution.stop(EndReason.CLOSED)

    async def aclose(self) -> None:
        """`close`, for event loops."""
        self.close()

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Result:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        # No ResourceWarning: dropping a result is a proper way to end its query.
        if not is_exiting():
            self._execution.stop(EndReason.CLOSED)

    def __repr__(self) -> str:
        reason = self._execution.end_reason
        state = "running" if reason is None else reason.value
        return f"<result on epoch {self.epoch.number}: {state}>"

    # --- internals ---------------------------------------------------------------------------

    def _next(self) -> pa.RecordBatch | None:
        if not self._begin():
            return None
        try:
            batch = self._fetch()
        except INTERRUPTS as error:  # Ctrl-C
            self._execution.stop(EndReason.CANCELLED)
            clear_frames(error.__traceback__)
            raise
        except BaseException as error:  # noqa: BLE001  # the engine raises any class
            fail_query(self._execution, self._explain, error)
        return self._finish(batch)

    def begin_ahead(self) -> Callable[[], None] | None:
        """Have a small result read ahead, by calling what this returns; None for another one."""
        if not self.is_small:
            return None
        ahead = self._ahead = ReadAhead()
        return partial(ahead.fill, self._execution, self._explain)

    def _fetch(self) -> RecordBatch | None:
        execution = self._execution
        if self._ahead is not None:
            return self._ahead.wait(execution)
        if self._fetcher is not None:
            return self._fetcher.fetch(execution)
        return next(execution.stream, None) if execution.stream is not None else None

    async def _anext(self) -> pa.RecordBatch | None:
        if not self._begin():
            return None
        execution, loop, ahead = self._execution, asyncio.get_running_loop(), self._ahead
        if ahead is not None and ahead.is_done:
            return self._next()
        batches = next_batch(execution) if ahead is None else ahead.await_next()
        fetch = asyncio.ensure_future(batches)
        try:
            with execution.waking(lambda: loop.call_soon_threadsafe(fetch.cancel)):
                async with asyncio.timeout(execution.remaining):
                    batch = await fetch
        except asyncio.CancelledError as error:
            clear_frames(error.__traceback__)
            self._cancelled()
            raise
        except INTERRUPTS:
            self._execution.stop(EndReason.CANCELLED)
            raise
        except BaseException as error:  # noqa: BLE001  # the engine raises any class
            fail_query(self._execution, self._explain, error)
        return self._finish(batch)

    def _begin(self) -> bool:
        """Whether more batches may come."""
        if self._execution.is_running:
            return True
        self._execution.check()
        return self._execution.end_reason is None

    def _finish(self, batch: RecordBatch | None) -> pa.RecordBatch | None:
        if batch is None:
            self._execution.stop(EndReason.EXHAUSTED)
        if not self._execution.is_running:  # it may have been ended meanwhile
            self._execution.check()
        if batch is None:
            return None
        received = batch if isinstance(batch, pa.RecordBatch) else batch.to_pyarrow()
        if self._has_schema is None:  # the same for all batches
            self._has_schema = received.schema == self.schema
        # They differ where the engine has found out since that a column is never null.
        if self._has_schema:
            return received
        return pa.RecordBatch.from_arrays(received.columns, schema=self.schema)

    def _cancelled(self) -> None:
        """End the query if its task was cancelled; a wait is also cancelled by the query's end."""
        task = asyncio.current_task()
        if self._execution.end_reason is not None and not (task and task.cancelling()):
            self._execution.check()  # raises
        self._execution.stop(EndReason.CANCELLED)


def fail_query(
    execution: Execution, explain: Callable[[BaseException], BaseException], error: BaseException
) -> NoReturn:
    """End a query after an error of the engine, and raise the error that explains it."""
    explained = explain(error)
    execution.stop(EndReason.FAILED)
    # The engine's frames keep its plan, and the plan keeps our adapters.
    clear_frames(error.__traceback__)
    try:
        raise explained from explained.__cause__  # not with the engine's error as its context
    finally:
        del explained, error  # a cycle through this frame would keep a plugin in use


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*convert_columns(table, lambda column: column.to_pylist()), strict=True))
