"""A storage backend: SQLite files as tables.

    db.register("orders", f"lite://{quote(path)}?table=orders")

Columns, filters and limits become SQL, so SQLite uses the file's own indexes and reads only the
wanted rows. A query sees one version of the file: it reads in one transaction, from the opening of
the table to its close (which makes writers wait, in a file without write-ahead log). The file is
opened read-only.

A column has its declared type, as far as the declaration gives one: whole numbers, floats, texts
and bytes by SQLite's own rules, and BOOLEAN. DATE, TIME and DATETIME are texts, since SQLite stores
them unchanged. NUMERIC and DECIMAL are floats, or whole numbers where the first 1,000 rows hold one
that a float cannot represent. A column declared without a type, such as an expression of a view,
has the type of its values in the first 1,000 rows. SQLite itself stores anything in any column: a
value that is not of its column's type is refused when it is read, and the error names its row.
"""

# /// plugin
# id = "lite"
# version = "1.1.0"
# dependencies = ["pyarrow"]
# capabilities = ["storage"]
# ///
import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa

from epochal.kinds import storage

_ROWS = 8192
_SAMPLE = 1000
_MAX_FILTERS = 100  # SQLite refuses expressions deeper than 1,000
_MAX_VALUES = 1000
# SQLite's own rules of affinity (sqlite.org/datatype3.html, 3.1), in their order; then two words
# without a rule.
_DECLARED = [
    (("INT",), pa.int64()),
    (("CHAR", "CLOB", "TEXT"), pa.string()),
    (("BLOB",), pa.binary()),
    (("REAL", "FLOA", "DOUB"), pa.float64()),
    (("BOOL",), pa.bool_()),
    (("DATE", "TIME"), pa.string()),
]
_CLASSES = {
    pa.int64(): {int},
    pa.float64(): {float, int},
    pa.string(): {str},
    pa.binary(): {bytes},
    pa.bool_(): {int},
}


@storage(scheme="lite")
class files:
    """Tables and views of SQLite files."""

    def table(self, uri):
        """Open `lite:///absolute/path.db?table=name`; the path is quoted."""
        parts = urlsplit(uri)
        names = parse_qs(parts.query).get("table", [])
        path = unquote(parts.path)
        if len(names) != 1 or not path or parts.netloc or parts.fragment:
            raise ValueError(
                f"expected lite:///path/to/file.db?table=name, not {uri}; a path with # ? or % in "
                "it is quoted, as urllib.parse.quote(path) does"
            )
        if not Path(path).is_file():
            raise ValueError(f"there is no file {path}; is it quoted, by urllib.parse.quote(path)?")
        return _Table(path, names[0])


class _Column(NamedTuple):
    field: pa.Field
    sql: str


class _Table:
    def __init__(self, path, name):
        self.name = name
        # Several scans run at once, on different threads; one connection serves one at a time.
        self.lock = threading.Lock()
        # `isolation_level=None`: the transaction below is begun by hand.
        self.database = sqlite3.connect(
            f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )
        try:
            self.database.execute("BEGIN")
            # The first read fixes the version that the transaction sees; BEGIN alone does not.
            self.database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self.is_utf8 = self.database.execute("PRAGMA encoding").fetchone() == ("UTF-8",)
            self.columns = self._columns()
        except BaseException:
            self.database.close()
            raise
        if not self.columns:
            self.database.close()
            raise ValueError(f"{path} has no table {name!r}")
        self.schema = pa.schema([column.field for column in self.columns.values()])

    def close(self):
        self.database.close()

    def scan(self, columns, filters, limit):
        wanted = [self.columns[name] for name in columns]
        exact = self._exact(filters)
        sql = f"SELECT {', '.join(column.sql for column in wanted)} FROM {_quoted(self.name)}"
        if exact:
            sql += f" WHERE {' AND '.join(map(self._condition, exact))}"
        values = [value for condition in exact for value in _values(condition)]
        # The limit counts rows that pass every filter, so it needs all filters to be applied here.
        if limit is not None and len(exact) == len(filters):
            sql += f" LIMIT {int(limit)}"
        schema = pa.schema([column.field for column in wanted])
        with self.lock:
            cursor = self.database.execute(sql, values)
        try:
            while rows := self._fetch(cursor):
                arrays = map(self._array, wanted, zip(*rows, strict=True))
                yield pa.RecordBatch.from_arrays(list(arrays), schema=schema)
        finally:
            with self.lock:
                cursor.close()

    def _fetch(self, cursor):
        with self.lock:
            return cursor.fetchmany(_ROWS)

    # --- columns ---------------------------------------------------------------------------------

    def _columns(self):
        rows = self.database.execute(f"PRAGMA table_xinfo({_quoted(self.name)})").fetchall()
        declared = {row[1]: row[2].upper() for row in rows if row[6] != 1}  # 1 is a hidden column
        kinds = {name: _declared(words) for name, words in declared.items()}
        unknown = [name for name, kind in kinds.items() if kind is None]
        for name, values in zip(unknown, self._sample(unknown), strict=True):
            kinds[name] = _number_type(values) if declared[name] else _stored_type(values)
        return {name: self._column(name, kind, declared[name]) for name, kind in kinds.items()}

    def _sample(self, names):
        """Return the values of some columns in the first rows."""
        if not names:
            return []
        columns = ", ".join(map(self._name, names))
        sql = f"SELECT {columns} FROM {_quoted(self.name)} LIMIT {_SAMPLE}"
        return list(zip(*self.database.execute(sql).fetchall(), strict=True)) or [()] * len(names)

    def _column(self, name, kind, declared):
        sql = self._name(name)
        if kind == pa.string() and _declared_text(declared) is not True:
            sql = f"CASE typeof({sql}) WHEN 'blob' THEN {sql} ELSE CAST({sql} AS TEXT) END"
        return _Column(pa.field(name, kind), sql)

    def _name(self, name):
        # With the table's name: SQLite takes the quoted name of a dropped column for a text.
        return f"{_quoted(self.name)}.{_quoted(name)}"

    def _array(self, column, values):
        kind, classes = column.field.type, {*map(type, values)}
        if not classes <= _CLASSES[kind] | {type(None)}:
            self._refuse(column, lambda value: type(value) not in _CLASSES[kind], values)
        if kind == pa.float64() and int in classes:
            self._refuse(column, lambda value: float(value) != value, values)
        if kind == pa.bool_():
            self._refuse(column, lambda value: value not in (0, 1), values)
            values = [None if value is None else bool(value) for value in values]
        return pa.array(values, kind)

    def _refuse(self, column, is_wrong, values):
        """Raise if a value is wrong, naming its row."""
        for value in values:
            if value is not None and is_wrong(value):
                where = f"column {column.field.name!r} of table {self.name!r}"
                raise ValueError(
                    f"{where}{self._row_of(column, value)} holds {value!r}, "
                    f"which is not of type {column.field.type}"
                )

    def _row_of(self, column, value):
        # Only a table with rowids has a row number; a view has none.
        sql = f"SELECT rowid FROM {_quoted(self.name)} WHERE {column.sql} IS ? LIMIT 1"
        try:
            with self.lock:
                row = self.database.execute(sql, [value]).fetchone()
        except sqlite3.Error:
            return ""
        return f" (row {row[0]})" if row and row[0] is not None else ""

    # --- filters ---------------------------------------------------------------------------------

    def _exact(self, filters):
        """Return the filters that SQLite compares exactly as the engine does."""
        return [condition for condition in filters if self._is_exact(condition)][:_MAX_FILTERS]

    def _is_exact(self, condition):
        kind = self.columns[condition.column].field.type
        values = _values(condition)
        if len(values) > _MAX_VALUES or not all(_is_of(kind, value) for value in values):
            return False
        is_order = condition.test in ("<", "<=", ">", ">=")
        return (
            not is_order
            or kind in (pa.int64(), pa.float64(), pa.binary())
            or (
                kind == pa.string() and self.is_utf8  # SQLite compares the bytes that it stores
            )
        )

    def _condition(self, condition):
        column = self.columns[condition.column].sql
        if condition.test in ("is null", "is not null"):
            return f"{column} {condition.test.upper()}"
        # COLLATE BINARY compares as the engine does, even if the column declares another order.
        if condition.test == "in":
            return f"{column} COLLATE BINARY IN ({', '.join('?' * len(condition.value))})"
        return f"{column} COLLATE BINARY {condition.test} ?"


def _declared(words):
    """Return the type that a declaration gives; None where it depends on the stored values."""
    for known, kind in _DECLARED:
        if any(word in words for word in known):
            return kind
    return None


def _declared_text(words):
    """Whether SQLite turns numbers into texts when they are stored in such a column."""
    return any(word in words for word in ("CHAR", "CLOB", "TEXT")) and "INT" not in words


def _number_type(values):
    is_big = any(type(value) is int and float(value) != value for value in values)
    return pa.int64() if is_big else pa.float64()


def _stored_type(values):
    classes = {*map(type, values)} - {type(None)}
    for kind in (pa.int64(), pa.float64(), pa.binary()):
        if classes and classes <= _CLASSES[kind]:
            return kind
    return pa.string()


def _is_of(kind, value):
    if isinstance(value, float) and value != value:
        return False  # SQLite takes NaN for null
    if kind == pa.bool_():
        return isinstance(value, bool)
    return not isinstance(value, bool) and type(value) in _CLASSES[kind]


def _values(condition):
    if condition.test == "in":
        return condition.value
    return () if condition.value is None else (condition.value,)


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'
