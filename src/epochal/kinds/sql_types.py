"""The table of SQL types: the one place that lists them.

A row of `SQL_TYPES` gives a type its SQL name, its Arrow type, the Python annotation that stands
for it and pyarrow's array class for it. A row of `FAMILIES` defines how to treat Arrow types that
differ in width or unit alone: which Python values pyarrow would silently change, and the form in
JSON. All code that depends on types reads these rows:

- annotations and error messages: `epochal.kinds.signature`
- Arrow types and checked conversion: `epochal.kinds.arrow`, `epochal.sql.conversion`
- SQL names: `epochal.sql.types`
- JSON: `epochal.sql.json_values`

**To add a type**, add its row to `SQL_TYPES`. Only a type of a new family needs a second row, and a
function in `json_values` if no present form of JSON suits it.

The table needs no engine: Arrow types are named, not imported, so that a process without pyarrow
can stage a plugin and check its annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class SqlType:
    """One SQL type.

    Attributes:
        sql: its name in SQL; empty where SQL has none, and Arrow's name is shown.
        arrow: the function of pyarrow that makes the Arrow type, `float64` for `pa.float64()`.
        args: what that function is called with.
        python: the annotation that stands for the type; None where only Arrow's name does.
        array: the class of pyarrow's arrays of exactly this type; empty for none.
    """

    sql: str
    arrow: str
    args: tuple[Any, ...] = ()
    python: type | None = None
    array: str = ""

    def make(self, pyarrow: Any) -> Any:
        """The Arrow type, made by the given `pyarrow` module."""
        return getattr(pyarrow, self.arrow)(*self.args)


SQL_TYPES: tuple[SqlType, ...] = (
    SqlType("DOUBLE", "float64", python=float, array="DoubleArray"),
    SqlType("REAL", "float32", array="FloatArray"),
    SqlType("", "float16", array="HalfFloatArray"),
    SqlType("BIGINT", "int64", python=int, array="Int64Array"),
    SqlType("INTEGER", "int32", array="Int32Array"),
    SqlType("SMALLINT", "int16", array="Int16Array"),
    SqlType("TINYINT", "int8", array="Int8Array"),
    SqlType("BIGINT UNSIGNED", "uint64", array="UInt64Array"),
    SqlType("INTEGER UNSIGNED", "uint32", array="UInt32Array"),
    SqlType("SMALLINT UNSIGNED", "uint16", array="UInt16Array"),
    SqlType("TINYINT UNSIGNED", "uint8", array="UInt8Array"),
    SqlType("VARCHAR", "string", python=str, array="StringArray"),
    SqlType("VARCHAR", "large_string", array="LargeStringArray"),
    SqlType("VARCHAR", "string_view"),
    SqlType("BOOLEAN", "bool_", python=bool, array="BooleanArray"),
    SqlType("BYTEA", "binary", python=bytes, array="BinaryArray"),
    SqlType("BYTEA", "large_binary", array="LargeBinaryArray"),
    # Without a time zone; a value with one arrives as the time in UTC.
    SqlType("TIMESTAMP", "timestamp", ("us",), python=datetime),
    SqlType("DATE", "date32", python=date, array="Date32Array"),
    SqlType("", "date64", array="Date64Array"),
    SqlType("TIME", "time64", ("us",)),
    # The engine takes a plain DECIMAL for this one.
    SqlType("DECIMAL(38, 10)", "decimal128", (38, 10), python=Decimal),
    SqlType("NULL", "null"),
)


@dataclass(frozen=True, slots=True)
class Family:
    """Arrow types that are treated alike.

    Attributes:
        arrow: the test in `pyarrow.types` that recognises them, without its `is_`.
        json: how JSON shows a column of them, a key of `epochal.sql.json_values.FORMS`; empty to
            convert value by value.
        lossy: Python types that pyarrow takes for these and silently changes: it makes 1 of 1.5
            where an integer is wanted, and a date of any number.
        by_mask: whether pyarrow's `replace_with_mask` supports them, which it documents nowhere.
    """

    arrow: str
    json: str = ""
    lossy: tuple[type, ...] = ()
    by_mask: bool = False


FAMILIES: Final = (
    Family("integer", "unchanged", lossy=(float, Decimal), by_mask=True),
    Family("floating", "finite", by_mask=True),
    Family("string", "unchanged", by_mask=True),
    Family("large_string", "unchanged"),
    Family("string_view", "unchanged"),
    Family("boolean", "unchanged", by_mask=True),
    Family("binary", lossy=(str,), by_mask=True),
    Family("large_binary", lossy=(str,)),
    Family("timestamp", "timestamp", lossy=(int, float), by_mask=True),
    Family("date32", "date", lossy=(int, float), by_mask=True),
    Family("date64", "date", lossy=(int, float)),
    Family("time", "time", lossy=(int, float)),
    Family("duration", "seconds", lossy=(int, float)),
    Family("interval", lossy=(int, float)),
    Family("list", "list", lossy=(str, bytes)),
    Family("large_list", "list", lossy=(str, bytes)),
    Family("fixed_size_list", "list"),
    Family("list_view", "list"),
    Family("large_list_view", "list"),
    Family("map", "pairs"),
    Family("struct", "object"),
    Family("dictionary", "decoded"),
)
"""Arrow types without a family (decimals, null) are converted value by value and refuse nothing."""


@cache
def annotated_types() -> tuple[type, ...]:
    """The Python types that are SQL types by themselves."""
    return tuple(kind.python for kind in SQL_TYPES if kind.python is not None)


def by_annotation(python: type) -> SqlType:
    """The type that a Python annotation stands for."""
    return next(kind for kind in SQL_TYPES if kind.python is python)


def by_array(name: str) -> SqlType | None:
    """The type of the arrays of one of pyarrow's classes; None for a class that holds any type."""
    return next((kind for kind in SQL_TYPES if kind.array == name), None)
