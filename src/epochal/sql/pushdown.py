"""Finds the filters and the limit that a query needs of a table, in the engine's optimised plan.

The engine passes a Python table the wanted columns, and a filter that the table cannot inspect. The
plan can be inspected: here the filters of each scan become `Filter` records (`filters`), and its
limit is read. A condition that cannot be converted is left out, and then the limit is left out too;
the engine filters in any case (`filter_barrier`).

All mentions of a table in a query are one table, however each is written (`orders`,
`public.orders`), so the table gets the needs that all its scans have in common, and none unless
every scan of it was found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epochal.sql.filters import convert_condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from datafusion.plan import LogicalPlan

    from epochal.kinds.storage import Filter


@dataclass(frozen=True, slots=True)
class Needs:
    """The needs that all scans of one table in a query have in common.

    Attributes:
        filters: every wanted row passes them.
        limit: how many rows that pass are enough; None for all.
        is_filtered: whether the engine would leave any filtering to the table.
    """

    filters: tuple[Filter, ...] = ()
    limit: int | None = None
    is_filtered: bool = False

    def common_with(self, other: Needs) -> Needs:
        """The needs that this scan and another have in common."""
        # Compared by their text: a value may be an unhashable list, and NaN does not equal itself.
        others = set(map(repr, other.filters))
        filters = tuple(item for item in self.filters if repr(item) in others)
        # A limit counts the rows that pass all filters of a scan: so both must have the same ones.
        is_same = len(filters) == len(self.filters) == len(other.filters)
        limit = None
        if is_same and self.limit is not None and other.limit is not None:
            limit = max(self.limit, other.limit)
        return Needs(filters, limit, self.is_filtered or other.is_filtered)


_UNKNOWN: Final = Needs(is_filtered=True)
"""The needs of a table whose scans were not all found: every row, and perhaps filtered."""


def needs_of(plan: LogicalPlan, schemas: Mapping[str, pa.Schema]) -> dict[str, Needs]:
    """Find the needs of some tables in a plan.

    Args:
        plan: the engine's plan, optimised.
        schemas: the tables' columns, by the tables' names.
    """
    found: dict[str, list[Needs]] = {name: [] for name in schemas}
    for scan, conditions in _scans(plan, ()):
        name = scan.fqn()[-1]  # not `table_name()`, which is as written: `public.orders`
        if name in found:
            found[name].append(_needs(scan, conditions, schemas[name]))
    text = plan.display_indent()
    return {name: _common(needs, _mentions(text, name)) for name, needs in found.items()}


def _common(found: list[Needs], mentions: int) -> Needs:
    # The scans of subqueries inside expressions are in the plan's text but cannot be walked to.
    if not found or len(found) != mentions:
        return _UNKNOWN
    common, *others = found
    for needs in others:
        common = common.common_with(needs)
    return common


def _mentions(text: str, name: str) -> int:
    """Count a table's scans in the text of a plan; too many if another table's name is alike."""
    scan = rf"TableScan: (?:datafusion\.)?(?:public\.)?{re.escape(name)}(?![^\s])"
    return len(re.findall(scan, text))


def _scans(plan: LogicalPlan, conditions: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every scan that can be walked to, with the conditions directly above it."""
    variant: Any = plan.to_variant()
    kind = type(variant).__name__
    if kind == "TableScan":
        yield variant, conditions
    inner = (*conditions, variant.predicate()) if kind == "Filter" else ()
    for below in plan.inputs():
        yield from _scans(below, inner)


def _needs(scan: Any, conditions: tuple[Any, ...], schema: pa.Schema) -> Needs:
    filters: list[Filter] = []
    is_exact = True
    pushed = scan.filters()
    for condition in (*pushed, *conditions):
        converted = convert_condition(condition, schema)
        filters += converted.filters
        is_exact = is_exact and converted.is_exact
    return Needs(tuple(filters), scan.fetch() if is_exact else None, bool(pushed))
