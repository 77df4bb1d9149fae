"""A folder of Parquet files by partition: `db.register("sales", "partitions:///data/sales")`.

The files lie in folders named for a value, `year=2026/month=11/part-0.parquet` (Hive's convention);
these are columns like any other. A query that filters by one of them opens no file of the other
folders, and within a file no row group whose statistics exclude it.
"""

# /// plugin
# id = "partitions"
# version = "1.0.0"
# dependencies = ["pyarrow"]
# capabilities = ["storage"]
# ///
import functools
import operator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.dataset as ds

from epochal.kinds import storage

_TESTS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda field, value: field.isin(list(value)),
    "is null": lambda field, _: field.is_null(),
    "is not null": lambda field, _: field.is_valid(),
}


@storage(scheme="partitions")
class folders:
    """Folders of Parquet files."""

    def table(self, uri):
        """Open `partitions:///absolute/path`."""
        parts = urlsplit(uri)
        folder = Path(unquote(parts.path))
        if parts.netloc or not parts.path or not folder.is_dir():
            raise ValueError(f"expected partitions:///path/to/folder, which exists, not {uri}")
        return _Table(ds.dataset(folder, format="parquet", partitioning="hive"))


class _Table:
    def __init__(self, data):
        self.data = data
        self.schema = data.schema

    def files(self, filters):
        """The files that a scan would open."""
        expression = _expression(self._clear(filters))
        return [fragment.path for fragment in self.data.get_fragments(filter=expression)]

    def scan(self, columns, filters, limit):
        clear = self._clear(filters)
        enough = limit if len(clear) == len(filters) else None
        seen = 0
        for batch in self.data.to_batches(columns=columns, filter=_expression(clear)):
            yield batch
            seen += batch.num_rows
            if enough is not None and seen >= enough:
                return

    def _clear(self, filters):
        """The filters that mean here what they mean to the engine: not so with NaN."""
        return [
            one
            for one in filters
            if one.value is None or not pa.types.is_floating(self.schema.field(one.column).type)
        ]


def _expression(filters):
    terms = [_TESTS[one.test](ds.field(one.column), one.value) for one in filters]
    return functools.reduce(operator.and_, terms) if terms else None
