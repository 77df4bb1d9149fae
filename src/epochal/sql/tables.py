"""The tables of a database, in an immutable snapshot that each change replaces.

The problem: the engine's catalog is changed name by name. Registering an existing name is an error,
and removing the table first leaves a gap in which queries fail.

The idea is the same as for code: a `Catalog` is built with all tables and never changes.
Registering a table builds the next catalog (36 µs for a hundred tables) and stores it. A query
plans with the snapshot that it read, so it sees one version of each table, even if it names it
twice. A table's data lives for as long as a plan uses it.

A table's *columns* are read when it is registered. Its *files* are listed when a query is planned,
and read while it runs: a file that is added to a folder is in the next query. A file must not be
rewritten under a running query.
"""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from datafusion.catalog import Catalog, Schema

from epochal.errors import HostError
from epochal.sql.contexts import new_context
from epochal.sql.error_messages import clean
from epochal.sql.table_functions import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from datafusion.catalog import Table

_SNIFFED: Final = 1024
_COMPRESSION: Final = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_FORMATS: Final = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".ndjson": "json",
    ".jsonl": "json",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Snapshot:
    """All tables at one time.

    Attributes:
        catalog: the catalog for planning contexts; never changes.
        tables: name -> the engine's table.
        uris: name -> address, of the tables that plugins serve.
        rows: name -> number of rows, of the tables in memory.
    """

    catalog: Catalog
    tables: Mapping[str, Table]
    uris: Mapping[str, str]
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is written.

    Attributes:
        delimiter: the character between two fields; not for TSV.
        header: whether the first line has the names of the columns.
    """

    delimiter: str = ","
    header: bool = True


class Tables:
    """Holds the current snapshot of the tables.

    Attributes:
        current: the snapshot; one attribute read.
    """

    __slots__ = ("_loader", "_lock", "_names", "current")

    # ``current`` is written under ``_lock`` and read without it: a reader gets the old snapshot or
    # the new one. ``_loader`` only makes tables of files, each under a unique name.

    def __init__(self) -> None:
        self._loader: Final = new_context()
        self._names: Final = itertools.count()
        self._lock: Final = threading.Lock()
        self.current = _snapshot({}, {}, {})

    def put(self, name: str, source: Any, schema: pa.Schema | None, csv: CsvForm) -> None:
        """Add a table, or replace the one of that name."""
        table, count = self._open(source, schema, csv)
        with self._lock:
            tables, uris = self._without(name)
            rows = dict(self.current.rows)
            rows.pop(name, None)
            if count is not None:
                rows[name] = count
            self.current = _snapshot({**tables, name: table}, uris, rows)

    def put_uri(self, name: str, uri: str) -> None:
        """Add a plugin's table, or replace the one of that name."""
        with self._lock:
            tables, uris = self._without(name)
            self.current = _snapshot(tables, {**uris, name: uri}, self.current.rows)

    def drop(self, name: str) -> None:
        """Remove a table.

        Raises:
            HostError: no table of that name is registered.
        """
        with self._lock:
            current = self.current
            if name not in current.tables and name not in current.uris:
                known = ", ".join((*current.tables, *current.uris)) or "none"
                raise HostError(f"no table {name!r} is registered; registered: {known}")
            self.current = _snapshot(*self._without(name), self.current.rows)

    def clear(self) -> None:
        """Remove all tables."""
        with self._lock:
            self.current = _snapshot({}, {}, {})

    def _without(self, name: str) -> tuple[dict[str, Table], dict[str, str]]:
        tables, uris = dict(self.current.tables), dict(self.current.uris)
        tables.pop(name, None)
        uris.pop(name, None)
        return tables, uris

    def _open(
        self, source: Any, schema: pa.Schema | None, csv: CsvForm
    ) -> tuple[Table, int | None]:
        """A table, and the number of its rows if it is in memory."""
        if isinstance(source, (str, Path)) or hasattr(source, "__fspath__"):
            return self._open_path(source, schema, csv)
        if schema is not None:
            raise HostError("schema= is for files; data in memory has its own")
        batches = _batches(source)
        table = self._load(lambda name: self._loader.register_record_batches(name, [batches]))
        return table, sum(batch.num_rows for batch in batches)

    def _open_path(
        self, source: str | PathLike[str], schema: pa.Schema | None, csv: CsvForm
    ) -> tuple[Table, int | None]:
        path = Path(source).expanduser()
        if not path.exists():
            raise HostError(f"{path} does not exist")
        suffix = _suffix(path) if path.is_file() else _common_suffix(path)
        if _FORMATS[_split(suffix)[0]] == "json" and path.is_file() and _is_array(path):
            return self._open_array(path, schema)
        # As a URL: the engine reads a bare path with characters like `*` as a pattern.
        url = path.absolute().as_uri() + ("" if path.is_file() else "/")
        return self._load(lambda name: self._register(name, url, suffix, schema, csv)), None

    def _open_array(self, path: Path, schema: pa.Schema | None) -> tuple[Table, int | None]:
        """A file that holds one JSON array of objects; the engine reads an object a line."""
        try:
            rows = json.loads(path.read_bytes())
            if not all(isinstance(row, dict) for row in rows):
                raise HostError("the JSON array holds a value that is not an object")
            names = dict.fromkeys(name for row in rows for name in row)
            columns = {name: [row.get(name) for row in rows] for name in names}
            data = pa.table({n: _column(v) for n, v in columns.items()})
            data = data if schema is None else data.cast(schema)
        except (ValueError, pa.ArrowException) as error:
            raise HostError(f"cannot be registered: {path.name}: {error}") from error
        return self._open(data, None, CsvForm())

    def _register(
        self, name: str, url: str, suffix: str, schema: pa.Schema | None, csv: CsvForm
    ) -> None:
        loader = self._loader
        options: dict[str, Any] = {"file_extension": suffix, "schema": schema}
        plain, compression = _split(suffix)
        match _FORMATS[plain]:
            case "parquet":
                self._register_parquet(name, url, options)
            case "json":
                loader.register_json(name, url, file_compression_type=compression, **options)
            case "arrow":
                loader.register_arrow(name, url, **options)
            case separated:
                loader.register_csv(
                    name,
                    url,
                    has_header=csv.header,
                    delimiter="\t" if separated == "tsv" else csv.delimiter,
                    file_compression_type=compression,
                    **options,
                )

    def _register_parquet(self, name: str, url: str, options: dict[str, Any]) -> None:
        """Register with the metadata, which names the columns' data types, or else without.

        If the metadata of a folder's files differs, the engine refuses all of it.
        """
        for skip_metadata in (False, True):
            try:
                self._loader.register_parquet(name, url, skip_metadata=skip_metadata, **options)
            except Exception as error:
                if skip_metadata or "conflicting metadata" not in str(error):
                    raise
            else:
                return

    def _load(self, register: Callable[[str], None]) -> Table:
        name = f"t{next(self._names)}"
        try:
            register(name)
            return self._loader.catalog().schema().table(name)
        except Exception as error:
            raise HostError(f"cannot be registered: {clean(str(error))}") from error
        finally:
            self._loader.deregister_table(name)


def _snapshot(tables: dict[str, Table], uris: dict[str, str], rows: Mapping[str, int]) -> Snapshot:
    return Snapshot(
        _catalog(tables),
        MappingProxyType(tables),
        MappingProxyType(uris),
        MappingProxyType({name: rows[name] for name in tables if name in rows}),
    )


def _catalog(tables: Mapping[str, Table]) -> Catalog:
    catalog, schema = Catalog.memory_catalog(), Schema.memory_schema()
    for name, table in tables.items():
        schema.register_table(name, table)
    catalog.register_schema("public", schema)
    return catalog


def _batches(source: Any) -> list[pa.RecordBatch]:
    """Split the data into batches of the engine's size; nothing is copied."""
    if not (isinstance(source, pa.RecordBatch) or hasattr(source, "__arrow_c_stream__")):
        raise HostError(
            f"a {type(source).__qualname__} cannot be registered; expected a pyarrow Table or "
            "RecordBatch, an object with __arrow_c_stream__, or the path of a file or folder"
        )
    is_batch = isinstance(source, pa.RecordBatch)
    table = pa.Table.from_batches([source]) if is_batch else pa.table(source)
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    return batches or [pa.RecordBatch.from_pylist([], table.schema)]


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_SNIFFED).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _column(values: list[Any]) -> pa.Array:
    """A column of JSON values; numbers of which one has a fraction are all floating."""
    if any(type(value) is float for value in values):
        values = [float(value) if type(value) is int else value for value in values]
    return pa.array(values)


def is_data(path: Path) -> bool:
    """Whether a file's name has the suffix of a format that a table may have."""
    try:
        return bool(_suffix(path))
    except HostError:
        return False


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _FORMATS:
        return path.suffixes[-1]
    if len(suffixes) > 1 and suffixes[-1] in _COMPRESSION and suffixes[-2] in _FORMATS:
        return "".join(path.suffixes[-2:])
    raise HostError(
        f"{path} has an unknown format; known: {', '.join(_FORMATS)}, "
        f"and CSV and JSON with {', '.join(_COMPRESSION)}"
    )


def _split(suffix: str) -> tuple[str, str | None]:
    first, _, second = suffix.lower()[1:].partition(".")
    return f".{first}", _COMPRESSION.get(f".{second}")


def _common_suffix(folder: Path) -> str:
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] in "._" for part in path.relative_to(folder).parts)
    ]
    formats = {_suffix(path) for path in files}
    if len(formats) != 1:
        files_of = (
            f"files of several formats ({', '.join(sorted(formats))})" if formats else "no files"
        )
        raise HostError(f"{folder} holds {files_of}; a table's folder holds files of one format")
    return formats.pop()
