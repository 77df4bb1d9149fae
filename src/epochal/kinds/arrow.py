"""SQL values as Arrow stores them, for SQL and for the comparison of two versions.

Stricter than pyarrow where it silently loses: pyarrow makes 1 of 1.5 where an integer is expected,
and a date of any number. This module imports pyarrow, so kinds import it only inside functions that
run after a plugin or an engine has imported pyarrow.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal.kinds.codec import encoder_for
from epochal.kinds.sql_types import FAMILIES, by_annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal.kinds.signature import ValueType
    from epochal.kinds.sql_types import Family

CONVERSION_ERRORS: Final = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""The errors that pyarrow raises for values that do not fit a type."""


def arrow_type(value_type: ValueType, plugin: str | None = None) -> pa.DataType:
    """Return the Arrow type of one SQL value.

    Args:
        value_type: the type, as an annotation gives it.
        plugin: id of the plugin that declares the type; elements of lists then name their data type
            in the field's metadata. None leaves the metadata out.
    """
    if value_type.arrow is not None:
        return value_type.arrow
    if value_type.element is not None:
        inner = arrow_type(value_type.element, plugin)
        return pa.list_(pa.field("item", inner, metadata=metadata_of(value_type.element, plugin)))
    assert value_type.python is not None  # only a type with `arrow` leaves it out
    return by_annotation(value_type.python).make(pa)


def metadata_of(value_type: ValueType, plugin: str | None) -> dict[str, str] | None:
    """Return the metadata that mark a column as an extension type; None for a plain type.

    The keys are those of the Arrow columnar format, "Extension Types".
    """
    if value_type.codec is None or plugin is None:
        return None
    return {
        "ARROW:extension:name": value_type.codec.full_name(plugin),
        "ARROW:extension:metadata": value_type.codec.parameters,
    }


def to_array(values: list[Any], arrow: pa.DataType) -> pa.Array:
    """Return an Arrow array of Python values.

    Raises:
        TypeError, ValueError, OverflowError, pa.ArrowException: a value is not of the type.
    """
    if lossy_sources(arrow) and _holds_lossy(values, arrow):
        raise TypeError("pyarrow would make something else of it")
    return pa.array(values, arrow)


def round_trip(value: Any, arrow: pa.DataType) -> Any:
    """Return a value as it comes back from Arrow.

    Numbers get the type's width, structs its order of fields, and tuples become lists.

    Raises:
        ValueError: the value is not of the type.
    """
    try:
        return to_array([value], arrow)[0].as_py()
    except CONVERSION_ERRORS as error:
        raise ValueError(f"{value!r} is not of the type {arrow}: {error}") from None


def encode_value(value: Any, value_type: ValueType) -> Any:
    """Return a value as it is stored: encoded by its data type, then as it comes back from Arrow.

    Raises:
        ValueError: the value is not of the type.
    """
    encode = encoder_for(value_type, "a value")
    return round_trip(value if encode is None else encode(value), arrow_type(value_type))


def storage_type(arrow: pa.DataType) -> pa.DataType:
    """Return the storage of an extension type such as `pa.uuid()`, and any other type itself."""
    return arrow.storage_type if isinstance(arrow, pa.BaseExtensionType) else arrow


def storage_array(array: pa.Array) -> pa.Array:
    """Return the storage of an extension array, and any other array itself."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def to_pylist(array: Any, arrow: pa.DataType) -> list[Any]:
    """Return an array's values, read as a type.

    Args:
        array: an array or chunked array of the type, of its storage, or of an extension of it.
        arrow: the type.
    """
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    stored = [storage_array(chunk) for chunk in chunks]
    if isinstance(arrow, pa.BaseExtensionType):
        stored = [arrow.wrap_array(chunk) for chunk in stored]
    return [value for chunk in stored for value in chunk.to_pylist()]


def family_of(arrow: pa.DataType) -> Family | None:
    """Return the family of an Arrow type; None for a type without one."""
    # By number: these look at nothing else of a type, and asking all of them takes 3 µs.
    try:
        return _by_number[arrow.id]
    except KeyError:
        family = next((family for family, is_of in _FAMILIES if is_of(arrow)), None)
        _by_number[arrow.id] = family
        return family


_FAMILIES: Final = [(family, getattr(pa.types, f"is_{family.arrow}")) for family in FAMILIES]
_by_number: Final[dict[int, Family | None]] = {}


def lossy_sources(arrow: pa.DataType) -> tuple[type, ...]:
    """Return the Python types that pyarrow takes for this type, and silently changes."""
    family = family_of(arrow)
    return () if family is None else family.lossy


def _holds_lossy(values: Iterable[Any], arrow: pa.DataType) -> bool:
    lossy = lossy_sources(arrow)
    if lossy and any(issubclass(cls, lossy) for cls in set(map(type, values))):
        return True
    if not (pa.types.is_list(arrow) or pa.types.is_large_list(arrow)):
        return False
    return _holds_lossy(list(chain.from_iterable(filter(None, values))), arrow.value_type)
