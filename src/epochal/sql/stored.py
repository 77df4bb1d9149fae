"""Tables of storage plugins in the engine: opened for one query, scanned batch by batch.

The engine knows one way for a table written in Python: a `pyarrow` data set, which it asks for
fragments, and each of these for batches. `_Scanned` is such a data set; behind it is the plugin's
table, in the query's `Execution`, where every batch looks it up: so ending the query ends the scan,
and lets the plugin go, whatever the engine still holds.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.dataset as ds
from datafusion.catalog import Table

from epochal.errors import HostError
from epochal.kinds.storage import storage
from epochal.sql.provenance import provenance_of
from epochal.sql.pushdown import Needs
from epochal.sql.values import MisfitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from epochal._core.epoch import Epoch
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
        needs: what the query needs of it; set once it is planned, before it begins.
    """

    __slots__ = ("export", "key", "label", "name", "needs", "origin", "uri")

    def __init__(self, name: str, uri: str, export: str, epoch: Epoch) -> None:
        self.name: Final = name
        self.uri: Final = uri
        self.export: Final = export
        self.key: Final = f"table {name}"
        served = epoch.export(storage, export)
        generation = epoch.generation(served.plugin)
        self.label: Final = f"table {name} ({export}, plugin {served.plugin} {generation.version})"
        self.origin: Final = provenance_of(served, generation)
        self.needs = Needs()

    def open(self, execution: Execution) -> Table:
        """Have the plugin open it, for the engine."""
        schema = execution.call(self, self.key, self._open, execution)
        # Whether a column may be null is the plugin's word: the engine must not reason from it.
        nullable = pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
        return Table(_Scanned(self, nullable, execution))

    def _open(self, backend: Any, execution: Execution) -> pa.Schema:
        table = backend.table(self.uri)
        schema = table.schema
        if not isinstance(schema, pa.Schema):
            raise MisfitError(f"has as its schema {schema!r}; expected a pyarrow.Schema")
        execution.hold(self.key, table)
        return schema


def scheme_of(uri: str) -> str:
    """The scheme of an address, in lower case."""
    return uri.partition("://")[0].lower()


def schemes_of(epoch: Epoch) -> Mapping[str, str]:
    """The schemes that an epoch's plugins serve, each with the full name of its backend."""
    return epoch.derived(_SCHEMES, _read_schemes)


_SCHEMES: Final = "epochal.sql.schemes"


def _read_schemes(epoch: Epoch) -> dict[str, str]:
    return {epoch.export(storage, name).options["scheme"]: name for name in epoch[storage]}


def stored_tables(
    uris: Mapping[str, str], named: frozenset[str], epoch: Epoch
) -> tuple[StoredTable, ...]:
    """The plugins' tables that a query may name.

    Args:
        uris: the registered ones, by name.
        named: every name in the SQL.
        epoch: where the query finds its plugins.

    Raises:
        HostError: no active plugin serves one of them.
    """
    return tuple(
        StoredTable(name, uri, backend_of(uri, epoch), epoch)
        for name, uri in uris.items()
        if name in named
    )


def backend_of(uri: str, epoch: Epoch) -> str:
    """The full name of the backend that serves an address.

    Raises:
        HostError: there is none.
    """
    scheme, schemes = scheme_of(uri), schemes_of(epoch)
    if scheme not in schemes:
        known = ", ".join(f"{one}://" for one in sorted(schemes)) or "none"
        raise HostError(f"no active plugin serves {scheme}://; served: {known}")
    return schemes[scheme]


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
        key = f"scan {next(_scans)}"
        standing = execution.lend(_Standing())
        execution.call(self._stored, self._stored.key, self._begin, key)
        try:
            while (batch := execution.call(self._stored, key, self._next)) is not _END:
                yield batch
        finally:
            execution.release(key)
            del standing

    def _begin(self, table: Any, key: str) -> None:
        needs = self._stored.needs
        self._execution.hold(key, table.scan(self._asked, needs.filters, needs.limit))

    def _next(self, batches: Iterator[Any]) -> Any:
        batch = next(batches, _END)
        if batch is _END:
            return _END
        if not isinstance(batch, pa.RecordBatch):
            raise MisfitError(f"gave {batch!r}; expected a pyarrow.RecordBatch")
        for field in self.projected_schema:
            position = batch.schema.get_field_index(field.name)
            if position < 0:
                raise MisfitError(f"gave no column {field.name!r}, which was asked for")
            if (given := batch.schema.field(position).type) != field.type:
                raise MisfitError(f"gave column {field.name!r} as {given}; expected {field.type}")
        asked = batch.select(self.projected_schema.names)
        # Of a batch without columns, `cast` forgets how many rows it has.
        return asked.cast(self.projected_schema) if asked.num_columns else asked


class _Standing:
    """Stands for a scan under way, for `Engagement`."""

    __slots__ = ("__weakref__",)
