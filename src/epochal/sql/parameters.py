"""The parameters of a query: values that its SQL names, `$1` or `$name`, and does not contain.

They are bound in one of three ways. The engine puts their values into a plan. Or, in a plan that
one query after another runs (`kept_plans`), each parameter is a call of a function, which returns
the value of the query that runs the plan now:

- A *constant* function has no arguments and is immutable to the engine, which therefore calls it
  as it optimises, and has a constant in its place from then on. What needs a constant, LIMIT or
  the separator of `string_agg`, gets one.
- A *column* function is volatile to the engine, which calls it for each batch, and is given as many
  rows of the value as it has. So the plan is optimised once for all values. That is for plans
  alone in which a column of equal values does all that a constant does (`takes_columns`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
from datafusion.user_defined import ScalarUDF

from epochal.errors import QueryError
from epochal.sql.plan_expressions import bare, expressions_of
from epochal.sql.sql_scan import tokens

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Mapping

    from datafusion import SessionContext
    from datafusion.plan import LogicalPlan

    from epochal.sql.call_slot import CallSlot
    from epochal.sql.execution import Execution


class Installable(Protocol):
    """A function that a planning context has while it plans."""

    def install(self, context: SessionContext, execution: Execution, slot: CallSlot, /) -> None:
        """Register it for one plan."""

    def uninstall(self, context: SessionContext, /) -> None:
        """Remove it."""


class ParameterFunction:
    """A parameter in a plan without its value.

    Args:
        name: its name, `"1"` for `$1`.
        kind: its type.
        is_column: whether it is a column function.
    """

    def __init__(self, name: str, kind: pa.DataType, is_column: bool) -> None:
        self._name: Final = name
        self._kind: Final = kind
        self._is_column: Final = is_column

    def install(self, context: SessionContext, execution: Execution, slot: CallSlot) -> None:
        """Register it in a planning context, for one plan."""
        adapter = execution.track(partial(slot.value, self._name))
        result = pa.field("value", self._kind)
        # The engine says by an argument how many rows it wants.
        given, volatility = ([_ROWS], "volatile") if self._is_column else ([], "immutable")
        context.register_udf(ScalarUDF(f"${self._name}", adapter, given, result, volatility))

    def uninstall(self, context: SessionContext) -> None:
        """Remove it from a planning context."""
        context.deregister_udf(f"${self._name}")


_ROWS: Final = pa.field("rows", pa.bool_())


def with_calls(sql: str, names: Container[str], *, is_column: bool) -> str:
    """A text with a call in the place of each of these parameters."""
    arguments = "(TRUE)" if is_column else "()"
    pieces: list[str] = []
    copied = 0
    for token in tokens(sql):
        if token.text[0] == "$" and token.text[1:] in names:  # others are strings in dollar quotes
            pieces += [sql[copied : token.start], f'"{token.text}"{arguments}']
            copied = token.end
    return "".join([*pieces, sql[copied:]])


# --- plans that take columns ---------------------------------------------------------------------

_NODES: Final = frozenset(
    {"Projection", "Filter", "Aggregate", "Sort", "TableScan", "EmptyRelation", "SubqueryAlias"}
)
_TOTAL: Final = frozenset({"Column", "Literal", "Alias", "IsNull", "IsNotNull", "Not"})
_MAX_SHORT: Final = 256  # bytes; a column of them is 2 MB
_OPERATORS: Final = frozenset({"=", "!=", "<", "<=", ">", ">=", "AND", "OR", "+", "-", "*"})
_AGGREGATES: Final = frozenset({"avg", "count", "max", "min", "sum"})


def takes_columns(
    plan: LogicalPlan, functions: Container[str], types: Mapping[str, pa.DataType]
) -> bool:
    """Whether an optimised plan answers the same with columns for its parameters as with constants.

    It has nothing that needs a constant, nor what can fail: with a constant, the engine may have
    seen that a part is never needed (`$1 <> 0 AND 10 / $1 > x`), and not have computed it.

    Args:
        plan: the plan.
        functions: the engine's names of the query's functions, which are volatile.
        types: the parameters' types.
    """
    called = {f"${name}": kind for name, kind in types.items()}

    def is_called(name: str) -> bool:
        return name in called or name in functions

    def takes(expression: Any) -> bool:
        raw = bare(expression)
        kind = raw.variant_name()
        if kind in ("Column", "Literal"):
            return True
        operands = raw.rex_call_operands()
        if kind == "Cast":  # of any whole number, which fits
            name = bare(operands[0]).canonical_name().partition("(")[0]
            is_whole = name in called and pa.types.is_integer(called[name])
            return is_whole and raw.canonical_name().endswith(" AS Float64)")
        return all(map(takes, operands)) and (
            kind in _TOTAL
            or (kind == "BinaryExpr" and raw.rex_call_operator() in _OPERATORS)
            or (kind == "ScalarFunction" and is_called(raw.rex_call_operator()))
            or (kind == "AggregateFunction" and raw.to_variant().aggregate_type() in _AGGREGATES)
        )

    node: Any = plan.to_variant()
    return (
        type(node).__name__ in _NODES
        and all(map(takes, expressions_of(node)))
        and all(takes_columns(below, functions, types) for below in plan.inputs())
    )


# --- values --------------------------------------------------------------------------------------


def is_simple(value: pa.Scalar) -> bool:
    """Whether a value's type has no more to it than the engine's function can return."""
    kind: pa.DataType = value.type
    is_dictionary = pa.types.is_dictionary(kind)
    return not (is_dictionary or pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType))


def types_of(parameters: Mapping[str, pa.Scalar]) -> Hashable:
    """The types of parameters, for which a plan is kept.

    A null is a type of its own, since a column of it may be null, and so is a long text.
    """
    if not parameters:
        return ()
    return tuple(
        (name, value.type, value.is_valid, is_short(value))
        for name, value in sorted(parameters.items())
    )


def is_short(value: pa.Scalar) -> bool:
    """Whether a column of a value may have as many rows as a batch, 8,192."""
    if not value.is_valid or not isinstance(value, pa.BinaryScalar):  # every text is one
        return True
    return bool(value.as_buffer().size <= _MAX_SHORT)


def bind(
    given: Mapping[str, Any] | Iterable[Any] | None, names: frozenset[str]
) -> dict[str, pa.Scalar]:
    """Convert a query's parameters to the engine's values, by name.

    Args:
        given: a sequence for `$1`, `$2`, …, or a mapping for `$name`.
        names: the parameters that the SQL has.

    Raises:
        QueryError: a value has no SQL type, or a parameter is missing or unknown.
    """
    if given is None and not names:
        return {}
    values = _named(given)
    if unknown := sorted(set(values) - names):
        raise QueryError(
            f"the SQL has no parameter {_dollars(unknown)}; it has {_dollars(sorted(names))}"
        )
    if missing := sorted(names - set(values)):
        raise QueryError(f"no value is given for parameter {_dollars(missing)}")
    bound: dict[str, pa.Scalar] = {}
    for name, value in values.items():
        try:
            bound[name] = value if isinstance(value, pa.Scalar) else pa.scalar(value)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise QueryError(
                f"parameter ${name} cannot be a SQL value: {value!r} ({type(value).__name__})"
            ) from error
    return bound


def _named(given: Mapping[str, Any] | Iterable[Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, (str, bytes)):
        raise QueryError("parameters must be a list or a mapping, not a string")
    if hasattr(given, "keys"):
        return {str(name): given[name] for name in given}  # type: ignore[index]
    return {str(position): value for position, value in enumerate(given, 1)}


def _dollars(names: Iterable[str]) -> str:
    return ", ".join(f"${name}" for name in names) or "none"
