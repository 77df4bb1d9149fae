"""Converts conditions of the engine to `Filter` records, as far as such records can express them.

A condition becomes filters that every row passes which meets the condition. If the filters express
all of it, they are *exact*: then every row that passes them meets the condition, and rows can be
counted, which a limit needs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from epochal.kinds.storage import Filter

if TYPE_CHECKING:
    from datafusion.expr import Expr

    from epochal.kinds.storage import Test

_MIRRORED: Final[dict[str, Test]] = {
    "=": "=",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
_EXACT_FLOAT: Final = float(2**53)
"""Below it, a whole number and its float are equal."""
_LONGEST_NOT_IN: Final = 64
"""A longer `NOT IN` gives no filters: each of its values would be one."""


class Converted(NamedTuple):
    """The filters of one condition.

    Attributes:
        filters: every row that meets the condition passes them.
        is_exact: whether every row that passes them meets the condition.
    """

    filters: tuple[Filter, ...] = ()
    is_exact: bool = False


_NOTHING: Final = Converted()


def convert_condition(expression: Expr, schema: pa.Schema) -> Converted:
    """Convert a condition.

    Args:
        expression: the engine's condition.
        schema: the columns of its table.
    """
    variant: Any = expression.to_variant()
    match expression.variant_name():
        case "BinaryExpr" if variant.op() == "AND":
            parts = [convert_condition(part, schema) for part in _operands(expression, "AND")]
            filters = tuple(item for part in parts for item in part.filters)
            return Converted(filters, all(part.is_exact for part in parts))
        case "BinaryExpr" if variant.op() == "OR":
            return _alternatives(expression, schema)
        case "BinaryExpr":
            return _comparison(variant, schema)
        case "InList":
            return _list(variant)
        case "Column":
            return Converted((Filter(variant.name(), "=", True),), True)
        case "IsTrue" | "IsFalse" | "Not" | "IsNull" | "IsNotNull" as kind:
            return _column_test(kind, _inner(variant))
        case _:
            return _NOTHING


def _column_test(kind: str, inner: Expr) -> Converted:
    """A test of a single column."""
    if inner.variant_name() != "Column":
        return _NOTHING
    name = _name(inner)
    filters = {
        "IsTrue": Filter(name, "=", True),
        "IsFalse": Filter(name, "=", False),
        "Not": Filter(name, "=", False),
        "IsNull": Filter(name, "is null"),
        "IsNotNull": Filter(name, "is not null"),
    }
    return Converted((filters[kind],), True)


def _comparison(variant: Any, schema: pa.Schema) -> Converted:
    left, right, test = variant.left(), variant.right(), variant.op()
    if test == "IS NOT DISTINCT FROM":
        test = "="
    if left.variant_name() == "Literal":
        left, right, test = right, left, _MIRRORED.get(test)
    if right.variant_name() != "Literal" or test not in _MIRRORED:
        return _NOTHING
    value = _value(right)
    if value is None:
        return _NOTHING
    if left.variant_name() == "Column":
        return Converted((Filter(_name(left), test, value),), True)
    return _integer_comparison(left, test, value, schema)


def _integer_comparison(left: Expr, test: Test, value: Any, schema: pa.Schema) -> Converted:
    """A column of integers that the engine casts to floats, to compare it with a float."""
    if left.variant_name() not in ("Cast", "TryCast") or not isinstance(value, float):
        return _NOTHING
    inner = _inner(left.to_variant())
    if inner.variant_name() != "Column" or not abs(value) < _EXACT_FLOAT:
        return _NOTHING
    kind = schema.field(_name(inner)).type
    if not pa.types.is_integer(kind):
        return _NOTHING
    if test in ("=", "!="):
        if not value.is_integer():
            return _NOTHING
    else:
        value = math.floor(value) if test in ("<=", ">") else math.ceil(value)
    return Converted((Filter(_name(inner), test, int(value)),), True)


def _list(variant: Any) -> Converted:
    inner, members = variant.expr(), variant.list()
    if inner.variant_name() != "Column":
        return _NOTHING
    if any(member.variant_name() != "Literal" for member in members):
        return _NOTHING
    values = tuple(map(_value, members))
    if not values or None in values:  # a null, or a value that Python cannot represent
        return _NOTHING
    name = _name(inner)
    # In a list the engine takes -0.0 and 0.0 for different values, in a comparison for equal ones.
    clear = tuple(value for value in values if not _is_ambiguous(value))
    if not variant.negated():
        return Converted((Filter(name, "in", values),), clear == values)
    if len(values) > _LONGEST_NOT_IN:
        return _NOTHING
    return Converted(tuple(Filter(name, "!=", value) for value in clear), clear == values)


def _is_ambiguous(value: Any) -> bool:
    return isinstance(value, float) and (value == 0.0 or math.isnan(value))


def _alternatives(expression: Expr, schema: pa.Schema) -> Converted:
    """`a = 1 OR a = 2`, to which the engine rewrites a short `IN`, and conditions that contain it.

    For `(a = 1 AND b > 0) OR a = 2`, every wanted row has 1 or 2 in `a`; that filter is not exact.
    """
    parts = [convert_condition(part, schema) for part in _operands(expression, "OR")]
    values = [_values_by_column(part) for part in parts]
    shared = [name for name in values[0] if all(name in part for part in values)]
    filters = tuple(
        Filter(name, "in", tuple(value for part in values for value in part[name]))
        for name in shared
    )
    is_exact = bool(filters) and all(part.is_exact and len(part.filters) == 1 for part in parts)
    return Converted(filters, is_exact)


def _operands(expression: Expr, operator: str) -> list[Expr]:
    """The operands of a chain of one operator; without recursion, as there may be thousands."""
    operands: list[Expr] = []
    pending = [expression]
    while pending:
        current = pending.pop()
        variant: Any = current.to_variant()
        if current.variant_name() == "BinaryExpr" and variant.op() == operator:
            pending += [variant.right(), variant.left()]
        else:
            operands.append(current)
    return operands


def _values_by_column(converted: Converted) -> dict[str, tuple[Any, ...]]:
    """For each column with an equality filter, the values of which a row must have one."""
    values: dict[str, tuple[Any, ...]] = {}
    for item in converted.filters:
        if item.test in ("=", "in"):
            values.setdefault(item.column, item.value if item.test == "in" else (item.value,))
    return values


def _value(literal: Expr) -> Any:
    """A literal as a Python value; None for a null, or a value that Python lacks."""
    try:
        return literal.python_value().as_py()
    except (ValueError, OverflowError):  # nanoseconds, the year 10,000
        return None


def _inner(variant: Any) -> Expr:
    inner: Expr = variant.expr()
    return inner


def _name(column: Expr) -> str:
    variant: Any = column.to_variant()
    name: str = variant.name()
    return name
