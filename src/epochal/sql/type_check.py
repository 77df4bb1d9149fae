"""Which data type a column is of: a function for one type refuses a column that is of another.

The problem: to the engine a `geo.point` and a `mars.point` are the same struct, so it would pass
one for the other, and degrees for metres. A column says in its metadata which it is, and the engine
carries that through most of a plan, but compares it with nothing.

The idea: a plan is walked before it is optimised, and of each argument to a parameter of a data
type the engine is asked what its column says. Where both say what they are and differ, the query is
refused. A column that says nothing (plain storage, or what the engine makes anew: the result of
CASE, coalesce, max, of an aggregate) is taken. Subqueries within expressions cannot be walked to.

It costs 50 µs for each such argument, and nothing where no function of the query has one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
from datafusion.expr import Expr

from epochal.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from datafusion import DataFrame, SessionContext
    from datafusion.plan import LogicalPlan

    from epochal.sql.function import Function

NAME: Final = b"ARROW:extension:name"
METADATA: Final = b"ARROW:extension:metadata"


class Identity(NamedTuple):
    """What a column says that it is.

    Attributes:
        name: the extension's.
        metadata: what that says besides, its parameters as JSON mostly; None where it says nothing.
    """

    name: str
    metadata: str | None

    def differs(self, other: Identity) -> bool:
        """Whether both say what they are, and that is not the same."""
        if self.name != other.name or self.metadata is None or other.metadata is None:
            return self.name != other.name
        return self.metadata != other.metadata and _parsed(self) != _parsed(other)

    def __str__(self) -> str:
        parameters = self.metadata if self.metadata not in (None, "", "{}") else ""
        return f"{self.name} {parameters}".rstrip()


def identity_of(field: pa.Field) -> Identity | None:
    """What a column says that it is; None where it says nothing."""
    if isinstance(field.type, pa.ExtensionType):
        kind: Any = field.type
        return Identity(kind.extension_name, _text(kind.__arrow_ext_serialize__()))
    said = field.metadata or {}
    if NAME not in said:
        return None
    return Identity(_text(said[NAME]), _text(said[METADATA]) if METADATA in said else None)


def check_identities(
    context: SessionContext, frame: DataFrame, functions: Iterable[Function]
) -> None:
    """See that no argument of a plan is of another data type than the parameter.

    Args:
        context: any planning context.
        frame: the plan, as it was parsed.
        functions: those of plugins that it calls.

    Raises:
        QueryError: one is; it names the function, the parameter and both types.
    """
    typed = {one.name: one for one in functions if one.takes}
    if typed:
        _check(context, frame.logical_plan(), typed)


def _check(context: SessionContext, plan: LogicalPlan, typed: Mapping[str, Function]) -> None:
    inputs = plan.inputs()
    for call in _calls_in(plan):
        function = typed.get(call.name)
        if function is None:
            continue
        for place, argument in zip(function.takes, call.arguments, strict=False):
            if says_type(place):
                given = _column(context, inputs, plan, argument)
                _compare(function.name, place.name, place, given, argument)
    for inner in inputs:
        _check(context, inner, typed)


def _compare(
    function: str, parameter: str, place: pa.Field, given: pa.Field | None, argument: Expr
) -> None:
    if given is None:
        return
    wanted, found = identity_of(place), identity_of(given)
    if wanted is not None and found is not None and wanted.differs(found):
        raise QueryError(
            f"{function} takes a {wanted} as {parameter!r}, and {argument.canonical_name()} is a "
            f"{found}: what is stored alike need not mean the same"
        )
    if _is_list(place) and _is_list(given):
        inner = place.type.value_field, given.type.value_field
        _compare(function, parameter, *inner, argument)


def _column(
    context: SessionContext, inputs: list[LogicalPlan], plan: LogicalPlan, argument: Expr
) -> pa.Field | None:
    """What the engine knows of an argument; None where it cannot be asked."""
    # A join's condition names columns of both of its inputs, which are together in its own.
    below = inputs[0] if len(inputs) == 1 else plan
    try:
        frame = context.create_dataframe_from_logical_plan(below)
        return frame.select(argument).schema().field(0)
    except Exception:  # noqa: BLE001  # the engine's, of any class: what it cannot say is not said
        return None


class _Call(NamedTuple):
    name: str
    arguments: list[Expr]


def _calls_in(plan: LogicalPlan) -> Iterator[_Call]:
    """The calls in a node of a plan, not in those below it."""
    try:
        node: Any = plan.to_variant()
    except Exception:  # noqa: BLE001  # a node that the binding does not know
        return
    match type(node).__name__:
        case "WindowExpr":
            yield from _window_calls(node)
        case kind:
            for name in _EXPRESSIONS.get(kind, ()):
                for one in _listed(getattr(node, name)()):
                    yield from _calls(one)


_EXPRESSIONS: Final = {
    "Projection": ("projections",),
    "Filter": ("predicate",),
    "Aggregate": ("group_by_exprs", "aggregate_exprs"),
    "Sort": ("sort_exprs",),
    "Join": ("filter", "on"),
}
"""The nodes that have expressions, and where."""


def _window_calls(node: Any) -> Iterator[_Call]:
    for one in node.get_window_expr():
        arguments = [Expr(argument) for argument in node.get_args(one)]
        yield _Call(node.window_func_name(one), arguments)
        parts = (arguments, node.get_partition_exprs(one), node.get_sort_exprs(one))
        for inner in (expression for part in parts for expression in part):
            yield from _calls(inner)


def _listed(found: Any) -> Iterator[Any]:
    """Expressions out of what the binding gives: one, a list, pairs, or none."""
    if isinstance(found, (list, tuple)):
        for one in found:
            yield from _listed(one)
    elif found is not None:
        yield found


def _calls(expression: Any) -> Iterator[_Call]:
    raw = expression.expr if isinstance(expression, Expr) else expression
    if type(raw).__name__ == "SortExpr":
        raw = raw.expr()
    kind = raw.variant_name()
    try:
        inner = [] if kind in ("Column", "Literal") else raw.rex_call_operands()
    except Exception:  # noqa: BLE001  # a subquery, say
        return
    if kind == "ScalarFunction":
        yield _Call(raw.rex_call_operator(), [Expr(one) for one in inner])
    if kind == "AggregateFunction":
        yield _Call(raw.to_variant().aggregate_type(), [Expr(one) for one in inner])
    for one in inner:
        yield from _calls(one)


def says_type(field: pa.Field) -> bool:
    """Whether a column, or the elements of its lists, say that they are of a data type."""
    said = NAME in (field.metadata or {})
    return said or (_is_list(field) and says_type(field.type.value_field))


def _is_list(field: pa.Field) -> bool:
    kind: pa.DataType = field.type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _parsed(one: Identity) -> Any:
    try:
        return json.loads(one.metadata or "")
    except ValueError:
        return one.metadata


def _text(said: bytes) -> str:
    return said.decode(errors="replace")
