"""One query, from what it has pinned to its result.

A `Query` is made by whoever asks, in the thread that asks: it holds what was taken out of the
epoch. It is planned and begun by `start`, in that thread or another.
"""

from __future__ import annotations

from contextlib import suppress
from traceback import clear_frames
from typing import TYPE_CHECKING, Final

from epochal.errors import EpochalError, OperationEndedError
from epochal.sql.engine_refs import EngineRef
from epochal.sql.error_messages import query_error
from epochal.sql.execution import INTERRUPTS, EndReason
from epochal.sql.plugin_tables import StoredTable
from epochal.sql.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from epochal._core.generation.operation import Operation
    from epochal.errors import HostError
    from epochal.sql.execution import Execution
    from epochal.sql.function import Function
    from epochal.sql.function_registry import FunctionIndex
    from epochal.sql.off_thread import BatchFetcher
    from epochal.sql.planning import Planner, Resolved
    from epochal.sql.provenance import EpochRecord, Provenance
    from epochal.sql.tables import Snapshot


class Query:
    """A query that has pinned what it needs, and is to be planned and started."""

    __slots__ = (
        "_fetcher",
        "_index",
        "_operation",
        "_planner",
        "_record",
        "_resolved",
        "_snapshot",
        "_stored",
        "execution",
    )

    def __init__(
        self,
        planner: Planner,
        fetcher: BatchFetcher,
        operation: Operation,
        execution: Execution,
        resolved: Resolved,
        stored: dict[str, StoredTable | HostError],
        index: FunctionIndex,
        record: EpochRecord,
        snapshot: Snapshot,
    ) -> None:
        self._planner: Final = planner
        self._fetcher: Final = fetcher
        self._operation: Final = operation
        self.execution: Final = execution
        self._resolved: Final = resolved
        self._stored: Final = stored
        self._index: Final = index
        self._record: Final = record
        self._snapshot: Final = snapshot

    def start(self) -> Result:
        """Plan it and have the engine begin."""
        execution = self.execution
        call: EngineRef | None = execution.track(EngineRef())
        try:
            schema = self._plan()
        except INTERRUPTS:
            execution.stop(EndReason.CANCELLED)
            raise
        except BaseException as error:  # noqa: BLE001  # the engine's, of any class; explained
            fault = self.explain(error)
            execution.stop(EndReason.FAILED)
            clear_frames(error.__traceback__)  # they keep what the engine holds
            try:
                raise fault from fault.__cause__
            finally:
                del fault, error  # no cycle through this frame: it would keep a plugin in use
        finally:
            call = None  # noqa: F841  # over, though a traceback may keep this frame
        origins = _origins(self._resolved.functions, self._opened())
        # Where nothing of the query's own could stop it, somebody else does the waiting. (A scan
        # stops it only until it has been read.)
        apart = execution.timeout is not None or not self._resolved.functions
        return Result(
            schema,
            self._record,
            origins,
            execution,
            self.explain,
            self._fetcher if apart else None,
        )

    def _opened(self) -> list[StoredTable]:
        """The plugins' tables that it names."""
        served = (one for one in self._stored.values() if isinstance(one, StoredTable))
        return [one for one in served if one.is_open]

    def _plan(self) -> pa.Schema:
        frame = self._planner.plan(
            self._resolved,
            self.execution.parameters,
            self._snapshot,
            self.execution,
            self._stored,
        )
        self._let_go()
        self.execution.began(frame.execute_stream())
        return frame.schema()

    def _let_go(self) -> None:
        """Let the plugins go whose tables the text might have named, and the query does not."""
        opened = self._opened()
        for one in self._stored.values():
            if isinstance(one, StoredTable) and not one.is_open:
                self.execution.release(one.key)
        with suppress(OperationEndedError):  # it was stopped meanwhile
            self._operation.narrow(plugins_of(self._resolved.functions, opened))
        if self.execution.ending is not None:  # `stop` sets this before it ends the operation
            self._operation.end()

    def explain(self, error: BaseException) -> BaseException:
        """What to raise in place of what the engine raised."""
        if isinstance(error, EpochalError):
            return error
        message = str(error)
        fault = self.execution.fault_in(message)
        if fault is not None:
            return fault
        try:
            self.execution.check()
        except EpochalError as ended:
            return ended
        usages = {function.name: function.usage for function in self._resolved.functions}
        refused = query_error(message, self._index, usages, self._resolved.calls)
        refused.__cause__ = error
        return refused


def _origins(
    functions: Iterable[Function], tables: Iterable[StoredTable]
) -> tuple[Provenance, ...]:
    return (*(one.origin for one in functions), *(one.origin for one in tables))


def plugins_of(functions: Iterable[Function], tables: Iterable[StoredTable]) -> set[str]:
    """The plugins that a query with these functions and tables uses."""
    return {origin.plugin for origin in _origins(functions, tables)}
