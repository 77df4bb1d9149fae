"""SQLite files as tables: `db.register("orders", f"lite://{quote(path)}?table=orders")`.

Columns, filters and limits become SQL: the file's own indexes are used, and rows that nobody wants
are not read. A query sees one version of the file: it is read in one transaction, from the opening
of the table to its close (which keeps writers of a file without write-ahead log waiting). The file
is opened read-only.

A column is of the type that it was declared with, as far as that says one: whole numbers, floats,
texts and bytes by SQLite's own rules, BOOLEAN as such. DATE, TIME and DATETIME are texts, since
SQLite keeps them as it was given them. NUMERIC and DECIMAL are floats, or whole numbers where the
first 1,000 rows hold one that no float is. What was declared without a type, as the expressions of
a view are, is what the first 1,000 rows hold. SQLite itself keeps anything in any column: a value
that is not of its column's type is refused where it is read, with its row.
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
_MOST_FILTERS = 100  # SQLite takes no deeper expressions than 1,000
_MOST_VALUES = 1000
# By SQLite's own rules of affinity (sqlite.org/datatype3.html, 3.1), in their order; then what has
# none of its own.
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
        # Scans are read on different threads, several at once: SQLite has one at a time.
        self.lock = threading.Lock()
        # A timeout that a query can wait for; the transaction is begun, and ended, by hand.
        self.database = sqlite3.connect(
            f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )
        try:
            self.database.execute("BEGIN")
            self.database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on
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
        clear = self._clear(filters)
        sql = f"SELECT {', '.join(one.sql for one in wanted)} FROM {_quoted(self.name)}"
        if clear:
            sql += f" WHERE {' AND '.join(map(self._condition, clear))}"
        values = [value for one in clear for value in _values(one)]
        # What SQLite would compare by rules of its own is left to the engine, and so is the limit.
        if limit is not None and len(clear) == len(filters):
            sql += f" LIMIT {int(limit)}"
        schema = pa.schema([one.field for one in wanted])
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
        declared = {row[1]: row[2].upper() for row in rows if row[6] != 1}  # not the hidden ones
        kinds = {name: _declared(words) for name, words in declared.items()}
        unsaid = [name for name, kind in kinds.items() if kind is None]
        for name, found in zip(unsaid, self._sample(unsaid), strict=True):
            kinds[name] = _numbers(found) if declared[name] else _stored(found)
        return {name: self._column(name, kind, declared[name]) for name, kind in kinds.items()}

    def _sample(self, names):
        """The values of some columns in the first rows."""
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
        # With its table, or SQLite would take the name of a column that is gone for a text.
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
                    f"which is no {column.field.type}"
                )

    def _row_of(self, column, value):
        # Only a table that keeps rowids can say it: a view cannot.
        sql = f"SELECT rowid FROM {_quoted(self.name)} WHERE {column.sql} IS ? LIMIT 1"
        try:
            with self.lock:
                found = self.database.execute(sql, [value]).fetchone()
        except sqlite3.Error:
            return ""
        return f" (row {found[0]})" if found and found[0] is not None else ""

    # --- filters ---------------------------------------------------------------------------------

    def _clear(self, filters):
        """The filters that mean to SQLite what they mean to the engine."""
        return [one for one in filters if self._is_clear(one)][:_MOST_FILTERS]

    def _is_clear(self, condition):
        kind = self.columns[condition.column].field.type
        values = _values(condition)
        if len(values) > _MOST_VALUES or not all(_is_of(kind, value) for value in values):
            return False
        is_order = condition.test in ("<", "<=", ">", ">=")
        return (
            not is_order
            or kind in (pa.int64(), pa.float64(), pa.binary())
            or (
                kind == pa.string() and self.is_utf8  # SQLite compares the bytes that it keeps
            )
        )

    def _condition(self, one):
        column = self.columns[one.column].sql
        if one.test in ("is null", "is not null"):
            return f"{column} {one.test.upper()}"
        # Texts are compared as the engine does, whatever order the column was declared with.
        if one.test == "in":
            return f"{column} COLLATE BINARY IN ({', '.join('?' * len(one.value))})"
        return f"{column} COLLATE BINARY {one.test} ?"


def _declared(words):
    """The type that a declaration says; None where it depends on what is stored."""
    for known, kind in _DECLARED:
        if any(word in words for word in known):
            return kind
    return None


def _declared_text(words):
    """Whether SQLite makes texts of the numbers that are put into a column."""
    return any(word in words for word in ("CHAR", "CLOB", "TEXT")) and "INT" not in words


def _numbers(values):
    is_big = any(type(value) is int and float(value) != value for value in values)
    return pa.int64() if is_big else pa.float64()


def _stored(values):
    classes = {*map(type, values)} - {type(None)}
    for kind in (pa.int64(), pa.float64(), pa.binary()):
        if classes and classes <= _CLASSES[kind]:
            return kind
    return pa.string()


def _is_of(kind, value):
    if isinstance(value, float) and value != value:
        return False  # SQLite takes NaN for a null
    if kind == pa.bool_():
        return isinstance(value, bool)
    return not isinstance(value, bool) and type(value) in _CLASSES[kind]


def _values(one):
    return one.value if one.test == "in" else () if one.value is None else (one.value,)


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'
