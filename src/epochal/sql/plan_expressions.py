"""The expressions in the nodes of the engine's plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datafusion.expr import Expr

if TYPE_CHECKING:
    from collections.abc import Iterator

_METHODS: Final = {
    "Projection": ("projections",),
    "Filter": ("predicate",),
    "Aggregate": ("group_by_exprs", "aggregate_exprs"),
    "Sort": ("sort_exprs",),
    "Join": ("filter", "on"),
}
"""The nodes that have expressions, and the methods that return them."""


def expressions_of(node: Any) -> Iterator[Any]:
    """The expressions of a node, which is what `LogicalPlan.to_variant` returned."""
    for method in _METHODS.get(type(node).__name__, ()):
        yield from _flattened(getattr(node, method)())


def bare(expression: Any) -> Any:
    """The binding's own expression: what a sort is by, or what an `Expr` wraps."""
    raw = expression.expr if isinstance(expression, Expr) else expression
    return raw.expr() if type(raw).__name__ == "SortExpr" else raw


def _flattened(expressions: Any) -> Iterator[Any]:
    """The expressions that the binding returns: one, a list, pairs, or none."""
    if isinstance(expressions, (list, tuple)):
        for expression in expressions:
            yield from _flattened(expression)
    elif expressions is not None:
        yield expressions
