"""SQLite files as tables: `db.register("orders", "lite:///data/shop.db?table=orders")`.

Columns, filters and limits become SQL: the file's own indexes are used, and rows that nobody wants
are not read. A scan reads one snapshot of the file from its beginning to its end. The file is
opened read-only.
"""

# /// plugin
# id = "lite"
# version = "1.0.0"
# dependencies = ["pyarrow"]
# capabilities = ["storage"]
# ///
import sqlite3
from contextlib import closing
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa

from epochal.kinds import storage

_ROWS = 8192
# By SQLite's own rules of affinity (sqlite.org/datatype3.html, 3.1), in their order.
_AFFINITIES = [
    (("INT",), pa.int64()),
    (("CHAR", "CLOB", "TEXT"), pa.string()),
    (("BLOB",), pa.binary()),
    (("REAL", "FLOA", "DOUB"), pa.float64()),
]
_PLAIN = (int, float, str, bytes, bool)


@storage(scheme="lite")
class files:
    """Tables and views of SQLite files."""

    def table(self, uri):
        """Open `lite:///absolute/path.db?table=name`."""
        parts = urlsplit(uri)
        names = parse_qs(parts.query).get("table", [])
        if len(names) != 1 or not parts.path or parts.netloc:
            raise ValueError(f"expected lite:///path/to/file.db?table=name, not {uri}")
        return _Table(unquote(parts.path), names[0])


class _Table:
    def __init__(self, path, name):
        self.path = path
        self.name = name
        with closing(self._connect()) as database:
            columns = database.execute(f"PRAGMA table_info({_quoted(name)})").fetchall()
        if not columns:
            raise ValueError(f"{path} has no table {name!r}")
        self.schema = pa.schema([(column[1], _arrow(column[2])) for column in columns])

    def _connect(self):
        # Batches of one scan may be read on different threads, one at a time.
        address = f"file:{quote(self.path)}?mode=ro"
        return sqlite3.connect(address, uri=True, check_same_thread=False)

    def scan(self, columns, filters, limit):
        wanted = pa.schema([self.schema.field(name) for name in columns])
        # What SQLite would compare by rules of its own is left to the engine, and so is the limit.
        clear = [one for one in filters if self._is_clear(one)]
        sql = f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(self.name)}"
        if clear:
            sql += f" WHERE {' AND '.join(map(_condition, clear))}"
        values = [value for one in clear for value in _values(one)]
        if limit is not None and len(clear) == len(filters):
            sql += f" LIMIT {int(limit)}"
        with closing(self._connect()) as database:
            cursor = database.execute(sql, values)
            while rows := cursor.fetchmany(_ROWS):
                arrays = [
                    pa.array(column, field.type)
                    for column, field in zip(zip(*rows, strict=True), wanted, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=wanted)

    def _is_clear(self, condition):
        values = _values(condition)
        kind = self.schema.field(condition.column).type
        numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return all(
            isinstance(value, _PLAIN)
            and isinstance(value, (int, float)) == numbers
            and value == value  # SQLite takes NaN for a null
            for value in values
        )


def _arrow(declared):
    for words, kind in _AFFINITIES:
        if any(word in declared.upper() for word in words):
            return kind
    return pa.float64() if declared else pa.binary()


def _condition(one):
    if one.test in ("is null", "is not null"):
        return f"{_quoted(one.column)} {one.test.upper()}"
    # Texts are compared as the engine does, whatever order the column was declared with.
    column = f"{_quoted(one.column)} COLLATE BINARY"
    if one.test == "in":
        return f"{column} IN ({', '.join('?' * len(one.value))})"
    return f"{column} {one.test} ?"


def _values(one):
    return one.value if one.test == "in" else () if one.value is None else (one.value,)


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'
