"""Tables of storage plugins in the engine: opened for one query, and scanned batch by batch.

The engine has one interface for a table written in Python: a `pyarrow` data set, which it asks for
fragments, and each fragment for batches. `_EngineDataset` is such a data set. The plugin's table is
in the query's `Execution`, where it is looked up for every batch: ending the query therefore ends
the scan and releases the plugin, whatever the engine still holds.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.dataset as ds
from datafusion.catalog import Table

from epochal.errors import HostError
from epochal.kinds.storage import storage
from epochal.kinds.toolkit.class_checks import close_object
from epochal.sql.conversion import ReturnTypeError
from epochal.sql.engine_refs import EngineRef
from epochal.sql.provenance import provenance_of
from epochal.sql.pushdown import Needs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from epochal import Epoch
    from epochal.kinds.storage import OpenedTable, StorageHandle
    from epochal.sql.execution import Execution

_END: Final = object()
"""The end of a scan: a sentinel that no plugin can return."""

_scan_numbers: Final = itertools.count(1)
"""Numbers the scans of all queries: `next` is one step under the interpreter lock."""


class PluginTable:
    """A table that a plugin serves, in one query; holds no plugin code.

    Attributes:
        name: its name in SQL.
        uri: its address.
        export: the full name of the storage backend.
        key: the key of its backend, and then of the opened table, in the query's execution.
        label: name, plugin and version, for messages.
        origin: the provenance of its code.
        is_open: whether the query names it; set during planning.
        needs: the filters and limit that the query has for it; set after planning, before the scan.
    """

    __slots__ = ("export", "is_open", "key", "label", "name", "needs", "origin", "uri")

    def __init__(self, name: str, uri: str, export: str, epoch: Epoch) -> None:
        self.name: Final = name
        self.uri: Final = uri
        self.export: Final = export
        self.key: Final = f"table {name}"
        backend = epoch.export(storage, export)
        generation = epoch.generation(backend.plugin)
        self.label: Final = f"table {name} ({export}, plugin {backend.plugin} {generation.version})"
        self.origin: Final = provenance_of(backend, generation)
        self.is_open = False
        self.needs = Needs()

    def open(self, execution: Execution) -> Table:
        """Open it in the plugin, and wrap it for the engine."""
        self.is_open = True
        schema = execution.call(self, self.key, self._open, execution)
        # All columns nullable: the engine must not rely on the plugin's claim that one is not.
        nullable = pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
        return Table(_EngineDataset(self, nullable, execution))

    def _open(self, backend: StorageHandle, execution: Execution) -> pa.Schema:
        opened, schema = open_table(backend, self.uri)
        table = _TableInUse(opened)
        execution.hold(self.key, table, table.end)
        return schema


class _TableInUse:
    """A plugin's table while a query reads it; it is closed after the last of its scans.

    Calls of the query run `begin`. Cleanup threads run `end_scan` and `end`: `end_scan` once for
    each scan, `end` once, after the last call has left.
    """

    __slots__ = ("_is_ending", "_scans", "_table")

    def __init__(self, table: OpenedTable) -> None:
        self._table: Final = [table]
        self._scans: Final[dict[int, None]] = {}
        self._is_ending = False

    def begin(self, number: int, columns: Sequence[str], needs: Needs) -> Iterator[Any]:
        """Begin a scan."""
        self._scans[number] = None
        try:
            return self._table[0].scan(columns, needs.filters, needs.limit)
        except BaseException:
            self._scans.pop(number)
            raise

    def end_scan(self, number: int, batches: Iterator[Any]) -> None:
        """End a scan, which may not have been read to its end."""
        try:
            close_object(batches)
        finally:
            # Before `_is_ending` is read: see `end`.
            del self._scans[number]
            self._close_if_unused()

    def end(self) -> None:
        """Close the table once its last scan has ended; no scan begins any more."""
        # Set before `_scans` is read: of `end` and the last `end_scan`, one sees both.
        self._is_ending = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_ending and not self._scans:
            with suppress(IndexError):  # of two threads here, one takes the table
                self._table.pop().close()


def open_table(backend: StorageHandle, uri: str) -> tuple[OpenedTable, pa.Schema]:
    """Open a table in a plugin, and check its schema.

    Raises:
        ReturnTypeError: its schema is not a `pyarrow.Schema`.
        BaseException: raised by the plugin.
    """
    table = backend.table(uri)
    try:
        return table, _checked(table.schema)
    except BaseException:
        with suppress(Exception):  # the first error is raised
            table.close()
        raise


def _checked(schema: Any) -> pa.Schema:
    if not isinstance(schema, pa.Schema):
        raise ReturnTypeError(f"has as its schema {schema!r}; expected a pyarrow.Schema")
    return schema


class _EngineDataset(ds.Dataset):  # type: ignore[misc]  # untyped
    """A plugin's table in the engine's interface."""

    def __init__(self, table: PluginTable, schema: pa.Schema, execution: Execution) -> None:
        # The base's `__init__` is not called: it makes a data set of files.
        self._table = table
        self._schema = schema
        self._execution = execution

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return self._schema

    def get_fragments(self, filter: Any = None) -> list[_EngineDataset]:  # noqa: A002  pyarrow's name
        """The whole table as one fragment."""
        return [self]

    def scanner(
        self,
        schema: pa.Schema | None = None,
        *,
        columns: list[str] | None = None,
        filter: Any = None,  # noqa: A002  pyarrow's name
        batch_size: int | None = None,
    ) -> _Scan:
        """Scan the table once."""
        names = self._schema.names if columns is None else columns
        if filter is not None:  # pyarrow gives it another meaning: see `filter_barrier`
            raise HostError(f"{self._table.label} cannot be filtered by {filter}")
        return _Scan(self._table, self._schema, self._execution, names)


class _Scan:
    """One scan of a table.

    Attributes:
        projected_schema: the columns of its batches.
    """

    def __init__(
        self,
        table: PluginTable,
        schema: pa.Schema,
        execution: Execution,
        columns: Sequence[str],
    ) -> None:
        self._table: Final = table
        self._execution: Final = execution
        # At least one column is requested: rows without columns cannot be counted.
        self._requested: Final = list(columns) or schema.names[:1]
        self.projected_schema: Final = pa.schema([schema.field(name) for name in columns])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """The plugin's batches, checked."""
        execution = self._execution
        number = next(_scan_numbers)
        key = f"scan {number}"
        ref = execution.track(EngineRef())
        execution.call_held(self._table, self._table.key, self._begin, key, number)
        try:
            while (batch := execution.call_held(self._table, key, self._next)) is not _END:
                yield batch
        finally:
            execution.release(key)
            del ref

    def _begin(self, table: _TableInUse, key: str, number: int) -> None:
        batches = table.begin(number, self._requested, self._table.needs)
        self._execution.hold(key, batches, partial(table.end_scan, number, batches))

    def _next(self, batches: Iterator[Any]) -> Any:
        batch = next(batches, _END)
        if batch is _END:
            return _END
        if not isinstance(batch, pa.RecordBatch):
            raise ReturnTypeError(f"gave {batch!r}; expected a pyarrow.RecordBatch")
        for field in self.projected_schema:
            position = batch.schema.get_field_index(field.name)
            if position < 0:
                raise ReturnTypeError(f"gave no column {field.name!r}, which was asked for")
            if (given := batch.schema.field(position).type) != field.type:
                raise ReturnTypeError(
                    f"gave column {field.name!r} as {given}; expected {field.type}"
                )
        selected = batch.select(self.projected_schema.names)
        # `cast` would lose the number of rows of a batch without columns.
        return selected.cast(self.projected_schema) if selected.num_columns else selected
