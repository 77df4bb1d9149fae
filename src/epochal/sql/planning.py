"""Plans a query in a context that has only the query's own functions.

The problem: a query must see the functions of one epoch, never a mix. It must hold back only the
plugins that it uses, though a plan keeps every function of its planning context. It must be
possible to stop it alone, though the engine registers functions for all queries. And making a
context costs a third of a small query.

The idea: a pool keeps idle contexts. A query takes one out, installs the functions that its SQL
calls, each with an adapter of the query's own, plans, uninstalls them, and puts the context back
when it ends. Meanwhile no other query sees the context, so a change published in between causes no
mix, and the context's memory is the query's. The plan keeps the adapters that it needs. A plan that
another query of the same epoch has made is taken where there is one (`kept_plans`).

Measured for a query over three rows that calls one function (p50, one thread): 0.53 ms with a
function registered beforehand in a shared context, 0.54 ms this way, 0.70 ms with a context made
for each query.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import HostError
from epochal.sql.call_slot import CallSlot
from epochal.sql.catalog import QuerySchema
from epochal.sql.contexts import QUERIES_ONLY, new_context
from epochal.sql.execution import EndReason
from epochal.sql.filter_barrier import keep_filters
from epochal.sql.kept_plans import KeptPlan, PlanCache, facts_of, is_fixed
from epochal.sql.parameters import (
    ParameterFunction,
    is_short,
    is_simple,
    takes_columns,
    types_of,
    with_calls,
)
from epochal.sql.provenance import EpochRef
from epochal.sql.pushdown import needs_of
from epochal.sql.trial_planning import TrialPlanner
from epochal.sql.type_check import check_identities

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    import pyarrow as pa
    from datafusion import DataFrame, RecordBatchStream, SessionContext
    from datafusion.plan import ExecutionPlan, LogicalPlan

    from epochal import Epoch
    from epochal.sql.execution import Execution
    from epochal.sql.function import Function
    from epochal.sql.function_registry import FunctionIndex
    from epochal.sql.kept_plans import Shelf
    from epochal.sql.parameters import Installable
    from epochal.sql.plugin_tables import PluginTable
    from epochal.sql.provenance import Provenance
    from epochal.sql.sql_scan import Scan
    from epochal.sql.tables import Snapshot, Tables

    _Idle: TypeAlias = list[tuple[SessionContext, Snapshot]]

_MAX_IDLE: Final = 16
"""The pool keeps this many contexts; others are dropped after use."""

_KEY: Final = "epochal.sql.planning"
"""Of the kept plans in an epoch."""


@dataclass(frozen=True)
class Resolved:
    """A SQL text and the functions that it calls.

    Attributes:
        sql: the text for the engine, with the engine's names of the functions.
        functions: the plugin functions that it calls.
        calls: the names that it calls, including those of no function.
        scan: what the text shows.
    """

    sql: str
    functions: tuple[Function, ...]
    calls: tuple[str, ...]
    scan: Scan

    @cached_property
    def origins(self) -> tuple[Provenance, ...]:
        """The origins of its functions."""
        return tuple(function.origin for function in self.functions)

    @cached_property
    def runs_in_planning(self) -> bool:
        """Whether the engine may call a function of it while it optimises a plan."""
        return any(function.runs_in_planning for function in self.functions)

    @cached_property
    def names(self) -> frozenset[str]:
        """The engine's names of its functions."""
        return frozenset(function.engine_name for function in self.functions)

    @cached_property
    def plugins(self) -> frozenset[str]:
        """The plugins of its functions."""
        return frozenset(origin.plugin for origin in self.origins)


def resolve(sql: str, scanned: Scan, index: FunctionIndex, epoch: Epoch) -> Resolved:
    """Find the functions of an epoch that a SQL text calls.

    A call that the engine would not find as written (in another case, with quotes, of a table
    function) is rewritten. A call of no function stays as it is, and the engine refuses it.
    """
    functions: dict[Any, Function] = {}
    pieces: list[str] = []
    names: list[str] = []
    copied = 0
    for call in scanned.calls:
        name = index.resolve(call)
        names.append(name or call.name)
        if name is None:
            continue
        called = tuple(index.functions(name, epoch))
        functions |= {function.key: function for function in called}
        written = sql[call.start : call.end]
        if any(function.engine_name != written for function in called):
            pieces += [sql[copied : call.start], f'"{name}"']
            copied = call.end
    resolved = "".join([*pieces, sql[copied:]])
    return Resolved(resolved, tuple(functions.values()), tuple(names), scanned)


class Planned(NamedTuple):
    """A query's plan.

    Attributes:
        begin: begins to run it.
        schema: its columns.
        is_small: whether the engine is done with it in a moment; see `kept_plans`.
        memo: what a host has computed for it; see `Result.memo`.
        collected: the plan, where running it in one call of the engine is cheaper.
    """

    begin: Callable[[], RecordBatchStream]
    schema: pa.Schema
    is_small: bool
    memo: dict[str, Any]
    collected: DataFrame | None = None


class _Use(NamedTuple):
    """What a query uses until it ends."""

    context: SessionContext
    optimises: bool  # the context
    snapshot: Snapshot
    shelf: Shelf | None = None
    kept: KeptPlan | None = None  # to be put back there


class Planner:
    """Plans queries in contexts of a pool.

    Args:
        tables: the database's; `drop_plans` says that they have changed.
        partitions: into how many parts the engine splits its work; None for one per processor.
        memory: bytes that the engine's operators may hold for one query; None for no limit.
    """

    __slots__ = (
        "__weakref__",
        "_caches",
        "_idle",
        "_in_use",
        "_memory",
        "_one_partition",
        "_partitions",
        "_tables",
        "_trials",
    )

    # Any thread takes from ``_idle`` and puts back: `pop` and `append` are one step each. A query's
    # entry in ``_in_use`` is added by the thread that plans it, which *then* reads its end reason,
    # and is taken out by the thread that ends it, *after* it has set the end reason: one of the two
    # puts the context back.

    def __init__(
        self, tables: Tables, partitions: int | None = None, memory: int | None = None
    ) -> None:
        self._tables: Final = tables
        # Those that optimise nothing, and those that do.
        self._idle: Final[tuple[_Idle, _Idle]] = ([], [])
        self._in_use: Final[dict[int, _Use]] = {}
        self._caches: Final[WeakRegistry[PlanCache]] = WeakRegistry()
        self._partitions: Final = partitions
        self._memory: Final = memory
        self._trials: Final = TrialPlanner(partitions)
        self._one_partition: SessionContext | None = None  # any thread sets it

    def cache_of(self, epoch: Epoch) -> PlanCache:
        """The plans that are kept for an epoch, and live as long as it and this planner."""
        caches = epoch.derived(_KEY, _no_caches)
        if (cache := caches.get(self)) is None:
            cache = caches.setdefault(self, self._new_cache(epoch))
        return cache

    def _new_cache(self, epoch: Epoch) -> PlanCache:
        cache = PlanCache(self._tables.current, EpochRef(epoch.number, epoch.id))
        self._caches.add(cache)
        if cache.snapshot is not self._tables.current:  # they changed before it was added
            self.drop_plans()
        return cache

    def plan(
        self,
        resolved: Resolved,
        snapshot: Snapshot,
        cache: PlanCache,
        execution: Execution,
        plugin_tables: Mapping[str, PluginTable | HostError],
    ) -> Planned:
        """Plan a query.

        Args:
            resolved: the SQL and its functions.
            snapshot: the tables that it sees.
            cache: the kept plans of its epoch.
            execution: the run that its adapters call into, with the values of its parameters.
            plugin_tables: the plugins' tables that it may name, by name, or the reason that no
                plugin serves one.

        Raises:
            QueryError: an argument is of another data type than its parameter.
            Exception: raised by the engine.
        """
        shelf: Shelf | None = None
        if _may_be_kept(resolved, execution):
            shelf = cache.shelf(resolved.sql, types_of(execution.parameters), snapshot)
        kept = shelf.take() if shelf is not None else None
        again = self._plan_again(kept, shelf, snapshot, execution) if kept is not None else None
        if again is not None:
            planned, use = again
        elif plugin_tables or resolved.scan.may_explode:
            planned, use = self._plan_over_plugins(resolved, snapshot, execution, plugin_tables)
        else:
            planned, use = self._plan_anew(resolved, snapshot, execution, shelf)
        execution.planning_done()
        # A context in which planning failed is not put back: it may still have functions in it.
        self._in_use[id(execution)] = use
        if execution.end_reason is not None:
            self.release(execution)
        return planned

    def _plan_again(
        self, kept: KeptPlan, shelf: Shelf | None, snapshot: Snapshot, execution: Execution
    ) -> tuple[Planned, _Use] | None:
        """Have a query run a kept plan; None where it must be planned anew."""
        kept.slot.execution = execution
        plan, is_optimised = kept.plan, kept.is_optimised
        if execution.parameters and not is_optimised:
            # Now, and not where the rows are read: the engine puts the values in as it optimises,
            # and an error of a value belongs to the planning.
            context = self._take(snapshot)
            try:
                frame = context.create_dataframe_from_logical_plan(plan)
                plan, is_optimised = frame.optimized_logical_plan(), True
            except Exception:  # noqa: BLE001  # the engine raises any class, of the plan's own text
                return None
            self._put_back(context, snapshot)
        context = self._take(snapshot, optimises=not is_optimised)
        use = _Use(context, not is_optimised, snapshot, shelf, kept)
        if (physical := kept.physical(self._plan_physically)) is not None:
            begin = partial(context.execute, physical, 0)
            return Planned(begin, kept.schema, kept.is_small, kept.memo), use
        frame = context.create_dataframe_from_logical_plan(plan)
        collected = frame if kept.is_small else None
        return Planned(frame.execute_stream, kept.schema, kept.is_small, kept.memo, collected), use

    def _plan_physically(self, plan: LogicalPlan) -> ExecutionPlan:
        """The physical plan of an optimised plan, for one partition.

        In a context that only plans, and names nothing: so any number of threads may use it.
        """
        if self._one_partition is None:
            self._one_partition = new_context(1, optimises=False)
        return self._one_partition.create_dataframe_from_logical_plan(plan).execution_plan()

    def _plan_over_plugins(
        self,
        resolved: Resolved,
        snapshot: Snapshot,
        execution: Execution,
        plugin_tables: Mapping[str, PluginTable | HostError],
    ) -> tuple[Planned, _Use]:
        """Plan a query that may name plugins' tables, or whose plan may explode."""
        schema = QuerySchema(snapshot.tables, plugin_tables, execution)
        if resolved.scan.may_explode:
            # Before a context is taken, which would not be put back if this refuses the text.
            self._trials.plan(resolved, snapshot, schema, execution)
        context = self._take(snapshot)
        frame = _frame_of_plugins(context, resolved, execution, plugin_tables, schema)
        context.register_catalog_provider("datafusion", snapshot.catalog)
        planned = Planned(frame.execute_stream, frame.schema(), False, {})
        return planned, _Use(context, True, snapshot)

    def _plan_anew(
        self, resolved: Resolved, snapshot: Snapshot, execution: Execution, shelf: Shelf | None
    ) -> tuple[Planned, _Use]:
        slot = CallSlot(execution)
        context = self._take(snapshot)
        frame = _frame_of(context, resolved, execution, slot)
        check_identities(context, frame, resolved.functions)
        plan = frame.logical_plan()
        facts = facts_of(plan, snapshot)
        planned = Planned(frame.execute_stream, frame.schema(), facts.is_small, {})
        use = _Use(context, True, snapshot, shelf)
        if not facts.is_plain or shelf is None:
            return planned, use
        if execution.parameters:
            kept = self._with_parameters(resolved, snapshot, execution, shelf, planned)
        else:
            fixed = not resolved.runs_in_planning and is_fixed(plan, resolved.names)
            plan = frame.optimized_logical_plan() if fixed else plan
            kept = KeptPlan(plan, fixed, slot, facts.is_small, planned.schema, planned.memo)
        return planned, use._replace(kept=kept)

    def _with_parameters(
        self,
        resolved: Resolved,
        snapshot: Snapshot,
        execution: Execution,
        shelf: Shelf,
        planned: Planned,
    ) -> KeptPlan | None:
        """A plan for queries that differ in the values of their parameters alone.

        Planned beside the query's own, so not for a text that comes once.

        Returns:
            The plan; None where the engine cannot plan this text without the values.
        """
        if not shelf.comes_again():
            return None
        are_short = all(map(is_short, execution.parameters.values()))
        may_be_columns = are_short and planned.is_small and not resolved.runs_in_planning
        for is_column in (True, False) if may_be_columns else (False,):
            slot, context = CallSlot(None), self._take(snapshot)
            plan = _plan_of_calls(context, resolved, execution, slot, planned.schema, is_column)
            if plan is not None:
                self._put_back(context, snapshot)
                return KeptPlan(
                    plan, is_column, slot, planned.is_small, planned.schema, planned.memo
                )
        shelf.is_refused = True
        return None

    def release(self, execution: Execution) -> None:
        """Put the context of a query that has ended back, and its plan. Idempotent."""
        used = self._in_use.pop(id(execution), None)
        if used is None:
            return
        self._put_back(used.context, used.snapshot, optimises=used.optimises)
        if used.shelf is None or used.kept is None:
            return
        # Only after the last row: in a query that was stopped, calls may be under way.
        if execution.end_reason is EndReason.EXHAUSTED:
            used.kept.slot.execution = None
            used.shelf.put(used.kept)

    def drop_plans(self) -> None:
        """Drop the kept plans, and the tables that these and idle contexts refer to."""
        snapshot = None
        # Another thread may change the tables meanwhile, and be done before this one.
        while snapshot is not self._tables.current:
            snapshot = self._tables.current
            for cache in self._caches.live():
                cache.clear(snapshot)
            for idle in self._idle:
                self._show_tables(idle)

    def _show_tables(self, idle: _Idle) -> None:
        """Have idle contexts refer to the present tables, and to no others."""
        for _ in range(len(idle)):
            with suppress(IndexError):  # a query took it
                context, seen = idle.pop(0)
                while seen is not self._tables.current:
                    seen = self._tables.current
                    context.register_catalog_provider("datafusion", seen.catalog)
                idle.append((context, seen))

    def forget(self) -> None:
        """Drop idle contexts and kept plans, the tables of both, and idle child processes."""
        for idle in self._idle:
            idle.clear()
        self.drop_plans()
        self._trials.close()

    def _take(self, snapshot: Snapshot, *, optimises: bool = True) -> SessionContext:
        try:
            context, seen = self._idle[optimises].pop()
        except IndexError:
            context = new_context(self._partitions, self._memory, optimises=optimises)
            seen = None
        if seen is not snapshot:
            context.register_catalog_provider("datafusion", snapshot.catalog)
        return context

    def _put_back(
        self, context: SessionContext, snapshot: Snapshot, *, optimises: bool = True
    ) -> None:
        idle = self._idle[optimises]
        if len(idle) < _MAX_IDLE:
            idle.append((context, snapshot))
            if snapshot is not self._tables.current:
                self._show_tables(idle)


def _no_caches(_: Epoch) -> WeakKeyDictionary[Planner, PlanCache]:
    """The plans that an epoch keeps, by planner: a planner that goes takes its own along."""
    return WeakKeyDictionary()


def _may_be_kept(resolved: Resolved, execution: Execution) -> bool:
    """Whether a plan of this text could be run by another query."""
    return (
        not (resolved.scan.may_explode or resolved.scan.explains)
        and all(function.outlives_query for function in resolved.functions)
        and all(map(is_simple, execution.parameters.values()))
    )


def _frame_of_plugins(
    context: SessionContext,
    resolved: Resolved,
    execution: Execution,
    plugin_tables: Mapping[str, PluginTable | HostError],
    schema: QuerySchema,
) -> DataFrame:
    """Plan over plugins' tables, which learn what the plan needs of them."""
    slot = CallSlot(execution)
    if plugin_tables:
        context.register_catalog_provider("datafusion", schema.catalog())
    frame = _frame_of(context, resolved, execution, slot)
    check_identities(context, frame, resolved.functions)
    if _push_needs(frame, plugin_tables, schema):
        for name, table in schema.opened.items():
            schema.opened[name] = keep_filters(context, table)
        frame = _frame_of(context, resolved, execution, slot)
    return frame


def _push_needs(
    frame: DataFrame, plugin_tables: Mapping[str, PluginTable | HostError], schema: QuerySchema
) -> bool:
    """Give each plugin's table the filters and the limit that a plan has for it.

    Returns:
        Whether the query must be planned again, because the engine would leave a filter to a table.
    """
    if not schema.opened:
        return False
    schemas = {name: table.schema for name, table in schema.opened.items()}
    needs_by_table = needs_of(frame.optimized_logical_plan(), schemas)
    for name, needs in needs_by_table.items():
        table = plugin_tables[name]
        assert not isinstance(table, HostError)
        table.needs = needs
    return any(needs.is_filtered for needs in needs_by_table.values())


def _plan_of_calls(
    context: SessionContext,
    resolved: Resolved,
    execution: Execution,
    slot: CallSlot,
    schema: pa.Schema,
    is_column: bool,
) -> LogicalPlan | None:
    """Plan with a call in the place of each parameter; None where the engine cannot.

    Args:
        context: the context.
        resolved: the SQL and its functions.
        execution: the query that is planned.
        slot: the calls go through it.
        schema: the columns that the query has.
        is_column: which calls: see `parameters`.
    """
    types = {name: value.type for name, value in execution.parameters.items()}
    parameters = [ParameterFunction(name, kind, is_column) for name, kind in types.items()]
    sql = with_calls(resolved.sql, types, is_column=is_column)
    try:
        frame = _frame(context, sql, [*resolved.functions, *parameters], execution, slot, {})
        # Where a type depends on a value, the engine has another one for an unknown value.
        if frame.schema().types != schema.types:
            return None
        if not is_column:
            return frame.logical_plan()
        plan = frame.optimized_logical_plan()
        return plan if takes_columns(plan, resolved.names, types) else None
    except Exception:  # noqa: BLE001  # the engine raises any class: `INTERVAL $1`, for example
        return None


def _frame_of(
    context: SessionContext, resolved: Resolved, execution: Execution, slot: CallSlot
) -> DataFrame:
    """Plan a query as it is."""
    return _frame(context, resolved.sql, resolved.functions, execution, slot, execution.parameters)


def _frame(
    context: SessionContext,
    sql: str,
    functions: Sequence[Installable],
    execution: Execution,
    slot: CallSlot,
    values: Mapping[str, pa.Scalar],
) -> DataFrame:
    """Plan in a context, which has the query's functions for that long."""
    for function in functions:
        function.install(context, execution, slot)
    frame = context.sql_with_options(sql, QUERIES_ONLY, param_values=dict(values))
    for function in functions:
        function.uninstall(context)
    return frame
