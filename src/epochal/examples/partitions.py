"""A folder of Parquet files by partition: `db.register("sales", "partitions:///data/sales")`.

The files lie in folders named for a value, `year=2026/month=11/part-0.parquet` (Hive's convention);
these are columns like any other. A query that filters by one of them opens no file of the other
folders, and within a file no row group whose statistics exclude it. A table has the columns of all
its files, and nulls where a file has them not. A path with # ? or % in it is quoted in the address.
"""

# /// plugin
# id = "partitions"
# version = "1.1.0"
# dependencies = ["pyarrow"]
# capabilities = ["storage"]
# ///
import functools
import operator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from epochal.kinds import storage

_TESTS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "is null": lambda field, _: field.is_null(),
    "is not null": lambda field, _: field.is_valid(),
}
# Those that Arrow compares as the engine does: not so with NaN, and not at all with lists.
_COMPARED = (
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
)


@storage(scheme="partitions")
class folders:
    """Folders of Parquet files."""

    def table(self, uri):
        """Open `partitions:///absolute/path`."""
        parts = urlsplit(uri)
        folder = Path(unquote(parts.path))
        unquoted = parts.netloc or parts.query or parts.fragment
        if unquoted or not parts.path or not folder.is_dir():
            raise ValueError(
                f"expected partitions:///path/to/folder, which exists, not {uri}; a path with "
                "# ? or % in it is quoted, as urllib.parse.quote(path) does"
            )
        return _Table(_open(folder))


class _Table:
    def __init__(self, data):
        self.data = data
        self.schema = data.schema

    def files(self, filters):
        """The files that a scan would open."""
        return [fragment.path for fragment in self._fragments(self._clear(filters))]

    def scan(self, columns, filters, limit):
        clear = self._clear(filters)
        enough = limit if len(clear) == len(filters) else None
        seen = 0
        for batch in self._read(columns, clear):
            yield batch
            seen += batch.num_rows
            if enough is not None and seen >= enough:
                return

    def _fragments(self, clear):
        return self.data.get_fragments(filter=_all_of(clear))

    def _read(self, columns, clear):
        try:  # all at once: the next files are read ahead
            yield from self.data.to_batches(columns=columns, filter=_all_of(clear))
        except (OSError, pa.ArrowException) as error:  # which does not always say where
            raise OSError(f"{self._damaged(columns, clear)} cannot be read: {error}") from error

    def _damaged(self, columns, clear):
        """Which file it is."""
        for fragment in self._fragments(clear):
            try:
                for _ in fragment.to_batches(schema=self.schema, columns=columns):
                    pass
            except (OSError, pa.ArrowException):
                return fragment.path
        return "one of the files"

    def _clear(self, filters):
        """The filters that mean here what they mean to the engine, as expressions."""
        made = [self._expression(one) for one in filters]
        return [one for one in made if one is not None]

    def _expression(self, one):
        kind, field = self.schema.field(one.column).type, ds.field(one.column)
        if one.test not in ("is null", "is not null") and not any(is_(kind) for is_ in _COMPARED):
            return None
        try:
            if one.test == "in":
                return field.isin(pa.array(one.value, kind))
            return _TESTS[one.test](field, pa.scalar(one.value, kind))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return None  # a value that the column cannot have


def _open(folder):
    """The files of a folder as one data set."""
    files = sorted(
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] in "._" for part in path.relative_to(folder).parts)
    )
    columns = {file: _columns(file, *_version(file)) for file in files}
    # The engine of the data set looks at the first file; a damaged one is not, until it is wanted.
    files.sort(key=lambda file: columns[file] is None)
    data = ds.dataset(files, format="parquet", partitioning="hive", partition_base_dir=str(folder))
    return data.replace_schema(_union(data.schema, columns)) if files else data


def _union(schema, columns):
    union = pa.schema([])
    for file, found in columns.items():
        if found is not None:
            try:
                union = pa.unify_schemas([union, found])
            except pa.ArrowException as error:
                raise ValueError(f"{file} has other columns than those before: {error}") from error
    for field in schema:  # the partitions
        if field.name not in union.names:
            union = union.append(field)
    return union


def _version(file):
    stat = Path(file).stat()
    return stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=10_000)
def _columns(file, size, changed_ns):
    """The columns of a file; None for one that is damaged."""
    try:
        return pq.read_schema(file).remove_metadata()
    except (OSError, pa.ArrowException):
        return None


def _all_of(terms):
    return functools.reduce(operator.and_, terms) if terms else None
