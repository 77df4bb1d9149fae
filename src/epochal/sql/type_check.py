"""Checks that no function receives a column of another data type than its parameter's.

The problem: to the engine a `geo.point` and a `mars.point` are the same struct, so it would pass
one for the other, and degrees for metres. A column's metadata names its data type, and the engine
carries the metadata through most of a plan, but compares it nowhere.

The idea: before a plan is optimised it is walked, and for each argument to a parameter of a data
type the engine is asked for the argument's column. If both columns name a data type and the two
differ, the query is refused. A column without a data type is accepted: plain storage, or a value
that the engine computes (CASE, coalesce, max, an aggregate). Subqueries inside expressions cannot
be walked.

It costs 50 µs for each such argument, and nothing in a query without one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
from datafusion.expr import Expr

from epochal.errors import QueryError
from epochal.sql.plan_expressions import bare, expressions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from datafusion import DataFrame, SessionContext
    from datafusion.plan import LogicalPlan

    from epochal.sql.function import Function

NAME: Final = b"ARROW:extension:name"
METADATA: Final = b"ARROW:extension:metadata"


class Identity(NamedTuple):
    """The data type that a column's metadata names.

    Attributes:
        name: of the Arrow extension type.
        metadata: of the extension type, mostly its parameters as JSON; None if there is none.
    """

    name: str
    metadata: str | None

    def differs(self, other: Identity) -> bool:
        """Whether this is another data type; without metadata, names alone are compared."""
        if self.name != other.name or self.metadata is None or other.metadata is None:
            return self.name != other.name
        return self.metadata != other.metadata and _parsed(self) != _parsed(other)

    def __str__(self) -> str:
        parameters = self.metadata if self.metadata not in (None, "", "{}") else ""
        return f"{self.name} {parameters}".rstrip()


def identity_of(field: pa.Field) -> Identity | None:
    """The data type that a column's metadata names; None for a plain column."""
    if isinstance(field.type, pa.ExtensionType):
        kind: Any = field.type
        return Identity(kind.extension_name, _text(kind.__arrow_ext_serialize__()))
    metadata = field.metadata or {}
    if NAME not in metadata:
        return None
    return Identity(
        _text(metadata[NAME]), _text(metadata[METADATA]) if METADATA in metadata else None
    )


def has_identity(field: pa.Field) -> bool:
    """Whether the metadata of a column, or of its lists' elements, names a data type."""
    is_named = NAME in (field.metadata or {})
    return is_named or (_is_list(field) and has_identity(field.type.value_field))


def check_identities(
    context: SessionContext, frame: DataFrame, functions: Iterable[Function]
) -> None:
    """Check the data types of every argument in a plan.

    Args:
        context: any planning context.
        frame: the plan, as it was parsed.
        functions: the plugin functions that it calls.

    Raises:
        QueryError: an argument has another data type than its parameter; the message names the
            function, the parameter and both types.
    """
    typed = {function.name: function for function in functions if function.parameters.typed_fields}
    if typed:
        _check(context, frame.logical_plan(), typed)


def _check(context: SessionContext, plan: LogicalPlan, typed: Mapping[str, Function]) -> None:
    inputs = plan.inputs()
    for call in _calls_in(plan):
        function = typed.get(call.name)
        if function is None:
            continue
        for parameter, argument in zip(
            function.parameters.typed_fields, call.arguments, strict=False
        ):
            if has_identity(parameter):
                given = _field_of(context, inputs, plan, argument)
                _compare(function.name, parameter.name, parameter, given, argument)
    for inner in inputs:
        _check(context, inner, typed)


def _compare(
    function: str, parameter: str, expected: pa.Field, given: pa.Field | None, argument: Expr
) -> None:
    if given is None:
        return
    expected_type, given_type = identity_of(expected), identity_of(given)
    if expected_type is not None and given_type is not None and expected_type.differs(given_type):
        raise QueryError(
            f"{function} takes a {expected_type} as {parameter!r}, and "
            f"{argument.canonical_name()} is a {given_type}: the two types share a storage format "
            "but not a meaning; cast explicitly"
        )
    if _is_list(expected) and _is_list(given):
        _compare(function, parameter, expected.type.value_field, given.type.value_field, argument)


def _field_of(
    context: SessionContext, inputs: list[LogicalPlan], plan: LogicalPlan, argument: Expr
) -> pa.Field | None:
    """Ask the engine for an argument's column; None if it cannot answer."""
    # A join's condition names columns of both inputs, which only the join's own output combines.
    below = inputs[0] if len(inputs) == 1 else plan
    try:
        frame = context.create_dataframe_from_logical_plan(below)
        return frame.select(argument).schema().field(0)
    except Exception:  # noqa: BLE001  # the engine raises any class; an unknown type is accepted
        return None


# --- the calls in a plan -----------------------------------------------------------------------


class _FunctionCall(NamedTuple):
    name: str
    arguments: list[Expr]


def _calls_in(plan: LogicalPlan) -> Iterator[_FunctionCall]:
    """The function calls in a node of a plan, without the nodes below it."""
    try:
        node: Any = plan.to_variant()
    except Exception:  # noqa: BLE001  # a node that the binding does not know
        return
    match type(node).__name__:
        case "WindowExpr":
            yield from _window_calls(node)
        case _:
            for expression in expressions_of(node):
                yield from _calls(expression)


def _window_calls(node: Any) -> Iterator[_FunctionCall]:
    for window in node.get_window_expr():
        arguments = [Expr(argument) for argument in node.get_args(window)]
        yield _FunctionCall(node.window_func_name(window), arguments)
        parts = (arguments, node.get_partition_exprs(window), node.get_sort_exprs(window))
        for inner in (expression for part in parts for expression in part):
            yield from _calls(inner)


def _calls(expression: Any) -> Iterator[_FunctionCall]:
    raw = bare(expression)
    kind = raw.variant_name()
    try:
        operands = [] if kind in ("Column", "Literal") else raw.rex_call_operands()
    except Exception:  # noqa: BLE001  # a subquery, for example
        return
    if kind == "ScalarFunction":
        yield _FunctionCall(raw.rex_call_operator(), [Expr(operand) for operand in operands])
    if kind == "AggregateFunction":
        yield _FunctionCall(
            raw.to_variant().aggregate_type(), [Expr(operand) for operand in operands]
        )
    for operand in operands:
        yield from _calls(operand)


def _is_list(field: pa.Field) -> bool:
    kind: pa.DataType = field.type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _parsed(identity: Identity) -> Any:
    try:
        return json.loads(identity.metadata or "")
    except ValueError:
        return identity.metadata


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
