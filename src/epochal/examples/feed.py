"""A source: the changes of a SQLite table (rows inserted, updated and deleted), in order.

Triggers write each change into a log beside the table, in the transaction that makes the change: so
a change is in the feed if and only if it was committed. SQLite numbers the log's rows, never reuses
a number, and, having one writer at a time, gives them in the order of commits. A position is
`[log, number]`. The log has a random id, so that a position from another table or database is
recognised and refused.

An event is `{"op": "insert", "new": row}`, `{"op": "update", "old": row, "new": row}` or
`{"op": "delete", "old": row}`. A row is `{column: value}`, generated columns included. Values are
those of JSON, with `{"blob": "00ff"}` and `{"real": "Inf"}` for values that JSON lacks. In text
that is not UTF-8, the invalid bytes are lone surrogates (Python's `surrogateescape`).

The database gets the triggers `<table>_feed_…`, the log `<table>_changes`, and `<table>_feed` with
the log's id. Dropping a table drops its triggers, and tools that rebuild a table to change it
(Alembic, Django, SQLite's own advice) drop it. Changes from then on until new triggers are missing
from the feed: `read` and `start` raise an error until the configuration has `accept_gap`. The gap
ends when the stream next reads (`Flow.wait_idle` waits for that), not when the reload returns.
Bring the sink up to date after that: changes that you copy then may come a second time, while
changes made after an earlier copy would be missing.

An added column is in the feed from the next read on. To drop a column, drop the triggers, and
accept the gap.

`INSERT OR REPLACE` fires the delete trigger only under `PRAGMA recursive_triggers`. A database that
is restored from a backup has an older log with the same id; the feed detects that only while the
log is shorter.

Configuration: `path`, the database; `table`, the table; `trim`, whether rows of the log are deleted
once they are durable in the sink (there can be no second sink then); `accept_gap`, see above.
"""

# /// plugin
# id = "feed"
# version = "1.0.0"
# capabilities = ["source"]
# ///
import json
import math
import sqlite3
from contextlib import contextmanager

from epochal.kinds import source

config = {}


def init(ctx):
    for key in ("path", "table"):
        if not isinstance(ctx.config.get(key), str):
            raise ValueError(f"feed needs config={{'path': …, 'table': …}}; {key!r} is missing")
    config.update(ctx.config)


@source
class changes:
    """The changes of the table, from its first start on."""

    def __init__(self):
        # Streams call this from one thread at a time, but not always from the same one.
        self.database = sqlite3.connect(
            config["path"], check_same_thread=False, timeout=10.0, isolation_level=None
        )
        self.database.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        self.table = config["table"]
        self.log_table = f"{self.table}_changes"
        self.id_table = f"{self.table}_feed"
        self.log = None
        self.number = 0
        self.trimmed = 0
        self.schema = None  # the version of the database's schema when the triggers were checked

    def start(self, position):
        """Go on after a change; None begins with the first change in the log."""
        self.log = None
        if position is not None and self.id_table not in self.existing():
            self.number_of(position)  # raises, before anything is made in the database
        self.check()
        number = self.number_of(position) if position is not None else 0
        if number < self.trimmed:
            raise ValueError(
                f"the changes of {self.table!r} up to {self.trimmed} are deleted, and the sink "
                f"has those up to {number}: bring it up to date by other means, then "
                f"UPDATE {_quoted(self.id_table)} SET trimmed = {number}"
            )
        self.check_number(number)
        self.number = number

    def read(self, limit):
        """Return the next changes, at most `limit`."""
        while True:
            with self.transaction("DEFERRED"):
                if self.schema == self.value("PRAGMA schema_version"):
                    return self.next_events(limit)
            self.check()

    def checkpoint(self):
        """Return the position of the last change that was read."""
        return [self.log, self.number]

    def acknowledge(self, position):
        """Delete the log's rows up to here, if the configuration asks for it."""
        number = self.number_of(position)
        if not config.get("trim") or number <= self.trimmed:
            return
        with self.transaction("IMMEDIATE"):
            self.database.execute(f"UPDATE {_quoted(self.id_table)} SET trimmed = ?", (number,))
            self.database.execute(
                f"DELETE FROM {_quoted(self.log_table)} WHERE position <= ?", (number,)
            )
        self.trimmed = number

    def close(self):
        """Close the database."""
        self.database.close()

    # --- positions ---------------------------------------------------------------------------

    def number_of(self, position):
        """Return the number in a position; refuse a position of another log."""
        log, number = position
        if log != self.log:
            raise ValueError(
                f"the position {position} is of another log than {self.log or 'a new one'}, "
                f"that of {self.table!r} in {config['path']}: give this one a sink of its own"
            )
        return number

    def check_number(self, number):
        """Check that the log has reached this number."""
        last = self.value("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", self.log_table)
        if number > (last or 0):
            raise ValueError(
                f"the sink has change {number} of {self.table!r}, whose log ends with {last or 0}: "
                f"was {config['path']} restored from a backup? Then DROP TABLE "
                f"{_quoted(self.id_table)}, which begins another log, and give that a sink of its "
                "own"
            )

    def next_events(self, limit):
        """Return the next events; call it in the transaction that checked the schema."""
        self.check_number(self.number)
        rows = self.database.execute(
            f"SELECT position, op, old, new FROM {_quoted(self.log_table)} WHERE position > ? "
            "ORDER BY position LIMIT ?",
            (self.number, limit),
        ).fetchall()
        events = [([self.log, number], _event(op, old, new)) for number, op, old, new in rows]
        if rows:
            self.number = rows[-1][0]
        return events

    # --- triggers ----------------------------------------------------------------------------

    def check(self):
        """Check that every change is logged, and raise if some were not."""
        with self.transaction("DEFERRED"):
            is_complete = self.is_complete()
            if is_complete:
                self.remember()
        if not is_complete:
            # One transaction: no change is committed between the old triggers and the new ones.
            with self.transaction("IMMEDIATE"):
                self.install()
                self.remember()

    def is_complete(self):
        """Whether the log is there, and the triggers are those that the table needs."""
        existing = self.existing()
        tables = {self.log_table, self.id_table}
        return tables <= existing.keys() and self.triggers().items() <= existing.items()

    def existing(self):
        """Return the SQL of each table and of each trigger of this table, by name."""
        return dict(
            self.database.execute(
                "SELECT name, sql FROM sqlite_master "
                "WHERE type = 'table' OR type = 'trigger' AND lower(tbl_name) = lower(?)",
                (self.table,),
            )
        )

    def install(self):
        """Make the log, and the triggers that are missing or differ; missing ones need consent."""
        existing, triggers = self.existing(), self.triggers()
        missing = sorted(triggers.keys() - existing.keys())
        if self.log_table in existing and missing and not config.get("accept_gap"):
            raise ValueError(
                f"{config['path']} has lost {', '.join(missing)}, with the table that they were "
                f"of, and changes of {self.table!r} since then are not in the feed: reload feed "
                "once with 'accept_gap': True in its config, and bring the sink up to date as it "
                "flows"
            )
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {_quoted(self.log_table)} (position INTEGER PRIMARY KEY "
            "AUTOINCREMENT, op TEXT NOT NULL, old TEXT, new TEXT)"
        )
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {_quoted(self.id_table)} (log TEXT, trimmed INTEGER)"
        )
        self.database.execute(
            f"INSERT INTO {_quoted(self.id_table)} SELECT lower(hex(randomblob(8))), 0 "
            f"WHERE NOT EXISTS (SELECT * FROM {_quoted(self.id_table)})"
        )
        for name, sql in triggers.items():
            self.database.execute(f"DROP TRIGGER IF EXISTS {_quoted(name)}")
            self.database.execute(sql)

    def remember(self):
        """Remember the log and the schema that were checked."""
        log, self.trimmed = self.database.execute(
            f"SELECT log, trimmed FROM {_quoted(self.id_table)}"
        ).fetchone()
        if self.log not in (None, log):
            raise ValueError(f"the log of {self.table!r} was {self.log}, and is now {log}")
        self.log = log
        self.schema = self.value("PRAGMA schema_version")

    def triggers(self):
        """Return the SQL of each trigger that the table needs, by name."""
        described = self.database.execute(f"PRAGMA table_xinfo({_quoted(self.table)})").fetchall()
        columns = [row[1] for row in described if row[6] != 1]  # 1: hidden; 2 and 3: generated
        if not columns:
            raise ValueError(f"{config['path']} has no table {self.table!r}")
        states = {"insert": ("NULL", "NEW"), "update": ("OLD", "NEW"), "delete": ("OLD", "NULL")}
        return {
            f"{self.table}_feed_{op}": (
                f"CREATE TRIGGER {_quoted(f'{self.table}_feed_{op}')} "
                f"AFTER {op} ON {_quoted(self.table)} BEGIN "
                f"INSERT INTO {_quoted(self.log_table)} (op, old, new) VALUES "
                f"('{op}', {_row_sql(columns, old)}, {_row_sql(columns, new)}); END"
            )
            for op, (old, new) in states.items()
        }

    # --- the database ------------------------------------------------------------------------

    @contextmanager
    def transaction(self, kind):
        """Run a transaction; an error in it rolls it back."""
        self.database.execute(f"BEGIN {kind}")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def value(self, sql, *values):
        """Return the one value of a query."""
        return self.database.execute(sql, values).fetchone()[0]


def _row_sql(columns, state):
    """Return an SQL expression for a row: a list of objects, with `[type, value]` as values."""
    if state == "NULL":
        return state
    pairs = []
    for name in columns:
        value = f"{state}.{_quoted(name)}"
        # 17 exact digits identify a float, but SQLite's 17 are not always exact; so 20.
        text = (
            f"CASE typeof({value}) WHEN 'blob' THEN hex({value}) "
            f"WHEN 'real' THEN printf('%!.20g', {value}) ELSE {value} END"
        )
        pairs.append(f"{_text(name)}, json_array(typeof({value}), {text})")
    # An SQLite function takes at most 127 arguments, so a wide row becomes several objects.
    objects = [f"json_object({', '.join(pairs[n : n + 60])})" for n in range(0, len(pairs), 60)]
    return "'[' || " + " || ',' || ".join(objects) + " || ']'"


def _event(op, old, new):
    rows = {"old": old, "new": new}
    return {"op": op} | {state: _row(text) for state, text in rows.items() if text is not None}


def _row(text):
    return {
        name: _value(sql_type, value)
        for part in json.loads(text)
        for name, (sql_type, value) in part.items()
    }


def _value(sql_type, value):
    if sql_type == "blob":
        return {"blob": value.lower()}
    if sql_type == "real":
        return float(value) if math.isfinite(float(value)) else {"real": value}
    return value


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'


def _text(value):
    return "'" + value.replace("'", "''") + "'"
