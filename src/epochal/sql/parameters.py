"""The parameters of a query: values that its SQL names, `$1` or `$name`, and does not contain.

They are bound in one of two ways. The engine puts their values into a plan. Or, in a plan that one
query after another runs (`kept_plans`), each parameter is a call of a function without arguments,
which returns the value of the query that runs the plan now. It is *immutable* to the engine, which
therefore calls it as it optimises, and has a constant in its place from then on: what needs a
constant, LIMIT or the separator of `string_agg`, gets one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
from datafusion.user_defined import ScalarUDF

from epochal.errors import QueryError
from epochal.sql.sql_scan import tokens

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Mapping

    from datafusion import SessionContext

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
    """

    def __init__(self, name: str, kind: pa.DataType) -> None:
        self._name: Final = name
        self._kind: Final = kind

    def install(self, context: SessionContext, execution: Execution, slot: CallSlot) -> None:
        """Register it in a planning context, for one plan."""
        adapter = execution.track(partial(slot.value, self._name))
        result = pa.field("value", self._kind)
        context.register_udf(ScalarUDF(f"${self._name}", adapter, [], result, "immutable"))

    def uninstall(self, context: SessionContext) -> None:
        """Remove it from a planning context."""
        context.deregister_udf(f"${self._name}")


def with_calls(sql: str, names: Container[str]) -> str:
    """A text with a call in the place of each of these parameters."""
    pieces: list[str] = []
    copied = 0
    for token in tokens(sql):
        if token.text[0] == "$" and token.text[1:] in names:  # others are strings in dollar quotes
            pieces += [sql[copied : token.start], f'"{token.text}"()']
            copied = token.end
    return "".join([*pieces, sql[copied:]])


def is_simple(value: pa.Scalar) -> bool:
    """Whether a value's type has no more to it than the engine's function can return."""
    kind: pa.DataType = value.type
    is_dictionary = pa.types.is_dictionary(kind)
    return not (is_dictionary or pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType))


def types_of(parameters: Mapping[str, pa.Scalar]) -> Hashable:
    """The types of parameters; a null is a type of its own, since a column of it may be null."""
    if not parameters:
        return ()
    return tuple((name, value.type, value.is_valid) for name, value in sorted(parameters.items()))


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
