"""Keeps the plans of an epoch's queries, so that a text that comes again need not be planned again.

The problem: a dashboard sends the same few texts all day. Parsing one and looking its names up
takes the engine a sixth of a small query, and more of a longer one.

The idea: a *logical* plan is kept, as it was before the engine optimised it, so that `now()` is
read and a folder is listed at each run. Only where optimising it gives the same at any time
(`is_fixed`) is it kept as it is afterwards, and runs in a context that optimises nothing. If it is
small as well, and its physical plan has no state (`runs_again`), that is what is run again: the
engine then plans nothing, which is a half to three quarters of such a query. What a
plan refers to of its query is the adapters of its functions; these reach the running query through
a `CallSlot`, which is empty while nothing runs. One query at a time uses a plan: it takes the plan
out and puts it back when it has read all its rows. So a kept plan holds no plugin in use.

The plans of an epoch are kept in the epoch (`Epoch.derived`) and go with it. They are for the
newest snapshot of the tables: each change of the tables drops them, with the tables of theirs.

A query with parameters has their values in its plan. So with the second query of such a text a plan
without them is made, in which each parameter is a call that returns the value of the query that
runs it (`parameters`). A plan has one set of types: another type of a value, or a null, is planned
anew.

A plan is kept only if it is *plain*: projections, filters, sorts, groups and scans of registered
tables. Under a join or a bare LIMIT the engine may still call a function after the last row.

Threads: any thread takes and puts, one dict or list step each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    import pyarrow as pa
    from datafusion.plan import ExecutionPlan, LogicalPlan

    from epochal.sql.call_slot import CallSlot
    from epochal.sql.planning import Resolved
    from epochal.sql.provenance import EpochRef
    from epochal.sql.tables import Snapshot

MAX_SMALL: Final = 10_000
"""A plain plan over so many rows at most is small: the engine is done with it in a moment."""

_MAX_TEXTS: Final = 256
_MAX_EACH: Final = 4
_LONGEST: Final = 10_000
_MAX_RUNS: Final = 32
"""Each run adds its figures to a physical plan, 3 kB, so it is made anew now and then."""

_LINE: Final = re.compile(
    r"(?:Projection|Filter|Sort|Aggregate|Distinct|SubqueryAlias|WindowAggr|Union|EmptyRelation"
    r"|(?P<limit>Limit)|TableScan: (?P<table>.+)$)(?=[:\s]|$)"
)


# Begins at a name's first letter and gives none back, or a name of 100,000 letters takes a minute.
_CALL: Final = re.compile(r"(?<![\w.])([\w.]++)\(")
_STATELESS: Final = re.compile(
    r"(?:ProjectionExec|FilterExec|SortExec: expr|AggregateExec: mode=Single|PlaceholderRowExec"
    r"|EmptyExec|DataSourceExec: partitions=1, partition_sizes=\[[01]\]$)(?=[:=,\s]|$)"
)
"""The nodes of physical plans that keep nothing from one run for the next."""

_FIXED: Final = frozenset(
    {
        *("Boolean", "Utf8", "LargeUtf8", "Float32", "Float64", "CAST", "TRY_CAST"),
        *("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"),
        *("avg", "count", "max", "min", "sum"),
    }
)
"""What a plan shows as calls that optimising it does not replace by what is true at that moment."""


def is_fixed(plan: LogicalPlan, volatile: Iterable[str]) -> bool:
    """Whether optimising a plan gives the same at any time.

    Args:
        plan: the plan. A text in it that looks like a call of another function makes it look less
            fixed, never more.
        volatile: the functions that the engine leaves in the plan whatever their arguments.
    """
    return _FIXED.union(volatile).issuperset(_CALL.findall(plan.display_indent()))


class PlanFacts(NamedTuple):
    """What the text of a plan shows.

    Attributes:
        is_plain: whether it has plain nodes alone.
        is_small: whether it is plain, and its tables have few rows.
    """

    is_plain: bool
    is_small: bool


_OTHER: Final = PlanFacts(False, False)


def facts_of(plan: LogicalPlan, snapshot: Snapshot) -> PlanFacts:
    """Look at a plan as the engine displays it, a node a line.

    A line that is no node, of a text with line breaks, makes a plan look less plain, never more.
    """
    rows = 0
    awaits_sort = False
    for line in plan.display_indent().splitlines():
        match = _LINE.match(line.lstrip())
        if match is None or (awaits_sort and not line.lstrip().startswith("Sort")):
            return _OTHER
        awaits_sort = match["limit"] is not None
        if (table := match["table"]) is not None:
            if table not in snapshot.tables:
                return _OTHER
            rows += snapshot.rows.get(table, MAX_SMALL + 1)
    return PlanFacts(True, rows <= MAX_SMALL)


def runs_again(plan: ExecutionPlan) -> bool:
    """Whether a physical plan is the same after a run as before it.

    Its nodes must keep nothing: a repartition hands its input out once, a join keeps one of its
    sides, and a sort for a LIMIT keeps the least row that it wants. And it must have one partition
    also where the engine has many: it is planned for one, so no batches are worked on at once.
    """
    text = plan.display_indent()
    is_known = all(_STATELESS.match(line.lstrip()) for line in text.splitlines())
    return is_known and "DynamicFilter" not in text and plan.partition_count == 1


@dataclass(slots=True, eq=False)
class KeptPlan:
    """A plan that one query after another runs.

    Attributes:
        plan: the plan.
        is_optimised: whether it is as the engine has optimised it.
        slot: its functions' calls go through it.
        is_small: whether the engine is done with it in a moment.
        schema: its columns.
        memo: what a host has computed for it; see `Result.memo`.
    """

    plan: LogicalPlan
    is_optimised: bool
    slot: CallSlot
    is_small: bool
    schema: pa.Schema
    memo: dict[str, Any]
    _physical: ExecutionPlan | None = None
    _runs: int = 0
    _runs_again: bool = True

    def physical(
        self, plan_physically: Callable[[LogicalPlan], ExecutionPlan]
    ) -> ExecutionPlan | None:
        """Its physical plan for the next run; None where each run needs one of its own."""
        if not (self.is_optimised and self.is_small and self._runs_again):
            return None
        if self._physical is None or self._runs == _MAX_RUNS:
            plan = plan_physically(self.plan)
            self._runs_again = runs_again(plan)
            self._physical, self._runs = (plan if self._runs_again else None), 0
        self._runs += 1
        return self._physical


class Shelf:
    """The kept plans of one text, for parameters of the same types.

    Attributes:
        is_refused: whether the engine cannot plan the text without the values of its parameters.
    """

    __slots__ = ("_has_come", "_plans", "is_refused")

    def __init__(self) -> None:
        self._plans: Final[list[KeptPlan]] = []
        self._has_come = False
        self.is_refused = False

    def take(self) -> KeptPlan | None:
        """A plan that no query uses; it is the caller's from now on."""
        try:
            return self._plans.pop() if self._plans else None
        except IndexError:  # another thread took it
            return None

    def put(self, kept: KeptPlan) -> None:
        """Keep a plan that no query uses any more."""
        if len(self._plans) < _MAX_EACH:
            self._plans.append(kept)

    def comes_again(self) -> bool:
        """Whether a plan is worth its making: for the second query, unless it was refused."""
        has_come, self._has_come = self._has_come, True
        return has_come and not self.is_refused

    def __len__(self) -> int:
        return len(self._plans)


class PlanCache:
    """The kept plans of one database's queries in one epoch, and the functions that texts call.

    Args:
        snapshot: the tables; plans over older ones are not kept.
        epoch: the epoch.

    Attributes:
        epoch: as given.
    """

    __slots__ = ("__weakref__", "_kept", "_resolved", "epoch")

    def __init__(self, snapshot: Snapshot, epoch: EpochRef) -> None:
        self.epoch: Final = epoch
        self._resolved: Final[dict[str, Resolved]] = {}
        # One reference: a query never sees plans of another snapshot than its own.
        self._kept: tuple[Snapshot, dict[Hashable, Shelf]] = (snapshot, {})

    @property
    def snapshot(self) -> Snapshot:
        """The tables."""
        return self._kept[0]

    def resolved(self, sql: str, resolve: Callable[[], Resolved]) -> Resolved:
        """What a text calls, found out once."""
        known = self._resolved.get(sql)
        if known is None:
            known = resolve()
            if len(sql) <= _LONGEST:
                if len(self._resolved) >= _MAX_TEXTS:
                    self._resolved.clear()
                self._resolved[sql] = known
        return known

    def shelf(self, sql: str, types: Hashable, snapshot: Snapshot) -> Shelf | None:
        """The kept plans of a text; None where none are kept.

        Args:
            sql: the text.
            types: of its parameters; queries with other ones have other plans.
            snapshot: the tables of the query.
        """
        of, shelves = self._kept
        if of is not snapshot or len(sql) > _LONGEST:  # the tables have changed since
            return None
        key = sql, types
        shelf = shelves.get(key)
        if shelf is None:
            if len(shelves) >= _MAX_TEXTS:
                shelves.clear()
            shelf = shelves.setdefault(key, Shelf())
        return shelf

    def clear(self, snapshot: Snapshot) -> None:
        """Drop the plans, and keep those over these tables from now on."""
        self._kept = (snapshot, {})
