"""Values as Arrow stores them: one step for SQL, and for what is compared between versions.

Strict where pyarrow is quietly wrong: it makes 1 of 1.5 where an integer is wanted, and a date of
any number. Needs pyarrow, so kinds import it only where a plugin has done so, or an engine.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal.kinds.codec import decoder_for, encoder_for
from epochal.kinds.sql_types import FAMILIES, by_annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epochal.kinds.signature import ValueType
    from epochal.kinds.sql_types import Family

CONVERSION_ERRORS: Final = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What pyarrow raises for values that do not fit."""


def arrow_type(value: ValueType, plugin: str | None = None) -> pa.DataType:
    """The Arrow type of one SQL value.

    Args:
        value: its type.
        plugin: whose signature it stands in: then elements of lists say which data type they are
            of. None where nothing should say so.
    """
    if value.arrow is not None:
        return value.arrow
    if value.element is not None:
        inner = arrow_type(value.element, plugin)
        return pa.list_(pa.field("item", inner, metadata=metadata_of(value.element, plugin)))
    assert value.python is not None  # only an Arrow type leaves it out
    return by_annotation(value.python).make(pa)


def metadata_of(value: ValueType, plugin: str | None) -> dict[str, str] | None:
    """How Arrow says that a column is of an extension type (its columnar format, "Extension")."""
    if value.codec is None or plugin is None:
        return None
    return {
        "ARROW:extension:name": value.codec.full_name(plugin),
        "ARROW:extension:metadata": value.codec.parameters,
    }


def to_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An array of Python values, each of which is of the type.

    Raises:
        TypeError, ValueError, OverflowError, pa.ArrowException: one is not.
    """
    if lossy_sources(kind) and _holds_refused(values, kind):
        raise TypeError("pyarrow would make something else of it")
    return pa.array(values, kind)


def round_trip(value: Any, kind: pa.DataType) -> Any:
    """What Arrow makes of a value: numbers of its width, the order of its fields, lists of tuples.

    Raises:
        ValueError: it is not of the type.
    """
    try:
        return to_array([value], kind)[0].as_py()
    except CONVERSION_ERRORS as error:
        raise ValueError(f"{value!r} is not of the type {kind}: {error}") from None


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type itself; of an extension type (`pa.uuid()`), what that is stored as."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def storage_array(array: pa.Array) -> pa.Array:
    """The array itself; of an extension array, its storage."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def to_pylist(array: Any, kind: pa.DataType) -> list[Any]:
    """What a type makes of an array of it, or of its storage, or of an extension of it."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    if isinstance(kind, pa.BaseExtensionType):
        chunks = [kind.wrap_array(storage_array(chunk)) for chunk in chunks]
    else:
        chunks = [storage_array(chunk) for chunk in chunks]
    return [value for chunk in chunks for value in chunk.to_pylist()]


def encode_value(value: Any, kind: ValueType) -> Any:
    """What is stored of a value that stands in a signature.

    Raises:
        ValueError: it is not of the type.
    """
    write = encoder_for(kind, "a value")
    return round_trip(value if write is None else write(value), arrow_type(kind))


def decode_value(stored: Any, kind: ValueType) -> Any:
    """What a function gets of what is stored."""
    read = decoder_for(kind, "a value")
    return stored if read is None else read(stored)


def family_of(kind: pa.DataType) -> Family | None:
    """The family of an Arrow type; None for a type without one."""
    return next((family for family, is_of in _FAMILIES if is_of(kind)), None)


_FAMILIES: Final = [(family, getattr(pa.types, f"is_{family.arrow}")) for family in FAMILIES]


def lossy_sources(kind: pa.DataType) -> tuple[type, ...]:
    """Python types that pyarrow takes for this type, and silently changes."""
    family = family_of(kind)
    return () if family is None else family.lossy


def _holds_refused(values: Iterable[Any], kind: pa.DataType) -> bool:
    not_taken = lossy_sources(kind)
    if not_taken and any(issubclass(one, not_taken) for one in set(map(type, values))):
        return True
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    return _holds_refused(list(chain.from_iterable(filter(None, values))), kind.value_type)
