"""Table functions: a table made by code.

::

    class Prime(NamedTuple):
        position: int
        value: int

    @table_function
    def primes(limit: int = 100) -> Iterator[Prime]:
        ...
        yield Prime(position, value)

    SELECT value FROM numbers.primes(1000) WHERE position > 10

The annotation of the result names the columns: a list, or an iterator, of a `NamedTuple`, dataclass
or `TypedDict` whose fields are of SQL types. A function that returns a `pyarrow.Table`,
`RecordBatch` or `RecordBatchReader` is annotated with that, and its columns are those of the data.

SQL passes constants and query parameters, never columns. The function runs *while the query is
planned* (the engine must know the columns to plan), and its rows are kept in memory until the query
ends. Parameters with a default may be left out.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints, is_typeddict

from epochal._core.generation.kind import Export, Kind
from epochal.kinds.codec import data_types_in, has_codec
from epochal.kinds.signature import (
    AnnotationError,
    Faults,
    Signature,
    ValueType,
    annotations_of,
    data_types_of,
    read_signature,
    read_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from epochal.kinds.marker_types import FunctionMarker

_ITERABLES: Final = (
    list,
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
)
_ARROW: Final = ("Table", "RecordBatch", "RecordBatchReader")
_EXPECTED: Final = (
    "expected list[Row] or Iterator[Row], where Row is a NamedTuple, dataclass or TypedDict, "
    "or one of pa.Table, pa.RecordBatch, pa.RecordBatchReader"
)


@dataclass(frozen=True, slots=True)
class TableShape:
    """The SQL types of a table function.

    Attributes:
        signature: its parameters.
        columns: the columns of its rows; None where it returns Arrow data, which has its own.
        has_mapping_rows: whether a row is a mapping (a `TypedDict`); otherwise it has attributes.
    """

    signature: Signature
    columns: Mapping[str, ValueType] | None
    has_mapping_rows: bool = False

    @property
    def has_codec(self) -> bool:
        """Whether a parameter or a column is, or contains, a data type."""
        return self.signature.has_codec or has_codec((self.columns or {}).values())


class TableFunctionKind(Kind[Callable[..., Any]]):
    """The kind of table functions; its one instance is `epochal.kinds.table_function`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: FunctionMarker  # type: ignore[assignment]  # overloads

    def validate(self, export: Export) -> None:
        """Require a function that SQL can call, with known columns.

        Raises:
            TypeError: it is not such a function; the message names each parameter or column.
        """
        super().validate(export)
        self.shape(export)

    def dependencies(self, export: Export) -> Iterator[tuple[Kind[Any], Any]]:
        """Return the plugin's own data types that the function's annotations name."""
        return table_data_types(export.target)

    def shape(self, export: Export) -> TableShape:
        """Return the SQL types of the function's parameters and columns.

        Raises:
            TypeError: as `validate`.
        """
        return table_shape(export.target)


def table_shape(function: Any, *, method: bool = False) -> TableShape:
    """Return the SQL types of a function that returns a table.

    Args:
        function: the function.
        method: whether its first parameter is `self`, which SQL does not pass.

    Raises:
        TypeError: SQL cannot call it; the message names each parameter or column.
    """
    faults = Faults()
    signature = Signature((), None)
    try:
        signature = read_signature(function, returns=False, method=method)
        columns, has_mapping_rows = _read_result(annotations_of(function).get("return"), faults)
    except AnnotationError as error:
        faults.add_error("", error)
        columns, has_mapping_rows = None, False
    faults.raise_any()
    return TableShape(signature, columns, has_mapping_rows)


def table_data_types(function: Any) -> Iterator[tuple[Kind[Any], Any]]:
    """Yield the plugin's own data types that a function names in its parameters and columns."""
    yield from data_types_of(function)
    for row in get_args(annotations_of(function).get("return")):
        for hint in _fields_of(row).values():
            yield from data_types_in(hint)


def _read_result(hint: Any, faults: Faults) -> tuple[dict[str, ValueType] | None, bool]:
    if inspect.isclass(hint) and hint.__module__.partition(".")[0] == "pyarrow":
        if hint.__name__ not in _ARROW:
            faults.add(f"the result: {hint.__name__} is not a table; {_EXPECTED}")
        return None, False
    row = get_args(hint)[0] if get_origin(hint) in _ITERABLES else None
    if not (is_typeddict(row) or dataclasses.is_dataclass(row) or _is_named_tuple(row)):
        faults.add(f"the result: {hint!r} does not name its columns; {_EXPECTED}")
        return None, False
    hints = _fields_of(row)
    columns = {
        name: value_type
        for name in hints
        if (value_type := faults.read(f"column {name!r}", name, hints, read_value)) is not None
    }
    return columns, is_typeddict(row)


def _fields_of(row: Any) -> dict[str, Any]:
    try:
        # Unlike functions, these classes keep annotations in strings as forward references.
        return get_type_hints(row, include_extras=True)
    except Exception as error:
        raise AnnotationError(
            f"an annotation of {row.__name__} cannot be evaluated when the plugin runs: {error}"
        ) from error


def _is_named_tuple(row: Any) -> bool:
    return inspect.isclass(row) and issubclass(row, tuple) and hasattr(row, "_fields")


table_function: Final = TableFunctionKind("table_function", "a table made by code")
