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
        return [fragment.path for fragment in self.data.get_fragments(filter=_expression(filters))]

    def scan(self, columns, filters, limit):
        batches = self.data.to_batches(columns=columns, filter=_expression(filters))
        seen = 0
        for batch in batches:
            yield batch
            seen += batch.num_rows  # every filter was applied
            if limit is not None and seen >= limit:
                return


def _expression(filters):
    terms = [_TESTS[one.test](ds.field(one.column), one.value) for one in filters]
    return functools.reduce(operator.and_, terms) if terms else None
