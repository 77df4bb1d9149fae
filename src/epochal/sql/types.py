"""From what an author's annotations say to Arrow types, and to text that a person reads.

`epochal.kinds.signature` reads annotations without an engine, `epochal.kinds.arrow` makes Arrow
types of them, and here is what SQL calls those:

================  ==========================  ====================================================
annotation        Arrow                       SQL
================  ==========================  ====================================================
`float`           `float64`                   DOUBLE
`int`             `int64`                     BIGINT
`str`             `string`                    VARCHAR
`bool`            `bool`                      BOOLEAN
`bytes`           `binary`                    BYTEA
`datetime`        `timestamp("us")`           TIMESTAMP, without a time zone; one with a zone
                                              arrives as the time in UTC
`date`            `date32`                    DATE
`Decimal`         `decimal128(38, 10)`        DECIMAL(38, 10), which is what the engine takes a
                                              plain DECIMAL for
`list[X]`         `list<X>`                   X[]
================  ==========================  ====================================================

Anything else, and other precisions, zones and widths, by its Arrow type: `Annotated[Decimal,
pa.decimal128(12, 2)]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from epochal.kinds.aggregate import AggregateKind
from epochal.kinds.arrow import arrow_type
from epochal.kinds.index import IndexKind
from epochal.kinds.mergeable_state import MERGE_SUFFIX, STATE_SUFFIX, MergeableStateKind
from epochal.kinds.scalar import ScalarKind
from epochal.kinds.table_function import TableFunctionKind
from epochal.kinds.window import WindowKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from epochal._core.generation.kind import Export
    from epochal.kinds.signature import Parameter, ValueType

_SQL: Final[Mapping[pa.DataType, str]] = {
    pa.float64(): "DOUBLE",
    pa.float32(): "REAL",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.int16(): "SMALLINT",
    pa.int8(): "TINYINT",
    pa.uint64(): "BIGINT UNSIGNED",
    pa.uint32(): "INTEGER UNSIGNED",
    pa.uint16(): "SMALLINT UNSIGNED",
    pa.uint8(): "TINYINT UNSIGNED",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.string_view(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.binary(): "BYTEA",
    pa.large_binary(): "BYTEA",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.null(): "NULL",
}


def sql_name(kind: pa.DataType) -> str:
    """What SQL calls an Arrow type; where SQL has no word for it, Arrow's own."""
    if (name := _SQL.get(kind)) is not None:
        return name
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{sql_name(kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        zone = " WITH TIME ZONE" if kind.tz else ""
        return f"TIMESTAMP({_DIGITS[kind.unit]}){zone}"
    return str(kind)


_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def sql_signatures(export: Export) -> list[str]:
    """How an export is called in SQL, each way.

    Raises:
        TypeError: as `sql_signature`.
    """
    if not isinstance(export.kind, MergeableStateKind):
        return [sql_signature(export)]
    shape = export.kind.shape(export)
    (state,) = shape.state.values()
    taken, stored, value = shape.update.parameters, _value(state), _value(shape.returns)
    return [
        _call(export.name, taken, value),
        _call(f"{export.name}{STATE_SUFFIX}", taken, stored),
        f"{export.name}{MERGE_SUFFIX}(state {stored}) -> {value}",
    ]


def sql_signature(export: Export) -> str:
    """How an export is called in SQL: `geo.distance(lat1 DOUBLE, lon1 DOUBLE) -> DOUBLE`.

    A parameter in brackets may be left out.

    Raises:
        TypeError: the export's annotations are not SQL's, or its kind is not one that SQL knows.
    """
    match export.kind:
        case ScalarKind() | WindowKind() as kind:
            signature = kind.signature(export)
            assert signature.returns is not None
            return _call(export.name, signature.parameters, _value(signature.returns))
        case AggregateKind() as kind:
            shape = kind.shape(export)
            return _call(export.name, shape.update.parameters, _value(shape.returns))
        case TableFunctionKind() | IndexKind() as kind:
            table = kind.shape(export)
            columns = [f"{name} {_value(one)}" for name, one in (table.columns or {}).items()]
            returns = f"TABLE({', '.join(columns)})" if columns else "TABLE"
            return _call(export.name, table.signature.parameters, returns, optional=True)
        case _:
            raise TypeError(f"{export.name} is a {export.kind.name}, which SQL does not call")


def _call(
    name: str, parameters: Iterable[Parameter], returns: str, *, optional: bool = False
) -> str:
    listed = [
        text if one.required or not optional else f"[{text}]"
        for one in parameters
        for text in (f"{one.name} {_value(one.type)}",)
    ]
    return f"{name}({', '.join(listed)}) -> {returns}"


def _value(value: ValueType) -> str:
    return sql_name(arrow_type(value))
