"""What a query needs of a table: read out of the engine's optimised plan.

The engine tells a Python table which columns it wants, and a filter that cannot be looked into.
Its plan can be: here the filters of each scan become `Filter` records (`filters`), and its limit is
found. What is not understood is left out, and then there is no limit either: the engine filters by
itself in any case (`barrier`).

All mentions of a table in a query are one table, however each is written (`orders`,
`public.orders`): what it is told is what they have in common. So a table is told nothing unless
every scan of it was found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epochal.sql.filters import understand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from datafusion.plan import LogicalPlan

    from epochal.kinds.storage import Filter


@dataclass(frozen=True, slots=True)
class Needs:
    """What all scans of one table in a query have in common.

    Attributes:
        filters: that every wanted row passes.
        limit: how many rows that pass are enough; None for all.
        is_filtered: whether the engine would leave any filtering to the table.
    """

    filters: tuple[Filter, ...] = ()
    limit: int | None = None
    is_filtered: bool = False

    def also(self, other: Needs) -> Needs:
        """What this and another scan have in common."""
        # By their text, since a value may be a list, and NaN is not equal to itself.
        others = set(map(repr, other.filters))
        filters = tuple(one for one in self.filters if repr(one) in others)
        # A limit counts rows that pass every filter that is told: so they must be told the same.
        is_same = len(filters) == len(self.filters) == len(other.filters)
        limit = None
        if is_same and self.limit is not None and other.limit is not None:
            limit = max(self.limit, other.limit)
        return Needs(filters, limit, self.is_filtered or other.is_filtered)


_UNKNOWN: Final = Needs(is_filtered=True)
"""What a table is needed for whose scans are not all found: anything."""


def needs_of(plan: LogicalPlan, schemas: Mapping[str, pa.Schema]) -> dict[str, Needs]:
    """What a plan needs of each of some tables.

    Args:
        plan: the engine's, optimised.
        schemas: the tables' columns, by the tables' names.
    """
    found: dict[str, list[Needs]] = {name: [] for name in schemas}
    for scan, conditions in _scans(plan, ()):
        name = scan.fqn()[-1]  # `table_name()` is as the mention is written: `public.orders`
        if name in found:
            found[name].append(_needs(scan, conditions, schemas[name]))
    text = plan.display_indent()
    return {name: _common(needs, _mentions(text, name)) for name, needs in found.items()}


def _common(found: list[Needs], mentions: int) -> Needs:
    # The scans of subqueries within expressions are in the plan's text, but cannot be walked to.
    if not found or len(found) != mentions:
        return _UNKNOWN
    common, *others = found
    for needs in others:
        common = common.also(needs)
    return common


def _mentions(text: str, name: str) -> int:
    """In how many scans of a plan's text a table may be meant; more, where names are alike."""
    scan = rf"TableScan: (?:datafusion\.)?(?:public\.)?{re.escape(name)}(?![^\s])"
    return len(re.findall(scan, text))


def _scans(plan: LogicalPlan, conditions: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every scan that can be walked to, with the conditions that stand right above it."""
    variant: Any = plan.to_variant()
    kind = type(variant).__name__
    if kind == "TableScan":
        yield variant, conditions
    inner = (*conditions, variant.predicate()) if kind == "Filter" else ()
    for one in plan.inputs():
        yield from _scans(one, inner)


def _needs(scan: Any, conditions: tuple[Any, ...], schema: pa.Schema) -> Needs:
    filters: list[Filter] = []
    is_whole = True
    asked = scan.filters()
    for one in (*asked, *conditions):
        understood = understand(one, schema)
        filters += understood.filters
        is_whole = is_whole and understood.is_whole
    return Needs(tuple(filters), scan.fetch() if is_whole else None, bool(asked))
