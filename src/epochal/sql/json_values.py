"""Values of a result as JSON can say them.

Numbers that JSON has no word for (NaN and the infinities) become null, integers and decimals keep
all their digits, bytes become base64, durations seconds, intervals months, days and nanoseconds,
maps lists of pairs. Dates and times become their ISO form.

That form is Arrow's own, and not made of Python's dates: those have microseconds and the years 1 to
9999, while SQL's `now()` has nanoseconds and a file may have any year. So a column is taken apart
by its type, down to what holds dates. What is beyond Arrow too is told in the value's place,
`<value out of range: …>`.
"""

from __future__ import annotations

import base64
import math
import re
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from epochal.errors import QueryError
from epochal.kinds.arrow import storage_type
from epochal.sql.type_check import identity_of
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Convert = Callable[[pa.Array], Iterable[Any]]


def plain(value: Any) -> Any:
    """A Python value as JSON can say it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [plain(one) for one in value]
        case dict():
            return {str(key): plain(one) for key, one in value.items()}
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return str(value)


def described(field: pa.Field) -> dict[str, Any]:
    """A column in JSON: its name, type, and as `extension` the data type that it is of, if any."""
    said = identity_of(field)
    extension = {} if said is None else {"name": said.name, "metadata": said.metadata or ""}
    return {
        "name": field.name,
        "type": sql_name(storage_type(field.type)),
        **({"extension": extension} if extension else {}),
    }


def plain_columns(batch: pa.RecordBatch) -> list[list[Any]]:
    """The columns of a batch as JSON can say them.

    Raises:
        QueryError: a value of a column cannot be read; it names the column.
    """
    return converted(batch, plain_column)


def converted(batch: pa.RecordBatch | pa.Table, convert: Convert) -> list[list[Any]]:
    """The columns of a batch, each made a list of values.

    Args:
        batch: of a result.
        convert: makes the values of a column.

    Raises:
        QueryError: it raised; the error names the column.
    """
    return [
        _converted(field, column, convert)
        for field, column in zip(batch.schema, batch.columns, strict=True)
    ]


def _converted(field: pa.Field, column: pa.Array, convert: Convert) -> list[Any]:
    try:
        return list(convert(column))
    except Exception as error:  # a data type's own code may raise anything
        why = " ".join(str(error).split())
        raise QueryError(
            f"column {field.name!r} ({field.type}) has a value that cannot be given: {why}; "
            "CAST it to another type, or ask for Arrow"
        ) from error


def plain_column(column: pa.Array) -> list[Any]:
    """A column as JSON can say it, without looking at values that need no change."""
    kind = column.type
    for is_kind, convert in _CONVERSIONS:
        if is_kind(kind):
            return list(convert(column))
    return [plain(value) for value in column.to_pylist()]


# --- by type -----------------------------------------------------------------------------------


_MOMENT: Final = re.compile(r"([^ ]+) ([^.Z+-]+)(?:\.(\d+))?(?:(Z)|([+-]\d\d)(\d\d))?")
_TIME: Final = re.compile(r"([\d:]+)(?:\.(\d+))?")
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _moments(column: pa.Array) -> Iterable[str | None]:
    return _texts(column, _moment)


def _moment(text: str) -> str:
    found = _MOMENT.fullmatch(text)
    if found is None:  # out of range, which it says
        return text
    day, clock, fraction, utc, hours, minutes = found.groups()
    zone = "+00:00" if utc else f"{hours}:{minutes}" if hours else ""
    return f"{day}T{clock}{_digits(fraction)}{zone}"


def _clocks(column: pa.Array) -> Iterable[str | None]:
    return _texts(column, _clock)


def _clock(text: str) -> str:
    found = _TIME.fullmatch(text)
    return text if found is None else f"{found[1]}{_digits(found[2])}"


def _days(column: pa.Array) -> Iterable[str | None]:
    return _texts(column, str)


def _texts(column: pa.Array, tidy: Callable[[str], str]) -> Iterable[str | None]:
    texts = column.cast(pa.string()).to_pylist()
    return [None if text is None else tidy(text) for text in texts]


def _digits(fraction: str | None) -> str:
    """A fraction of a second in no digits, six, or nine: as many as it needs of these."""
    kept = (fraction or "").rstrip("0")
    return f".{kept.ljust(6 if len(kept) <= 6 else 9, '0')}" if kept else ""


def _durations(column: pa.Array) -> Iterable[float | None]:
    parts = _PER_SECOND[column.type.unit]
    counts = column.cast(pa.int64()).to_pylist()
    return [None if count is None else count / parts for count in counts]


def _lists(column: pa.Array) -> Iterable[list[Any] | None]:
    items = iter(plain_column(column.flatten()))
    lengths = pc.list_value_length(column).to_pylist()
    return [None if length is None else list(islice(items, length)) for length in lengths]


def _maps(column: pa.Array) -> Iterable[list[Any] | None]:
    """Lists of pairs: a key need not be text."""
    offsets = column.offsets.to_pylist()
    first, count = offsets[0], offsets[-1] - offsets[0]
    # `keys` and `items` are those of all that the column is a slice of.
    keys, items = (plain_column(one.slice(first, count)) for one in (column.keys, column.items))
    pairs = [[key, item] for key, item in zip(keys, items, strict=True)]
    return [
        pairs[start - first : end - first] if there else None
        for start, end, there in zip(
            offsets[:-1], offsets[1:], column.is_valid().to_pylist(), strict=True
        )
    ]


def _structs(column: pa.Array) -> Iterable[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    if len(set(names)) < len(names):
        raise ValueError(f"two of its fields have one name, of {', '.join(names)}")
    rows = zip(*[plain_column(part) for part in column.flatten()], strict=True)
    valid = column.is_valid().to_pylist()
    if not names:
        return [{} if there else None for there in valid]
    return [
        dict(zip(names, row, strict=True)) if there else None
        for row, there in zip(rows, valid, strict=True)
    ]


def _decoded(column: pa.Array) -> Iterable[Any]:
    return plain_column(column.dictionary_decode())


def _as_they_are(column: pa.Array) -> Iterable[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _is_any_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


_CONVERSIONS: Final[tuple[tuple[Callable[[pa.DataType], bool], Convert], ...]] = (
    (pa.types.is_integer, _as_they_are),
    (pa.types.is_string, _as_they_are),
    (pa.types.is_large_string, _as_they_are),
    (pa.types.is_string_view, _as_they_are),
    (pa.types.is_boolean, _as_they_are),
    (pa.types.is_timestamp, _moments),
    (pa.types.is_date, _days),
    (pa.types.is_time, _clocks),
    (pa.types.is_duration, _durations),
    (_is_any_list, _lists),
    (pa.types.is_map, _maps),
    (pa.types.is_struct, _structs),
    (pa.types.is_dictionary, _decoded),
)
