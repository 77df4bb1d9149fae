"""Calls of a guest's scalar functions: arguments as arrays, and rows that are left out.

A parameter that is not declared as nullable never gets a null: such rows are left out of the batch
and are null in the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as compute

from epochal.loaders.wasm.columns import layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from epochal._core.plugin.declared_exports import DeclaredColumn, DeclaredExport

# The functions of `pyarrow.compute` are made at run time, so type checkers do not see them.
pc: Final[Any] = compute


class ScalarCaller(ABC):
    """Calls scalar functions, batch by batch.

    Args:
        exports: what the manifest declares.
    """

    def __init__(self, exports: Iterable[DeclaredExport]) -> None:
        self._exports: Final = {export.name: export for export in exports}

    @abstractmethod
    def _batch(self, export: DeclaredExport, arrays: list[pa.Array], rows: int) -> pa.Array:
        """Call a function with a batch that has no null where none is wanted."""

    def call(self, name: str, given: Sequence[Any]) -> Any:
        """Call a scalar function.

        Args:
            name: the export's.
            given: an Arrow array for each parameter, or a value; a value beside arrays is repeated
                for each of their rows.

        Returns:
            An array; a value if there was no array among the arguments.

        Raises:
            GuestError: the guest trapped, refused, or returned what it may not.
            TypeError, ValueError, pa.ArrowException: an argument is not of its type.
        """
        export = self._exports[name]
        rows, arrays = as_arrays(export, given)
        result = self._on_complete_rows(export, arrays, 1 if rows is None else rows)
        return result[0].as_py() if rows is None else result

    def _on_complete_rows(
        self, export: DeclaredExport, arrays: list[pa.Array], rows: int
    ) -> pa.Array:
        mask = complete_rows(export, arrays)
        if mask is None:
            return self._batch(export, arrays, rows)
        complete = [array.filter(mask) for array in arrays]
        result = self._batch(export, complete, len(complete[0]))
        places = pc.subtract(pc.cumulative_sum(mask.cast(pa.int64())), 1)
        return result.take(pc.if_else(mask, places, None))


def complete_rows(export: DeclaredExport, arrays: Sequence[pa.Array]) -> pa.Array | None:
    """The rows without a null that is not wanted, as a mask; None for all of them."""
    mask = None
    for column, array in zip(export.parameters, arrays, strict=True):
        if array.null_count and not column.nullable:
            mask = array.is_valid() if mask is None else pc.and_(mask, array.is_valid())
    return mask


def as_arrays(export: DeclaredExport, given: Sequence[Any]) -> tuple[int | None, list[pa.Array]]:
    """The arguments as arrays of the declared types.

    Returns:
        The number of rows, or None if no argument is an array; and the arrays.

    Raises:
        TypeError, ValueError, pa.ArrowException: an argument is not of its type.
    """
    lengths = {len(one) for one in given if isinstance(one, (pa.Array, pa.ChunkedArray))}
    if len(lengths) > 1:
        raise ValueError(f"the arguments of {export.name} have different lengths: {lengths}")
    rows = next(iter(lengths), None)
    pairs = zip(export.parameters, given, strict=True)
    return rows, [_as_array(column, one, 1 if rows is None else rows) for column, one in pairs]


def _as_array(column: DeclaredColumn, given: Any, rows: int) -> pa.Array:
    arrow = layout_of(column.type).arrow
    if isinstance(given, pa.Array):
        return given if given.type == arrow else given.cast(arrow)
    if isinstance(given, pa.ChunkedArray):
        return given.combine_chunks().cast(arrow)
    if isinstance(given, pa.Scalar):
        given = given.as_py()
    if isinstance(given, float) and pa.types.is_integer(arrow):
        raise TypeError(f"{column.name} is {given!r}; expected {column.type}")
    return pa.array([given], arrow) if rows == 1 else pa.repeat(pa.scalar(given, arrow), rows)
