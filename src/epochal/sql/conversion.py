"""Converts between columns of Arrow data and Python values, and checks a plugin's return values.

A function that returns a value of the wrong type must cause an error that names the function, and
never a silently wrong value. pyarrow converts most values correctly and some wrongly without an
error; those are refused (`lossy` in `epochal.kinds.sql_types`).

The checks are as strict as their cost allows (a column of 8,192 values, CPython 3.11): looking at
the type of every value takes 0.12 ms, a fifth of a simple function's whole batch. So it is done
only where pyarrow would convert wrongly, and not for floats, strings and booleans, where pyarrow
refuses by itself. For integers, `array.array` refuses too and is faster than pyarrow (0.11 against
0.14 ms).
"""

from __future__ import annotations

import reprlib
from array import array
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as compute

from epochal.kinds.arrow import (
    CONVERSION_ERRORS,
    arrow_type,
    family_of,
    lossy_sources,
    metadata_of,
    storage_array,
    storage_type,
    to_array,
)
from epochal.sql.type_check import has_identity
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from epochal.kinds.signature import Parameter, ValueType

# The functions of `pyarrow.compute` are made at run time, so type checkers do not see them.
pc: Final[Any] = compute


class ReturnTypeError(Exception):
    """A plugin returned a value of the wrong type; the message continues the function's name."""


class ResultColumn:
    """A column that is made of a plugin's Python values: its type, and the conversion.

    Args:
        value: the type that the author annotated.
        plugin: the author's plugin, which prefixes the names of its data types; None for a column
            without metadata (the engine drops the metadata of what aggregates make).

    Attributes:
        kind: the Arrow type.
        metadata: the column's metadata, which names its data type.
        optional: whether the column may have nulls.
    """

    __slots__ = ("_strict", "_write", "kind", "metadata", "optional")

    def __init__(self, value: ValueType, plugin: str | None = None) -> None:
        self.kind: Final[pa.DataType] = arrow_type(value, plugin)
        self.metadata: Final = metadata_of(value, plugin)
        self.optional: Final = value.optional
        self._strict: Final = bool(lossy_sources(self.kind))
        self._write: Final[Callable[[list[Any]], pa.Array]] = (
            _write_int64 if self.kind == pa.int64() else self._write_any
        )

    def field(self, name: str) -> pa.Field:
        """The Arrow field of this column, under the given name."""
        return pa.field(name, self.kind, metadata=self.metadata)

    def column(self, values: list[Any], verb: str = "returned") -> pa.Array:
        """Convert Python values to a column.

        Args:
            values: one for each row.
            verb: how the plugin produced them, for the error message.

        Raises:
            ReturnTypeError: a value is of another type, or None in a column that is not optional.
        """
        try:
            column = self._write(values)
        except CONVERSION_ERRORS:
            column = self._write_or_explain(values, verb)
        if not self.optional and column.null_count:
            raise ReturnTypeError(self._first_misfit(values, verb))
        return column

    def scalar(self, value: Any, verb: str) -> pa.Scalar:
        """Convert one Python value.

        Raises:
            ReturnTypeError: the value is of another type.
        """
        return self.column([value], verb)[0]

    def array(self, result: Any, rows: int) -> pa.Array:
        """Check the array that a vectorized function returned.

        Raises:
            ReturnTypeError: the result is not an array of the type, or has another length.
        """
        if isinstance(result, pa.ChunkedArray):
            result = result.combine_chunks()
        if not isinstance(result, pa.Array):
            raise ReturnTypeError(
                f"returned {reprlib.repr(result)} ({_type(result)}); "
                f"expected a pyarrow array of {self.kind}"
            )
        if result.type != self.kind:
            result = storage_array(
                result
            )  # an array of the data type is as good as one of its storage
        if result.type != self.kind:
            raise ReturnTypeError(f"returned an array of {result.type}; expected {self.kind}")
        if len(result) != rows:
            raise ReturnTypeError(f"returned {len(result)} values for {rows} rows")
        return result

    def _write_any(self, values: list[Any]) -> pa.Array:
        return to_array(values, self.kind) if self._strict else pa.array(values, self.kind)

    def _write_or_explain(self, values: list[Any], verb: str) -> pa.Array:
        try:
            return self._write_any(values)
        except CONVERSION_ERRORS as error:
            raise ReturnTypeError(self._first_misfit(values, verb) or str(error)) from None

    def _first_misfit(self, values: Sequence[Any], verb: str) -> str:
        """Describe the first value of the wrong type; empty if each value fits by itself."""
        for row, value in enumerate(values):
            if not self._fits(value):
                place = f" for row {row} of {len(values)}" if len(values) > 1 else ""
                none = ", or None" if self.optional else ""
                shown = "None" if value is None else f"{reprlib.repr(value)} ({_type(value)})"
                return f"{verb} {shown}{place}; expected {sql_name(self.kind)}{none}"
        return ""

    def _fits(self, value: Any) -> bool:
        if value is None:
            return self.optional
        try:
            self._write_any([value])
        except CONVERSION_ERRORS:
            return False
        return True


class ParameterColumn:
    """One parameter: the type declared to the engine, and the column that the function receives.

    The engine reads `TIMESTAMP '…'`, `now()` and the times in CSV files as nanoseconds, and
    converts these to no other timestamp type without a zone; to a type in UTC it converts every
    timestamp, date and text. So for a function that takes times without a zone, UTC is declared to
    the engine, and the zone is removed again before the call, which copies nothing.

    Attributes:
        kind: the type declared to the engine.
        field: the parameter's name and data type, for the check of data types.
        optional: whether the function receives nulls.
    """

    __slots__ = ("_received", "field", "kind", "optional")

    def __init__(self, parameter: Parameter, plugin: str) -> None:
        value = parameter.type
        self._received: Final = arrow_type(value)
        # Storage types alone: for lists of a data type the engine would insert a cast, and fail.
        self.kind: Final[pa.DataType] = _declared(self._received)
        typed, metadata = arrow_type(value, plugin), metadata_of(value, plugin)
        self.field: Final = pa.field(parameter.name, typed, metadata=metadata)
        self.optional: Final = value.optional

    @property
    def converts(self) -> bool:
        """Whether the function receives another type than the one declared to the engine."""
        return self.kind is not self._received

    def received(self, column: pa.Array) -> pa.Array:
        """Convert the engine's column to the one that the function receives."""
        if not self.converts:
            return column
        if isinstance(self._received, pa.BaseExtensionType):
            return self._received.wrap_array(column)
        return column.view(self._received)


def _declared(kind: pa.DataType) -> pa.DataType:
    kind = storage_type(kind)
    if pa.types.is_timestamp(kind) and kind.tz is None and kind.unit != "ns":
        return pa.timestamp(kind.unit, "UTC")
    return kind


class ParameterColumns:
    """The parameters of one plugin function.

    Args:
        parameters: of its signature.
        plugin: the function's plugin.

    Attributes:
        kinds: the types declared to the engine.
        converts: whether any parameter needs a conversion.
        typed_fields: the fields of all parameters if any has a data type; otherwise empty.
    """

    __slots__ = ("_columns", "converts", "kinds", "typed_fields")

    def __init__(self, parameters: Iterable[Parameter], plugin: str) -> None:
        self._columns: Final = tuple(ParameterColumn(item, plugin) for item in parameters)
        self.kinds: Final = [column.kind for column in self._columns]
        self.converts: Final = any(column.converts for column in self._columns)
        fields = tuple(column.field for column in self._columns)
        self.typed_fields: Final = fields if any(map(has_identity, fields)) else ()

    def received(self, columns: Sequence[pa.Array]) -> list[pa.Array]:
        """Convert the engine's columns to those that the function receives."""
        # Not strict: the engine also passes the columns of an aggregate's ORDER BY.
        pairs = zip(self._columns, columns, strict=False)
        return [parameter.received(column) for parameter, column in pairs]

    def on_complete_rows(
        self, columns: Sequence[pa.Array], apply: Callable[[Sequence[pa.Array]], pa.Array]
    ) -> pa.Array:
        """Apply a function to the rows without a forbidden null; the other rows' result is null."""
        mask = self._complete_rows(columns)
        if mask is None:
            return apply(columns)
        return spread(apply(_filter(columns, mask)), mask)

    def drop_incomplete(self, columns: Sequence[pa.Array]) -> Sequence[pa.Array]:
        """The rows without a forbidden null."""
        mask = self._complete_rows(columns)
        return columns if mask is None else _filter(columns, mask)

    def _complete_rows(self, columns: Sequence[pa.Array]) -> pa.Array | None:
        """Mask the rows without a null in a column that is not optional; None for all rows."""
        mask: pa.Array | None = None
        for parameter, column in zip(self._columns, columns, strict=True):
            if not parameter.optional and column.null_count:
                valid = column.is_valid()
                mask = valid if mask is None else pc.and_(mask, valid)
        return mask


def _filter(columns: Iterable[pa.Array], mask: pa.Array) -> list[pa.Array]:
    return [_filter_column(column, mask) for column in columns]


def _filter_column(column: pa.Array, mask: pa.Array) -> pa.Array:
    try:
        return column.filter(mask)
    except pa.ArrowNotImplementedError:  # views of text and bytes, and types that contain them
        pairs = zip(column.to_pylist(), mask.to_pylist(), strict=True)
        return pa.array([value for value, is_wanted in pairs if is_wanted], column.type)


def spread(values: pa.Array, mask: pa.Array) -> pa.Array:
    """Put the values where the mask is true, and nulls elsewhere."""
    family = family_of(values.type)
    if family is not None and family.by_mask:  # 57 µs for 8,192 integers, where `take` costs 259
        return pc.replace_with_mask(pa.nulls(len(mask), values.type), mask, values)
    order = pc.cumulative_sum(mask.cast(pa.int64()))
    try:
        return values.take(pc.if_else(mask, pc.subtract(order, 1), None))
    except pa.ArrowNotImplementedError:  # views of text and bytes, and types that contain them
        rows = iter(values.to_pylist())
        return pa.array(
            [next(rows) if is_set else None for is_set in mask.to_pylist()], values.type
        )


def _write_int64(values: list[Any]) -> pa.Array:
    packed = array("q", values)
    # Copied (2 µs) into Arrow's memory: an engine thread frees the column, and freeing Python's
    # memory would need the interpreter, which may already be shutting down.
    buffer = pa.allocate_buffer(len(packed) * packed.itemsize)
    memoryview(buffer).cast("B")[:] = memoryview(packed).cast("B")
    return pa.Array.from_buffers(pa.int64(), len(packed), [None, buffer])


def _type(value: object) -> str:
    return type(value).__qualname__
