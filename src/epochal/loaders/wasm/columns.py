"""Arrow columns in a guest's memory: how arguments get in, and how results are checked.

A column is described by five little-endian 32-bit words (docs/wasm.md)::

    length      rows
    validity    address of a bitmap, bit 1 for a value; 0 where no row is null
    data        address of the values, as Arrow has them; of a bitmap for bool
    offsets     address of length + 1 offsets of 32 bits, for utf8 and binary; 0 otherwise
    capacity    bytes at `data`

The host writes the arguments' columns and room for the results into memory of its own inside the
guest's, and the guest may write its results there or put addresses of its own into the result's
column. Everything that it puts there is foreign: each address is checked against the memory's size
before anything is read, in Python's integers, which do not overflow; the bytes are copied out; and
data of a type that has rules (texts, offsets, decimals) is validated by Arrow.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal._core.plugin.declared_exports import DECIMAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epochal._core.plugin.declared_exports import DeclaredColumn
    from epochal.loaders.wasm.instance import Instance

WORDS: Final = struct.Struct("<iIIII")
_ALIGNMENT: Final = 16
_LEAST_TEXT: Final = 64
_MAX_MESSAGE: Final = 1_000
_TEXT_FOR_ROW: Final = 16


class BadResultError(Exception):
    """A guest returned data that breaks the interface; the message says how."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the values of one type lie in memory.

    Attributes:
        arrow: the Arrow type.
        bits: of one value; of an offset, where values have no fixed size.
        has_offsets: whether they have none.
        has_rules: whether there are bytes that are no value of the type.
    """

    arrow: pa.DataType
    bits: int
    has_offsets: bool = False
    has_rules: bool = False

    def data_bytes(self, rows: int) -> int:
        """The bytes of a number of values of fixed size."""
        return (rows * self.bits + 7) // 8


@cache
def layout_of(name: str) -> Layout:
    """The layout of a declared type."""
    decimal = DECIMAL.fullmatch(name)
    if decimal is not None:
        return Layout(pa.decimal128(int(decimal[1]), int(decimal[2])), 128, has_rules=True)
    if name in ("utf8", "binary"):
        return Layout(getattr(pa, name)(), 32, has_offsets=True, has_rules=True)
    arrow = {"bool": pa.bool_(), "timestamp": pa.timestamp("us")}.get(name) or getattr(pa, name)()
    return Layout(arrow, arrow.bit_width)


class Frame:
    """The memory of one call: the columns of its arguments and of its results.

    Args:
        arguments: one array for each parameter, all of the parameters' types and `rows` long, but
            for a table function or an aggregate's state.
        results: the declared results.
        rows: for how many rows there is to be room in each result.
        text_bytes: for how many bytes there is to be room in a result of texts.

    Attributes:
        arguments_at: the address of the arguments' columns; known after `write`.
        results_at: that of the results'.
        size: bytes.
    """

    __slots__ = ("_copies", "_results", "_words", "arguments_at", "results_at", "size")

    def __init__(
        self,
        arguments: Sequence[pa.Array],
        results: Sequence[DeclaredColumn],
        rows: int,
        text_bytes: int,
    ) -> None:
        self._results: Final = results
        self._copies: Final[list[tuple[int, int, int, Any]]] = []
        self.arguments_at = self.results_at = 0
        self.size = _aligned(WORDS.size * (len(arguments) + len(results)))
        self._words: Final = [self._argument(array) for array in arguments]
        self._words.extend(self._result(column, rows, text_bytes) for column in results)

    def _argument(self, array: pa.Array) -> tuple[int, ...]:
        rows, buffers = len(array), array.buffers()
        # Of a slice only its own rows are copied. One that the engine made has no offset itself:
        # its texts begin late.
        if array.offset or (len(buffers) == 3 and rows and _offset(buffers[1], 0)):
            array = pa.concat_arrays([array, array.slice(0, 0)])
            buffers = array.buffers()
        validity = self._copy(buffers[0], (rows + 7) // 8) if array.null_count else 0
        if len(buffers) == 3:
            offsets = self._copy(buffers[1], 4 * (rows + 1)) if rows else self._room(4, b"\0")
            size = _last_offset(buffers[1], rows)
            return rows, validity, self._copy(buffers[2], size), offsets, size
        size = (rows * array.type.bit_width + 7) // 8
        return rows, validity, self._copy(buffers[1], size), 0, size

    def _result(self, column: DeclaredColumn, rows: int, text_bytes: int) -> tuple[int, ...]:
        layout = layout_of(column.type)
        validity = self._room((rows + 7) // 8, b"\xff") if column.nullable else 0
        if layout.has_offsets:
            offsets = self._room(4 * (rows + 1), b"\0")
            return rows, validity, self._room(text_bytes, b""), offsets, text_bytes
        size = layout.data_bytes(rows)
        return rows, validity, self._room(size, b"\0" if layout.bits == 1 else b""), 0, size

    def _copy(self, buffer: pa.Buffer | None, size: int) -> int:
        at = self._room(size, b"")
        if buffer is not None and size:
            self._copies.append((at, buffer.address, size, buffer))
        return at

    def _room(self, size: int, filled: bytes) -> int:
        at = self.size
        self.size = _aligned(at + max(size, 1))
        if filled and size:
            content = filled * size
            self._copies.append((at, 0, size, content))
        return at

    def write(self, instance: Instance) -> None:
        """Write it into a guest's memory.

        Raises:
            MemoryError: the guest's memory does not grow so far.
        """
        start = self.arguments_at = instance.reserve(self.size)
        self.results_at = start + WORDS.size * (len(self._words) - len(self._results))
        words: list[int] = []
        for rows, validity, data, offsets, size in self._words:
            placed = (validity and validity + start, data + start, offsets and offsets + start)
            words += (rows, *placed, size)
        base = instance.memory()[0] + start
        ctypes.memmove(base, struct.pack(f"<{len(words)}I", *words), 4 * len(words))
        for at, address, size, content in self._copies:
            ctypes.memmove(base + at, address or content, size)

    def results(self, instance: Instance, rows: int | None) -> list[pa.Array]:
        """Read and check the results.

        Args:
            instance: the guest.
            rows: the length that each must have; None where the guest decides, up to that of the
                room: then all must have the same.

        Raises:
            BadResultError: one is not as it must be.
        """
        arrays, memory = [], instance.memory()
        for index, column in enumerate(self._results):
            words = self._words_at(memory[0], index)
            room = self._words[len(self._words) - len(self._results) + index][0]
            if rows is None and not 0 <= words[0] <= room:
                raise BadResultError(f"{column.name} has {words[0]:,} rows, with room for {room:,}")
            rows = words[0] if rows is None else rows
            if words[0] != rows:
                raise BadResultError(f"{column.name} has {words[0]:,} rows, expected {rows:,}")
            arrays.append(_read(memory, column, words))
        return arrays

    def _words_at(self, base: int, index: int) -> tuple[int, ...]:
        """The words of a result's column, as the guest left them in its memory."""
        at = base + self.results_at + index * WORDS.size
        return WORDS.unpack(ctypes.string_at(at, WORDS.size))

    def message(self, instance: Instance) -> str:
        """The text that a guest put in place of its first result, for its error; or nothing."""
        base, end = instance.memory()
        _, _, data, _, size = self._words_at(base, 0)
        _, _, given, _, room = self._words[len(self._words) - len(self._results)]
        if (data, size) == (given + self.arguments_at, room) or not data:
            return ""
        size = min(size, _MAX_MESSAGE)
        if data + size > end:
            return ""
        return instance.read(data, size).decode("utf-8", "replace")

    def argument_bytes(self, instance: Instance, index: int) -> bytes:
        """The data of an argument, as the guest left it; where it lies, only the host decides."""
        _, _, data, _, size = self._words[index]
        return instance.read(self.arguments_at + data, size)


def _read(memory: tuple[int, int], column: DeclaredColumn, words: tuple[int, ...]) -> pa.Array:
    """Copy a result's column out of a guest's memory, which is at an address, and has a size."""
    rows, validity_at, data_at, offsets_at, capacity = words
    layout = layout_of(column.type)
    if rows == 0:
        return pa.array([], layout.arrow)
    places: list[tuple[int, int, str]] = []

    def take(at: int, size: int, part: str) -> pa.Buffer:
        _check_place(memory[1], at, size, f"{part} of {column.name}")
        places.append((at, at + size, part))
        buffer = pa.allocate_buffer(size)
        ctypes.memmove(buffer.address, memory[0] + at, size)
        return buffer

    validity = take(validity_at, (rows + 7) // 8, "validity") if validity_at else None
    if layout.has_offsets:
        offsets = take(offsets_at, 4 * (rows + 1), "offsets")
        size = _last_offset(offsets, rows)
        if size < 0:
            raise BadResultError(f"the offsets of {column.name} are negative")
        if size > capacity:
            raise BadResultError(
                f"the offsets of {column.name} end at {size:,}, beyond its {capacity:,} bytes"
            )
        data = take(data_at, size, "data") if size else pa.py_buffer(b"")
        buffers = [validity, offsets, data]
    else:
        buffers = [validity, take(data_at, layout.data_bytes(rows), "data")]
    _check_overlap(places, column.name)
    array = pa.Array.from_buffers(layout.arrow, rows, buffers)
    if layout.has_rules:
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise BadResultError(f"{column.name} is not valid {column.type}: {error}") from None
    if validity is not None and not column.nullable and array.null_count:
        raise BadResultError(
            f"{column.name} has nulls, and is declared as {column.type}: declare {column.type}?"
        )
    return array


def _check_place(end: int, at: int, size: int, part: str) -> None:
    if at == 0:
        raise BadResultError(f"the {part} is at address 0")
    if at + size > end:
        raise BadResultError(
            f"the {part}, {size:,} bytes at {at:,}, is outside of the memory of {end:,} bytes"
        )


def _check_overlap(places: list[tuple[int, int, str]], name: str) -> None:
    for (_, end, left), (start, _, right) in pairwise(sorted(places)):
        if start < end:
            raise BadResultError(f"{left} and {right} of {name} overlap")


def _last_offset(offsets: pa.Buffer | None, rows: int) -> int:
    if offsets is None or offsets.size < 4 * (rows + 1):  # no row
        return 0
    return _offset(offsets, rows)


def _offset(offsets: pa.Buffer, at: int) -> int:
    return int(ctypes.c_int32.from_address(offsets.address + 4 * at).value)


def _aligned(size: int) -> int:
    return (size + _ALIGNMENT - 1) & -_ALIGNMENT


def text_room(arguments: Sequence[pa.Array], rows: int) -> int:
    """The room for a result's texts that is offered at first."""
    given: int = sum(array.nbytes for array in arguments if len(array.buffers()) == 3)
    return _LEAST_TEXT + 2 * given + _TEXT_FOR_ROW * rows
