"""Values of a result as JSON can say them.

Numbers that JSON has no word for (NaN and the infinities) become null, dates their ISO form, bytes
base64, durations seconds, whatever else its text: a `Decimal` keeps all its digits.
"""

from __future__ import annotations

import base64
import math
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from epochal.kinds.arrow import plain_storage
from epochal.sql.identity import identity_of
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable


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
        "type": sql_name(plain_storage(field.type)),
        **({"extension": extension} if extension else {}),
    }


def plain_column(column: pa.Array) -> list[Any]:
    """A column as JSON can say it, without looking at values that need no change."""
    values: list[Any] = column.to_pylist()
    kind = column.type
    if any(is_plain(kind) for is_plain in _PLAIN):
        return values
    return [plain(value) for value in values]


_PLAIN: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_integer,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_boolean,
)
