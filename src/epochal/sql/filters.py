"""The engine's conditions as `Filter` records, as far as they are such.

A condition is read into filters that every row passes which meets it. Where the filters say all of
it, it is read *whole*: then a row that passes them is wanted, and rows can be counted.
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
_EXACT: Final = float(2**53)
"""Below it a whole number and its float are the same."""
_LONGEST: Final = 64
"""So many values of a `NOT IN` are told one by one, and not more."""


class Understood(NamedTuple):
    """What was read of a condition.

    Attributes:
        filters: that every row passes which meets it.
        is_whole: whether a row that passes them all meets it.
    """

    filters: tuple[Filter, ...] = ()
    is_whole: bool = False


_NOTHING: Final = Understood()


def understand(expression: Expr, schema: pa.Schema) -> Understood:
    """Read a condition.

    Args:
        expression: the engine's.
        schema: the columns of the table that it is about.
    """
    variant: Any = expression.to_variant()
    match expression.variant_name():
        case "BinaryExpr" if variant.op() == "AND":
            found = [understand(one, schema) for one in _parts(expression, "AND")]
            filters = tuple(one for each in found for one in each.filters)
            return Understood(filters, all(each.is_whole for each in found))
        case "BinaryExpr" if variant.op() == "OR":
            return _alternatives(expression, schema)
        case "BinaryExpr":
            return _comparison(variant, schema)
        case "InList":
            return _list(variant)
        case "Column":
            return Understood((Filter(variant.name(), "=", True),), True)
        case "IsTrue" | "IsFalse" | "Not" | "IsNull" | "IsNotNull" as kind:
            return _of_column(kind, _inner(variant))
        case _:
            return _NOTHING


def _of_column(kind: str, inner: Expr) -> Understood:
    """A condition on a column by itself."""
    if inner.variant_name() != "Column":
        return _NOTHING
    name = _name(inner)
    made = {
        "IsTrue": Filter(name, "=", True),
        "IsFalse": Filter(name, "=", False),
        "Not": Filter(name, "=", False),
        "IsNull": Filter(name, "is null"),
        "IsNotNull": Filter(name, "is not null"),
    }
    return Understood((made[kind],), True)


def _comparison(variant: Any, schema: pa.Schema) -> Understood:
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
        return Understood((Filter(_name(left), test, value),), True)
    return _whole_number(left, test, value, schema)


def _whole_number(left: Expr, test: Test, value: Any, schema: pa.Schema) -> Understood:
    """A column of whole numbers that the engine makes floats of, to compare it with one."""
    if left.variant_name() not in ("Cast", "TryCast") or not isinstance(value, float):
        return _NOTHING
    inner = _inner(left.to_variant())
    if inner.variant_name() != "Column" or not abs(value) < _EXACT:
        return _NOTHING
    kind = schema.field(_name(inner)).type
    if not pa.types.is_integer(kind):
        return _NOTHING
    if test in ("=", "!="):
        if not value.is_integer():
            return _NOTHING
    else:
        value = math.floor(value) if test in ("<=", ">") else math.ceil(value)
    return Understood((Filter(_name(inner), test, int(value)),), True)


def _list(variant: Any) -> Understood:
    inner, members = variant.expr(), variant.list()
    if inner.variant_name() != "Column":
        return _NOTHING
    if any(member.variant_name() != "Literal" for member in members):
        return _NOTHING
    values = tuple(map(_value, members))
    if not values or None in values:  # a null, or what Python has no value for
        return _NOTHING
    name = _name(inner)
    # In a list -0.0 is not 0.0 to the engine, where it is in a comparison.
    clear = tuple(value for value in values if not _is_odd(value))
    if not variant.negated():
        return Understood((Filter(name, "in", values),), clear == values)
    if len(values) > _LONGEST:
        return _NOTHING
    return Understood(tuple(Filter(name, "!=", value) for value in clear), clear == values)


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and (value == 0.0 or math.isnan(value))


def _alternatives(expression: Expr, schema: pa.Schema) -> Understood:
    """`a = 1 OR a = 2`, which is what the engine makes of a short `IN`, and what has such inside.

    Of `(a = 1 AND b > 0) OR a = 2` every wanted row has 1 or 2 in `a`, and that is not all.
    """
    found = [understand(one, schema) for one in _parts(expression, "OR")]
    values = [_equal_to(one) for one in found]
    shared = [name for name in values[0] if all(name in one for one in values)]
    filters = tuple(
        Filter(name, "in", tuple(value for one in values for value in one[name])) for name in shared
    )
    is_whole = bool(filters) and all(one.is_whole and len(one.filters) == 1 for one in found)
    return Understood(filters, is_whole)


def _parts(expression: Expr, operator: str) -> list[Expr]:
    """What an operator connects; thousands, it may be, so without recursion."""
    parts: list[Expr] = []
    rest = [expression]
    while rest:
        one = rest.pop()
        variant: Any = one.to_variant()
        if one.variant_name() == "BinaryExpr" and variant.op() == operator:
            rest += [variant.right(), variant.left()]
        else:
            parts.append(one)
    return parts


def _equal_to(understood: Understood) -> dict[str, tuple[Any, ...]]:
    """By column, the values of which a row must have one."""
    values: dict[str, tuple[Any, ...]] = {}
    for one in understood.filters:
        if one.test in ("=", "in"):
            values.setdefault(one.column, one.value if one.test == "in" else (one.value,))
    return values


def _value(literal: Expr) -> Any:
    """A literal as a Python value; None for a null, and for what Python has no value for."""
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
