"""Between columns of Arrow data and Python values, with a plugin's promises checked.

A function that returns something other than it promised must be told of by its name, and must never
become a wrong value. pyarrow converts what it can, and some of that is quietly wrong, so those
cases are refused (`epochal.kinds.arrow`).

How strict, and what it costs (a column of 8,192, CPython 3.11): looking at the type of every value
takes 0.12 ms, which is a fifth of a simple function's whole batch. So it is done only where pyarrow
would be quietly wrong, not for floats, strings and booleans, where it refuses by itself; for
integers, `array.array` refuses and is faster than pyarrow besides (0.11 against 0.14 ms).
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
    lossy_sources,
    metadata_of,
    storage_array,
    storage_type,
    to_array,
)
from epochal.sql.type_check import says_type
from epochal.sql.types import sql_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from epochal.kinds.signature import Parameter, ValueType

# Its functions are made at run time, which type checkers cannot see.
pc: Final[Any] = compute


class ReturnTypeError(Exception):
    """A plugin returned what it did not promise; the message goes on from the function's name."""


class ResultColumn:
    """One SQL value's place: its type, and how Python values get into it.

    Args:
        value: the type, as the author's annotation says it.
        plugin: the author's, whose data types have its name; None for a place that cannot say
            which data type it is of (the engine keeps no metadata of what aggregates make).

    Attributes:
        kind: the Arrow type.
        metadata: what the column says besides: which data type it is of.
        optional: whether None may be in it.
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
        """The column by a name, as Arrow says it."""
        return pa.field(name, self.kind, metadata=self.metadata)

    def column(self, values: list[Any], verb: str = "returned") -> pa.Array:
        """A column of Python values.

        Args:
            values: one for each row.
            verb: how they came about, for the message.

        Raises:
            MisfitError: one is not of the type, or None where it may not be.
        """
        try:
            column = self._write(values)
        except CONVERSION_ERRORS:
            column = self._write_carefully(values, verb)
        if not self.optional and column.null_count:
            raise ReturnTypeError(self._blame(values, verb))
        return column

    def scalar(self, value: Any, verb: str) -> pa.Scalar:
        """One Python value.

        Raises:
            MisfitError: it is not of the type.
        """
        return self.column([value], verb)[0]

    def array(self, result: Any, rows: int) -> pa.Array:
        """Check the array that a vectorized function returned.

        Raises:
            MisfitError: it is no array of the type, or not as long as it must be.
        """
        if isinstance(result, pa.ChunkedArray):
            result = result.combine_chunks()
        if not isinstance(result, pa.Array):
            raise ReturnTypeError(
                f"returned {reprlib.repr(result)} ({_type(result)}); "
                f"expected a pyarrow array of {self.kind}"
            )
        if result.type != self.kind:
            result = storage_array(result)  # the data type itself is as good as its storage
        if result.type != self.kind:
            raise ReturnTypeError(f"returned an array of {result.type}; expected {self.kind}")
        if len(result) != rows:
            raise ReturnTypeError(f"returned {len(result)} values for {rows} rows")
        return result

    def _write_any(self, values: list[Any]) -> pa.Array:
        return to_array(values, self.kind) if self._strict else pa.array(values, self.kind)

    def _write_carefully(self, values: list[Any], verb: str) -> pa.Array:
        try:
            return self._write_any(values)
        except CONVERSION_ERRORS as error:
            raise ReturnTypeError(self._blame(values, verb) or str(error)) from None

    def _blame(self, values: Sequence[Any], verb: str) -> str:
        """The first value that does not fit, in words; empty where each fits by itself."""
        for row, value in enumerate(values):
            if not self._fits(value):
                where = f" for row {row} of {len(values)}" if len(values) > 1 else ""
                none = ", or None" if self.optional else ""
                shown = "None" if value is None else f"{reprlib.repr(value)} ({_type(value)})"
                return f"{verb} {shown}{where}; expected {sql_name(self.kind)}{none}"
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
    """One parameter's place: the type that the engine is told, the column that the function gets.

    The engine reads `TIMESTAMP '…'`, `now()` and the times in CSV files as nanoseconds and converts
    these to no other type without a zone; to one in UTC it converts every timestamp, date and text.
    So where a function takes times without a zone the engine is told UTC, and the zone is taken
    off again, which copies nothing.

    Attributes:
        kind: what the engine is told.
        field: its name, and which data type it is of.
        optional: whether the function sees nulls.
    """

    __slots__ = ("_given", "field", "kind", "optional")

    def __init__(self, parameter: Parameter, plugin: str) -> None:
        value = parameter.type
        self._given: Final = arrow_type(value)
        self.kind: Final[pa.DataType] = _accepted(self._given)
        # The engine is told of storage alone: it would cast lists to say it, and does not.
        said = arrow_type(value, plugin), metadata_of(value, plugin)
        self.field: Final = pa.field(parameter.name, said[0], metadata=said[1])
        self.optional: Final = value.optional

    @property
    def converts(self) -> bool:
        """Whether the function gets another type than the engine is told."""
        return self.kind is not self._given

    def column(self, column: pa.Array) -> pa.Array:
        """The column as the function is promised it."""
        if not self.converts:
            return column
        if isinstance(self._given, pa.BaseExtensionType):
            return self._given.wrap_array(column)
        return column.view(self._given)


def _accepted(kind: pa.DataType) -> pa.DataType:
    kind = storage_type(kind)
    if pa.types.is_timestamp(kind) and kind.tz is None and kind.unit != "ns":
        return pa.timestamp(kind.unit, "UTC")
    return kind


def inputs_of(parameters: Iterable[Parameter], plugin: str) -> tuple[ParameterColumn, ...]:
    """The places of the parameters of a plugin's function."""
    return tuple(ParameterColumn(one, plugin) for one in parameters)


def typed_fields(inputs: Sequence[ParameterColumn]) -> tuple[pa.Field, ...]:
    """The columns of the parameters, where any is of a data type; otherwise none."""
    fields = tuple(one.field for one in inputs)
    return fields if any(map(says_type, fields)) else ()


def received(inputs: Sequence[ParameterColumn], columns: Sequence[pa.Array]) -> list[pa.Array]:
    """What a function gets of the columns that the engine passed: not those of an ORDER BY."""
    return [place.column(column) for place, column in zip(inputs, columns, strict=False)]


def kept(columns: Iterable[pa.Array], mask: pa.Array) -> list[pa.Array]:
    """The rows of columns where the mask is true."""
    return [_kept(column, mask) for column in columns]


def _kept(column: pa.Array, mask: pa.Array) -> pa.Array:
    try:
        return column.filter(mask)
    except pa.ArrowNotImplementedError:  # views of text and bytes, and what holds them
        pairs = zip(column.to_pylist(), mask.to_pylist(), strict=True)
        return pa.array([value for value, is_kept in pairs if is_kept], column.type)


def spread(values: pa.Array, mask: pa.Array) -> pa.Array:
    """Put the values where the mask is true, and nulls elsewhere."""
    if _is_replaced(values.type):  # 57 µs for 8,192 integers, where taking them costs 259
        return pc.replace_with_mask(pa.nulls(len(mask), values.type), mask, values)
    order = pc.cumulative_sum(mask.cast(pa.int64()))
    try:
        return values.take(pc.if_else(mask, pc.subtract(order, 1), None))
    except pa.ArrowNotImplementedError:  # views of text and bytes, and what holds them
        rows = iter(values.to_pylist())
        return pa.array([next(rows) if one else None for one in mask.to_pylist()], values.type)


def _is_replaced(kind: pa.DataType) -> bool:
    """Whether `replace_with_mask` knows the type; of others it is not said which it does."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return is_number or kind in _REPLACED or pa.types.is_timestamp(kind)


_REPLACED: Final = (pa.string(), pa.binary(), pa.bool_(), pa.date32())


def complete_rows(
    inputs: Sequence[ParameterColumn], columns: Sequence[pa.Array]
) -> pa.Array | None:
    """A mask of the rows without a null in a column that is not optional; None for all rows."""
    mask: pa.Array | None = None
    for place, column in zip(inputs, columns, strict=True):
        if not place.optional and column.null_count:
            valid = column.is_valid()
            mask = valid if mask is None else pc.and_(mask, valid)
    return mask


def _write_int64(values: list[Any]) -> pa.Array:
    packed = array("q", values)
    # Copied (2 µs) into memory of Arrow's: an engine thread frees it, and must not need the
    # interpreter for that, which may be at its end.
    buffer = pa.allocate_buffer(len(packed) * packed.itemsize)
    memoryview(buffer).cast("B")[:] = memoryview(packed).cast("B")
    return pa.Array.from_buffers(pa.int64(), len(packed), [None, buffer])


def _type(value: object) -> str:
    return type(value).__qualname__
