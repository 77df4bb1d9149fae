"""A storage backend: a folder of Parquet files by partition.

    db.register("sales", "partitions:///data/sales")

The files lie in folders named for a value, `year=2026/month=11/part-0.parquet` (Hive's convention);
the names become columns like any other. A query that filters by such a column opens no file of the
other folders, and within a file reads no row group whose statistics exclude it. A table has the
columns of all its files, with nulls for a file that lacks one. A path with # ? or % in it is quoted
in the address.
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
# The types that Arrow compares as the engine does. Floats are not among them, because of NaN; nor
# lists, which Arrow does not compare at all.
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
        """Return the files that a scan would open."""
        return [fragment.path for fragment in self._fragments(self._exact(filters))]

    def scan(self, columns, filters, limit):
        exact = self._exact(filters)
        # The limit counts rows that pass every filter, so it needs all filters to be applied here.
        enough = limit if len(exact) == len(filters) else None
        seen = 0
        for batch in self._read(columns, exact):
            yield batch
            seen += batch.num_rows
            if enough is not None and seen >= enough:
                return

    def _fragments(self, exact):
        return self.data.get_fragments(filter=_all_of(exact))

    def _read(self, columns, exact):
        try:  # one call for all files, so that Arrow reads ahead
            yield from self.data.to_batches(columns=columns, filter=_all_of(exact))
        except (OSError, pa.ArrowException) as error:  # the error does not always name the file
            raise OSError(f"{self._damaged(columns, exact)} cannot be read: {error}") from error

    def _damaged(self, columns, exact):
        """Return the path of the file that cannot be read."""
        for fragment in self._fragments(exact):
            try:
                for _ in fragment.to_batches(schema=self.schema, columns=columns):
                    pass
            except (OSError, pa.ArrowException):
                return fragment.path
        return "one of the files"

    def _exact(self, filters):
        """Return, as expressions, the filters that Arrow compares exactly as the engine does."""
        expressions = map(self._expression, filters)
        return [expression for expression in expressions if expression is not None]

    def _expression(self, condition):
        kind, field = self.schema.field(condition.column).type, ds.field(condition.column)
        is_null_test = condition.test in ("is null", "is not null")
        if not is_null_test and not any(is_type(kind) for is_type in _COMPARED):
            return None
        try:
            if condition.test == "in":
                return field.isin(pa.array(condition.value, kind))
            return _TESTS[condition.test](field, pa.scalar(condition.value, kind))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return None  # a value that the column cannot have


def _open(folder):
    """Return the files of a folder as one data set."""
    files = sorted(
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] in "._" for part in path.relative_to(folder).parts)
    )
    columns = {file: _columns(file, *_version(file)) for file in files}
    # The data set reads the schema of its first file. Damaged files go last: only a query that
    # needs one fails.
    files.sort(key=lambda file: columns[file] is None)
    data = ds.dataset(files, format="parquet", partitioning="hive", partition_base_dir=str(folder))
    return data.replace_schema(_union(data.schema, columns)) if files else data


def _union(schema, columns):
    union = pa.schema([])
    for file, own in columns.items():
        if own is not None:
            try:
                union = pa.unify_schemas([union, own])
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
    """Return the columns of a file; None for a damaged file."""
    try:
        return pq.read_schema(file).remove_metadata()
    except (OSError, pa.ArrowException):
        return None


def _all_of(terms):
    return functools.reduce(operator.and_, terms) if terms else None
