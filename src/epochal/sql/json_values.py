"""Converts the values of a result to JSON.

NaN and the infinities become null, integers and decimals keep all their digits, bytes become
base64, durations seconds, intervals months, days and nanoseconds, maps lists of pairs. Dates and
times become their ISO form.

Arrow makes the ISO form, not Python: Python's dates have microseconds and the years 1 to 9999,
while SQL's `now()` has nanoseconds and a file may have any year. Therefore a column is converted by
its Arrow type, down to the dates inside lists and structs. A value that is out of range even for
Arrow becomes the text `<value out of range: …>`.
"""

from __future__ import annotations

import base64
import math
import re
from datetime import date, datetime, time, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from epochal.errors import QueryError
from epochal.kinds.arrow import family_of, storage_type
from epochal.sql.type_check import identity_of
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Convert = Callable[[pa.Array], Iterable[Any]]


def json_value(value: Any) -> Any:
    """Convert one Python value to what the `json` module can write."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [json_value(item) for item in value]
        case dict():
            return {str(key): json_value(item) for key, item in value.items()}
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return str(value)


def json_column(column: pa.Array) -> list[Any]:
    """Convert a column by its type; values that need no conversion are not looked at one by one."""
    family = family_of(column.type)
    if family is not None and family.json:
        return list(FORMS[family.json](column))
    return [json_value(value) for value in column.to_pylist()]


def json_columns(batch: pa.RecordBatch) -> list[list[Any]]:
    """Convert the columns of a batch.

    Raises:
        QueryError: a value cannot be converted; the message names its column.
    """
    return convert_columns(batch, json_column)


def json_field(field: pa.Field) -> dict[str, Any]:
    """Describe a column: name, SQL type, and as `extension` its data type if it has one."""
    described = {"name": field.name, "type": sql_name(storage_type(field.type))}
    if (identity := identity_of(field)) is None:
        return described
    extension = {"name": identity.name, "metadata": identity.metadata or ""}
    return {**described, "extension": extension}


def convert_columns(batch: pa.RecordBatch | pa.Table, convert: Convert) -> list[list[Any]]:
    """Convert each column of a batch or table of a result to a list of values.

    Args:
        batch: the batch or table.
        convert: converts one column.

    Raises:
        QueryError: `convert` raised; the message names the column.
    """
    return [_convert(batch, index, convert) for index in range(batch.num_columns)]


def _convert(batch: pa.RecordBatch | pa.Table, index: int, convert: Convert) -> list[Any]:
    try:
        return list(convert(batch.column(index)))
    except Exception as error:  # a data type's own code may raise anything
        field, reason = batch.schema.field(index), " ".join(str(error).split())
        raise QueryError(
            f"column {field.name!r} ({field.type}) has a value that cannot be converted: {reason}; "
            "CAST it to another type, or request Arrow"
        ) from error


# --- the forms ---------------------------------------------------------------------------------


_TIMESTAMP: Final = re.compile(r"([^ <]+) ([^.Z+-]+)(?:\.(\d+))?(?:(Z)|([+-]\d\d)(\d\d))?")
_TIME: Final = re.compile(r"([\d:]+)(?:\.(\d+))?")
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _unchanged(column: pa.Array) -> Iterable[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _finite(column: pa.Array) -> Iterable[float | None]:
    """JSON has no NaN and no infinities."""
    values: list[float | None] = column.to_pylist()
    return [value if value is None or math.isfinite(value) else None for value in values]


def _iso_timestamp(text: str) -> str:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:  # "<value out of range: …>"
        return text
    day, clock, fraction, utc, hours, minutes = match.groups()
    zone = "+00:00" if utc else f"{hours}:{minutes}" if hours else ""
    return f"{day}T{clock}{_digits(fraction)}{zone}"


def _iso_time(text: str) -> str:
    match = _TIME.fullmatch(text)
    return text if match is None else f"{match[1]}{_digits(match[2])}"


def _texts(to_iso: Callable[[str], str], column: pa.Array) -> Iterable[str | None]:
    texts = column.cast(pa.string()).to_pylist()
    return [None if text is None else to_iso(text) for text in texts]


def _digits(fraction: str | None) -> str:
    """A fraction of a second in no digits, six, or nine: the shortest of these that is exact."""
    digits = (fraction or "").rstrip("0")
    return f".{digits.ljust(6 if len(digits) <= 6 else 9, '0')}" if digits else ""


def _seconds(column: pa.Array) -> Iterable[float | None]:
    per_second = _PER_SECOND[column.type.unit]
    counts = column.cast(pa.int64()).to_pylist()
    return [None if count is None else count / per_second for count in counts]


def _lists(column: pa.Array) -> Iterable[list[Any] | None]:
    items = iter(json_column(column.flatten()))
    lengths = pc.list_value_length(column).to_pylist()
    return [None if length is None else list(islice(items, length)) for length in lengths]


def _pairs(column: pa.Array) -> Iterable[list[Any] | None]:
    """Maps as lists of pairs: a key need not be text."""
    offsets = column.offsets.to_pylist()
    first, count = offsets[0], offsets[-1] - offsets[0]
    # Of a slice, `keys` and `items` are those of the whole array that it was cut from.
    keys, items = (json_column(part.slice(first, count)) for part in (column.keys, column.items))
    pairs = [[key, item] for key, item in zip(keys, items, strict=True)]
    return [
        pairs[start - first : end - first] if is_valid else None
        for start, end, is_valid in zip(
            offsets[:-1], offsets[1:], column.is_valid().to_pylist(), strict=True
        )
    ]


def _objects(column: pa.Array) -> Iterable[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    if len(set(names)) < len(names):
        raise ValueError(f"two of its fields have the same name: {', '.join(names)}")
    valid = column.is_valid().to_pylist()
    if not names:
        return [{} if is_valid else None for is_valid in valid]
    rows = zip(*[json_column(part) for part in column.flatten()], strict=True)
    return [
        dict(zip(names, row, strict=True)) if is_valid else None
        for row, is_valid in zip(rows, valid, strict=True)
    ]


def _decoded(column: pa.Array) -> Iterable[Any]:
    return json_column(column.dictionary_decode())


FORMS: Final[Mapping[str, Convert]] = {
    "unchanged": _unchanged,
    "finite": _finite,
    "timestamp": partial(_texts, _iso_timestamp),
    "date": partial(_texts, str),
    "time": partial(_texts, _iso_time),
    "seconds": _seconds,
    "list": _lists,
    "pairs": _pairs,
    "object": _objects,
    "decoded": _decoded,
}
"""How JSON shows a column, by the name that its family in `epochal.kinds.sql_types` has for it."""
