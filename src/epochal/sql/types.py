"""The names that SQL gives to Arrow types, and how each plugin function is called in SQL.

The types, and the annotation that stands for each, are in one table, `epochal.kinds.sql_types`: a
new type is a new row there. Types that are not in the table, and other precisions, zones and
widths, are to_array as their Arrow type: `Annotated[Decimal, pa.decimal128(12, 2)]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from epochal.kinds.aggregate import AggregateKind
from epochal.kinds.arrow import arrow_type
from epochal.kinds.index import IndexKind
from epochal.kinds.mergeable_state import MERGE_SUFFIX, STATE_SUFFIX, MergeableStateKind
from epochal.kinds.scalar import ScalarKind
from epochal.kinds.sql_types import SQL_TYPES
from epochal.kinds.table_function import TableFunctionKind
from epochal.kinds.window import WindowKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal import Export
    from epochal.kinds.signature import Parameter, ValueType

_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def sql_name(kind: pa.DataType) -> str:
    """The SQL name of an Arrow type; Arrow's own name where SQL has none."""
    for sql_type in SQL_TYPES:
        if sql_type.sql and sql_type.make(pa) == kind:
            return sql_type.sql
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{sql_name(kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        zone = " WITH TIME ZONE" if kind.tz else ""
        return f"TIMESTAMP({_DIGITS[kind.unit]}){zone}"
    return str(kind)


def sql_signatures(export: Export) -> list[str]:
    """Every way to call an export in SQL; several for a mergeable state.

    Raises:
        TypeError: as `sql_signature`.
    """
    if not isinstance(export.kind, MergeableStateKind):
        return [sql_signature(export)]
    shape = export.kind.shape(export)
    (state,) = shape.state.values()
    parameters = shape.update.parameters
    stored, value = _type_name(state), _type_name(shape.returns)
    return [
        _signature(export.name, parameters, value),
        _signature(f"{export.name}{STATE_SUFFIX}", parameters, stored),
        f"{export.name}{MERGE_SUFFIX}(state {stored}) -> {value}",
    ]


def sql_signature(export: Export) -> str:
    """How an export is called in SQL: `geo.distance(lat1 DOUBLE, lon1 DOUBLE) -> DOUBLE`.

    A parameter in brackets is optional.

    Raises:
        TypeError: an annotation is not a SQL type, or SQL does not call exports of this kind.
    """
    match export.kind:
        case ScalarKind() | WindowKind() as kind:
            signature = kind.signature(export)
            assert signature.returns is not None
            return _signature(export.name, signature.parameters, _type_name(signature.returns))
        case AggregateKind() as kind:
            shape = kind.shape(export)
            return _signature(export.name, shape.update.parameters, _type_name(shape.returns))
        case TableFunctionKind() | IndexKind() as kind:
            table = kind.shape(export)
            columns = [
                f"{name} {_type_name(value)}" for name, value in (table.columns or {}).items()
            ]
            returns = f"TABLE({', '.join(columns)})" if columns else "TABLE"
            return _signature(export.name, table.signature.parameters, returns, brackets=True)
        case _:
            raise TypeError(f"{export.name} is a {export.kind.name}, which SQL does not call")


def _signature(
    name: str, parameters: Iterable[Parameter], returns: str, *, brackets: bool = False
) -> str:
    listed = []
    for parameter in parameters:
        text = f"{parameter.name} {_type_name(parameter.type)}"
        listed.append(f"[{text}]" if brackets and not parameter.required else text)
    return f"{name}({', '.join(listed)}) -> {returns}"


def _type_name(value: ValueType) -> str:
    return sql_name(arrow_type(value))
