"""Tables of storage plugins in the engine: opened for one query, scanned batch by batch.

The engine knows one way for a table written in Python: a `pyarrow` data set, which it asks for
fragments, and each of these for batches. `_Scanned` is such a data set; behind it is the plugin's
table, in the query's `Execution`, where every batch looks it up: so ending the query ends the scan,
and lets the plugin go, whatever the engine still holds.
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
from epochal.sql.provenance import provenance_of
from epochal.sql.pushdown import Needs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal.kinds.storage import OpenedTable, StorageHandle
    from epochal.sql.execution import Execution

_END: Final = object()
"""What stands for the end of a scan: nothing that a plugin gives is taken for it."""

_scans: Final = itertools.count(1)
"""Numbers scans over all queries: its `next` is one step under the interpreter lock."""


class StoredTable:
    """A table that a plugin serves, as one query finds it; holds no plugin code.

    Attributes:
        name: what SQL calls it.
        uri: its address.
        export: the full name of the storage backend.
        key: what its backend, and then the table, is looked up by in the query.
        label: for messages.
        origin: which code serves it.
        is_open: whether the query names it; set while it is planned.
        needs: what the query needs of it; set once it is planned, before it begins.
    """

    __slots__ = ("export", "is_open", "key", "label", "name", "needs", "origin", "uri")

    def __init__(self, name: str, uri: str, export: str, epoch: Epoch) -> None:
        self.name: Final = name
        self.uri: Final = uri
        self.export: Final = export
        self.key: Final = f"table {name}"
        served = epoch.export(storage, export)
        generation = epoch.generation(served.plugin)
        self.label: Final = f"table {name} ({export}, plugin {served.plugin} {generation.version})"
        self.origin: Final = provenance_of(served, generation)
        self.is_open = False
        self.needs = Needs()

    def open(self, execution: Execution) -> Table:
        """Have the plugin open it, for the engine."""
        self.is_open = True
        schema = execution.call(self, self.key, self._open, execution)
        # Whether a column may be null is the plugin's word: the engine must not reason from it.
        nullable = pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
        return Table(_Scanned(self, nullable, execution))

    def _open(self, backend: StorageHandle, execution: Execution) -> pa.Schema:
        opened, schema = open_table(backend, self.uri)
        table = _Reading(opened)
        execution.hold(self.key, table, table.end)
        return schema


class _Reading:
    """A plugin's table while a query reads it: it is closed after the last of its scans.

    `begin` is called inside calls of the query, `end_scan` and `end` on threads of `cleanup`, each
    for one scan, the last once no call is inside. A scan leaves ``_scans`` *before* it looks at
    ``_is_over``, which is set *before* ``_scans`` is looked at; of two that find the end, one takes
    it out of ``_open``.
    """

    __slots__ = ("_is_over", "_open", "_scans")

    def __init__(self, table: OpenedTable) -> None:
        self._open: Final = [table]
        self._scans: Final[dict[int, None]] = {}
        self._is_over = False

    def begin(self, number: int, columns: Sequence[str], needs: Needs) -> Iterator[Any]:
        """Begin a scan."""
        self._scans[number] = None
        try:
            return self._open[0].scan(columns, needs.filters, needs.limit)
        except BaseException:
            self._scans.pop(number)
            raise

    def end_scan(self, number: int, batches: Iterator[Any]) -> None:
        """End a scan that may not have come to its end."""
        try:
            close_object(batches)
        finally:
            del self._scans[number]
            self._close_if_over()

    def end(self) -> None:
        """Nobody begins a scan any more."""
        self._is_over = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._is_over and not self._scans:
            with suppress(IndexError):
                self._open.pop().close()


def open_table(backend: StorageHandle, uri: str) -> tuple[OpenedTable, pa.Schema]:
    """Have a plugin open a table, and look at its columns; the one way in which that is done.

    Raises:
        MisfitError: they are none.
        BaseException: whatever the plugin raises.
    """
    table = backend.table(uri)
    try:
        return table, _checked(table.schema)
    except BaseException:
        with suppress(Exception):  # the first is told
            table.close()
        raise


def _checked(schema: Any) -> pa.Schema:
    if not isinstance(schema, pa.Schema):
        raise ReturnTypeError(f"has as its schema {schema!r}; expected a pyarrow.Schema")
    return schema


class _Scanned(ds.Dataset):  # type: ignore[misc]  # untyped
    """A plugin's table, as the engine asks for it."""

    def __init__(self, stored: StoredTable, schema: pa.Schema, execution: Execution) -> None:
        # Not the base's, which would make a data set of files.
        self._stored = stored
        self._schema = schema
        self._execution = execution

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return self._schema

    def get_fragments(self, filter: Any = None) -> list[_Scanned]:  # noqa: A002  pyarrow's name
        """All of it is one."""
        return [self]

    def scanner(
        self,
        schema: pa.Schema | None = None,
        *,
        columns: list[str] | None = None,
        filter: Any = None,  # noqa: A002  pyarrow's name
        batch_size: int | None = None,
    ) -> _Scan:
        """One reading of it."""
        names = self._schema.names if columns is None else columns
        if filter is not None:  # it means another thing to the engine than here: see `barrier`
            raise HostError(f"{self._stored.label} cannot be filtered by {filter}")
        return _Scan(self._stored, self._schema, self._execution, names)


class _Scan:
    """One reading of a table.

    Attributes:
        projected_schema: the columns that come out.
    """

    def __init__(
        self,
        stored: StoredTable,
        schema: pa.Schema,
        execution: Execution,
        columns: Sequence[str],
    ) -> None:
        self._stored: Final = stored
        self._execution: Final = execution
        # At least one is asked for: rows without columns cannot be counted.
        self._asked: Final = list(columns) or schema.names[:1]
        self.projected_schema: Final = pa.schema([schema.field(name) for name in columns])

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """What the plugin gives."""
        execution = self._execution
        number = next(_scans)
        key = f"scan {number}"
        standing = execution.track(_Standing())
        execution.visit(self._stored, self._stored.key, self._begin, key, number)
        try:
            while (batch := execution.visit(self._stored, key, self._next)) is not _END:
                yield batch
        finally:
            execution.release(key)
            del standing

    def _begin(self, table: _Reading, key: str, number: int) -> None:
        batches = table.begin(number, self._asked, self._stored.needs)
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
        asked = batch.select(self.projected_schema.names)
        # Of a batch without columns, `cast` forgets how many rows it has.
        return asked.cast(self.projected_schema) if asked.num_columns else asked


class _Standing:
    """Stands for a scan under way, for `Engagement`."""

    __slots__ = ("__weakref__",)
