"""One query, from its pinned plugins to its result.

`Database` makes a `Query` in the calling thread, with everything that the query needs of its epoch.
`start` plans and begins it, in that thread or another.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epochal.errors import EpochalError, OperationEndedError
from epochal.sql.engine_refs import EngineRef
from epochal.sql.error_messages import query_error
from epochal.sql.execution import INTERRUPTS, EndReason
from epochal.sql.plugin_tables import PluginTable
from epochal.sql.read_ahead import CollectedBatches
from epochal.sql.result import Result, fail_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from epochal import Operation
    from epochal.errors import HostError
    from epochal.sql.execution import Execution
    from epochal.sql.function_registry import FunctionIndex
    from epochal.sql.kept_plans import PlanCache
    from epochal.sql.off_thread import BatchFetcher
    from epochal.sql.planning import Planned, Planner, Resolved
    from epochal.sql.provenance import EpochRef, Provenance
    from epochal.sql.tables import Snapshot


@dataclass(slots=True, eq=False)  # not frozen: that costs 3 µs more, a percent of a small query
class Query:
    """A query that has pinned its plugins and is to be planned and started.

    Attributes:
        planner: plans it.
        fetcher: fetches its batches where the reading thread must be able to stop waiting.
        operation: pins its plugins.
        execution: its callables.
        resolved: its SQL and the functions that it calls.
        plugin_tables: the plugins' tables that it may name, or the reason that one is not served.
        cache: the kept plans of its epoch.
        index: the functions of its epoch, for advice in errors.
        epoch: the epoch that it runs in.
        snapshot: the tables that it sees.
        is_read_at_once: whether the thread that plans it reads it next, and the errors of both have
            one way to the caller.
    """

    planner: Planner
    fetcher: BatchFetcher
    operation: Operation
    execution: Execution
    resolved: Resolved
    plugin_tables: Mapping[str, PluginTable | HostError]
    cache: PlanCache
    index: FunctionIndex
    epoch: EpochRef
    snapshot: Snapshot
    is_read_at_once: bool = False

    def start(self) -> Result:
        """Plan the query and have the engine begin it."""
        execution = self.execution
        ref: EngineRef | None = execution.track(EngineRef())
        try:
            planned = self._plan()
        except INTERRUPTS:
            execution.stop(EndReason.CANCELLED)
            raise
        except BaseException as error:  # noqa: BLE001  # the engine raises any class
            fail_query(execution, self.explain, error)
        finally:
            ref = None  # noqa: F841  # the call is over, though a traceback may keep this frame
        # A query without plugin functions has no call at which it could be stopped, so a reading
        # thread must be able to stop waiting, unless the engine is done in a moment. (A scan stops
        # it, but only until it has been read.) A call may take longer than the query may.
        is_small = planned.is_small
        is_limited = execution.timeout is not None and not (is_small and self.is_read_at_once)
        off_thread = is_limited or not (is_small or self.resolved.functions)
        return Result(
            planned.schema,
            self.epoch,
            origins_of(self.resolved, self._opened()),
            execution,
            self.explain,
            self.fetcher if off_thread else None,
            is_small=is_small,
            explains=self.resolved.scan.explains,
            memo=planned.memo,
        )

    def _opened(self) -> list[PluginTable]:
        """The plugins' tables that the query names."""
        tables = self.plugin_tables.values()
        return [table for table in tables if isinstance(table, PluginTable) and table.is_open]

    def _plan(self) -> Planned:
        planned = self.planner.plan(
            self.resolved,
            self.snapshot,
            self.cache,
            self.execution,
            self.plugin_tables,
        )
        if self.plugin_tables:
            self._release_unused()
        # Where the engine's planning may call a function, its error belongs to the planning.
        may_wait = self.is_read_at_once or not self.resolved.runs_in_planning
        if planned.collected is not None and may_wait:
            self.execution.attach(CollectedBatches(planned.collected))
        else:
            self.execution.attach(planned.begin())
        return planned

    def _release_unused(self) -> None:
        """Release the plugins whose tables the text might have named but does not."""
        opened = self._opened()
        for table in self.plugin_tables.values():
            if isinstance(table, PluginTable) and not table.is_open:
                self.execution.release(table.key)
        with suppress(OperationEndedError):  # the query was stopped meanwhile
            self.operation.narrow(plugins_of(self.resolved, opened))
        # `stop` sets the end reason before it ends the operation, which `narrow` may have revived.
        if self.execution.end_reason is not None:
            self.operation.end()

    def explain(self, error: BaseException) -> BaseException:
        """The error to raise in place of the engine's."""
        if isinstance(error, EpochalError):
            return error
        message = str(error)
        plugin_error = self.execution.error_in(message)
        if plugin_error is not None:
            return plugin_error
        try:
            self.execution.check()
        except EpochalError as ended:
            return ended
        usages = {function.name: function.usage for function in self.resolved.functions}
        explained = query_error(message, self.index, usages, self.resolved.calls)
        explained.__cause__ = error
        return explained


def origins_of(resolved: Resolved, tables: Sequence[PluginTable]) -> tuple[Provenance, ...]:
    """The origins of a query's functions and tables."""
    return (*resolved.origins, *(table.origin for table in tables)) if tables else resolved.origins


def plugins_of(resolved: Resolved, tables: Sequence[PluginTable]) -> set[str]:
    """The plugins that a query with these functions and tables uses."""
    return {origin.plugin for origin in origins_of(resolved, tables)}
