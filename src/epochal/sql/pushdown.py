"""What a query needs of a table: read out of the engine's optimised plan.

The engine tells a Python table which columns it wants, and a filter that cannot be looked into.
Its plan can be: here the filters of each scan become `Filter` records, and its limit is found. What
is not understood is left out, and then there is no limit either: the engine filters by itself in
any case (`barrier`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.storage import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datafusion.expr import Expr
    from datafusion.plan import LogicalPlan

    from epochal.kinds.storage import Test

_MIRRORED: Final[dict[str, Test]] = {
    "=": "=",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}


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
        filters = tuple(one for one in self.filters if one in other.filters)
        # A limit counts rows that pass every filter that is told: so they must be told the same.
        is_same = len(filters) == len(self.filters) == len(other.filters)
        limit = None
        if is_same and self.limit is not None and other.limit is not None:
            limit = max(self.limit, other.limit)
        return Needs(filters, limit, self.is_filtered or other.is_filtered)


_NOTHING: Final = Needs()
_UNKNOWN: Final = Needs(is_filtered=True)
"""What a scan needs that is not found: anything."""
_SCAN: Final = re.compile(r"^ *TableScan: ", re.MULTILINE)


def needs_of(plan: LogicalPlan, names: Iterable[str]) -> dict[str, Needs]:
    """What a plan needs of each of some tables."""
    scans = list(_scans(plan))
    # Subqueries within expressions are in the plan's text, but cannot be walked to.
    if len(scans) != len(_SCAN.findall(plan.display_indent())):
        return dict.fromkeys(names, _UNKNOWN)
    found: dict[str, Needs] = {}
    for scan in scans:
        needs = _needs(scan)
        name = scan.table_name()
        found[name] = found[name].also(needs) if name in found else needs
    return {name: found.get(name, _NOTHING) for name in names}


def _scans(plan: LogicalPlan) -> Iterator[Any]:
    variant: Any = plan.to_variant()
    if type(variant).__name__ == "TableScan":
        yield variant
    for inner in plan.inputs():
        yield from _scans(inner)


def _needs(scan: Any) -> Needs:
    filters: list[Filter] = []
    is_whole = True
    asked = scan.filters()
    for one in asked:
        understood = _understand(one)
        filters += understood
        is_whole = is_whole and bool(understood)
    return Needs(tuple(filters), scan.fetch() if is_whole else None, bool(asked))


def _understand(expression: Expr) -> list[Filter]:
    """The filters that an expression is made of; empty where it is not made of these alone."""
    kind = expression.variant_name()
    variant: Any = expression.to_variant()
    if kind == "BinaryExpr" and variant.op() == "AND":
        left, right = _understand(variant.left()), _understand(variant.right())
        return [*left, *right] if left and right else []
    if kind == "BinaryExpr" and variant.op() == "OR":
        return _alternatives(expression)
    if kind == "BinaryExpr":
        return _comparison(variant)
    if kind in ("IsNull", "IsNotNull") and variant.expr().variant_name() == "Column":
        return [Filter(_name(variant.expr()), "is null" if kind == "IsNull" else "is not null")]
    return []


def _comparison(variant: Any) -> list[Filter]:
    left, right, test = variant.left(), variant.right(), variant.op()
    if left.variant_name() == "Literal":
        left, right, test = right, left, _MIRRORED.get(test)
    is_known = left.variant_name() == "Column" and right.variant_name() == "Literal"
    if not is_known or test not in _MIRRORED:
        return []
    try:
        value = right.python_value().as_py()
    except (ValueError, OverflowError):  # Python has no such time: nanoseconds, the year 10,000
        return []
    return [Filter(_name(left), test, value)] if value is not None else []


def _alternatives(expression: Expr) -> list[Filter]:
    """`a = 1 OR a = 2`, which is what the engine makes of a short `IN`."""
    parts: list[Filter] = []
    rest = [expression]
    while rest:
        one = rest.pop()
        variant: Any = one.to_variant()
        if one.variant_name() == "BinaryExpr" and variant.op() == "OR":
            rest += [variant.right(), variant.left()]
            continue
        found = _understand(one)
        if len(found) != 1 or found[0].test != "=":
            return []
        parts += found
    if len({part.column for part in parts}) != 1:
        return []
    return [Filter(parts[0].column, "in", tuple(part.value for part in parts))]


def _name(column: Expr) -> str:
    variant: Any = column.to_variant()
    name: str = variant.name()
    return name
