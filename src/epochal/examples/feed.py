"""The changes of a SQLite table, as a stream: what is inserted, updated, deleted, in order.

Triggers note each change beside the table, in the transaction that makes it: so a change is in the
feed if and only if it was committed. It gets a number there, which SQLite never reuses and, having
one writer at a time, gives in the order of commits. A position is `[log, number]`. The log has a
random id, so that a position of another table or database is refused, and not taken for one here.

An event is `{"op": "insert", "new": row}`, `{"op": "update", "old": row, "new": row}` or
`{"op": "delete", "old": row}`, and a row `{column: value}`, generated columns included. Values are
as JSON has them; what it does not have is `{"blob": "00ff"}` or `{"real": "Inf"}`. Text that is no
UTF-8 has its odd bytes as lone surrogates (Python's `surrogateescape`).

The database gets the triggers `<table>_feed_…`, the notes `<table>_changes`, and `<table>_feed`
with the log's id. The triggers go with their table, and tools that rebuild one to change it
(Alembic, Django, SQLite's own advice) drop it. Nobody knows what changed until they are made again:
that is told as an error, by `read` and by `start`, until somebody says `accept_gap`. The gap ends
as the stream goes on (`Flow.wait_idle` says when), not as the reload returns. Bring the sink up to
date after that: what changes meanwhile may come twice, and before it, would not come at all.

A column that was added is noted from the next read on. To drop one, drop the triggers, and accept
the gap.

`INSERT OR REPLACE` tells what it deletes only under `PRAGMA recursive_triggers`. A database that is
restored from a backup has an older log of the same id; that is seen only while it is shorter.

Configuration: `path`, the database; `table`, whose changes; `trim`, whether notes are deleted once
the sink has them durable (then there is no other sink for them); `accept_gap`, see above.
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
        # Streams call it from one thread at a time, though not always the same.
        self.database = sqlite3.connect(
            config["path"], check_same_thread=False, timeout=10.0, isolation_level=None
        )
        self.database.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        self.table = config["table"]
        self.notes = f"{self.table}_changes"
        self.about = f"{self.table}_feed"
        self.log = None
        self.number = 0
        self.trimmed = 0
        self.schema = None  # the database's schema, as it was when the triggers were looked at

    def start(self, position):
        """Go on after a change; None begins with the first that was noted."""
        self.log = None
        if position is not None and self.about not in self.kept():
            self.number_of(position)  # refused, before anything is made
        self.look()
        number = self.number_of(position) if position is not None else 0
        if number < self.trimmed:
            raise ValueError(
                f"the changes of {self.table!r} up to {self.trimmed} are deleted, and the sink "
                f"has those up to {number}: bring it up to date by other means, then "
                f"UPDATE {_quoted(self.about)} SET trimmed = {number}"
            )
        self.check_given(number)
        self.number = number

    def read(self, limit):
        """The next changes, up to `limit`."""
        while True:
            with self.transaction("DEFERRED"):
                if self.schema == self.one("PRAGMA schema_version"):
                    return self.noted(limit)
            self.look()

    def checkpoint(self):
        """The last change that was read."""
        return [self.log, self.number]

    def acknowledge(self, position):
        """Delete the notes that nobody needs any more, if that is wanted."""
        number = self.number_of(position)
        if not config.get("trim") or number <= self.trimmed:
            return
        with self.transaction("IMMEDIATE"):
            self.database.execute(f"UPDATE {_quoted(self.about)} SET trimmed = ?", (number,))
            self.database.execute(
                f"DELETE FROM {_quoted(self.notes)} WHERE position <= ?", (number,)
            )
        self.trimmed = number

    def close(self):
        """Close the database."""
        self.database.close()

    # --- positions ---------------------------------------------------------------------------

    def number_of(self, position):
        """The number in a position of this log; others are refused."""
        log, number = position
        if log != self.log:
            raise ValueError(
                f"the position {position} is of another log than {self.log or 'a new one'}, "
                f"that of {self.table!r} in {config['path']}: give this one a sink of its own"
            )
        return number

    def check_given(self, number):
        """See that the log has given this number."""
        last = self.one("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", self.notes) or 0
        if number > last:
            raise ValueError(
                f"the sink has change {number} of {self.table!r}, whose log ends with {last}: was "
                f"{config['path']} restored from a backup? Then DROP TABLE {_quoted(self.about)}, "
                "which begins another log, and give that a sink of its own"
            )

    def noted(self, limit):
        """The next events; inside a transaction, so that they belong to the schema."""
        self.check_given(self.number)
        rows = self.database.execute(
            f"SELECT position, op, old, new FROM {_quoted(self.notes)} WHERE position > ? "
            "ORDER BY position LIMIT ?",
            (self.number, limit),
        ).fetchall()
        events = [([self.log, number], _event(op, old, new)) for number, op, old, new in rows]
        if rows:
            self.number = rows[-1][0]
        return events

    # --- triggers ----------------------------------------------------------------------------

    def look(self):
        """See that every change is noted, and tell it if some were not."""
        with self.transaction("DEFERRED"):
            is_well = self.is_noting()
            if is_well:
                self.remember()
        if not is_well:
            # In one step: no change is committed between the old triggers and the new ones.
            with self.transaction("IMMEDIATE"):
                self.note()
                self.remember()

    def is_noting(self):
        """Whether all is there, and the triggers are those that the table needs."""
        kept = self.kept()
        return {self.notes, self.about} <= kept.keys() and self.triggers().items() <= kept.items()

    def kept(self):
        """The SQL of each table and of each of this table's triggers, by name."""
        return dict(
            self.database.execute(
                "SELECT name, sql FROM sqlite_master "
                "WHERE type = 'table' OR type = 'trigger' AND lower(tbl_name) = lower(?)",
                (self.table,),
            )
        )

    def note(self):
        """Make the log and the triggers, or those that changed; not those that went."""
        kept, wanted = self.kept(), self.triggers()
        gone = sorted(wanted.keys() - kept.keys())
        if self.notes in kept and gone and not config.get("accept_gap"):
            raise ValueError(
                f"{config['path']} has lost {', '.join(gone)}, with the table that they were of, "
                f"and what changes in {self.table!r} since is not in the feed: reload feed once "
                "with 'accept_gap': True in its config, and bring the sink up to date as it flows"
            )
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {_quoted(self.notes)} (position INTEGER PRIMARY KEY "
            "AUTOINCREMENT, op TEXT NOT NULL, old TEXT, new TEXT)"
        )
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {_quoted(self.about)} (log TEXT, trimmed INTEGER)"
        )
        self.database.execute(
            f"INSERT INTO {_quoted(self.about)} SELECT lower(hex(randomblob(8))), 0 "
            f"WHERE NOT EXISTS (SELECT * FROM {_quoted(self.about)})"
        )
        for name, sql in wanted.items():
            self.database.execute(f"DROP TRIGGER IF EXISTS {_quoted(name)}")
            self.database.execute(sql)

    def remember(self):
        """Remember what was looked at."""
        log, self.trimmed = self.database.execute(
            f"SELECT log, trimmed FROM {_quoted(self.about)}"
        ).fetchone()
        if self.log not in (None, log):
            raise ValueError(f"the log of {self.table!r} was {self.log}, and is now {log}")
        self.log = log
        self.schema = self.one("PRAGMA schema_version")

    def triggers(self):
        """The SQL of each trigger, by name."""
        described = self.database.execute(f"PRAGMA table_xinfo({_quoted(self.table)})").fetchall()
        columns = [row[1] for row in described if row[6] != 1]  # 1 is hidden, 2 and 3 are generated
        if not columns:
            raise ValueError(f"{config['path']} has no table {self.table!r}")
        states = {"insert": ("NULL", "NEW"), "update": ("OLD", "NEW"), "delete": ("OLD", "NULL")}
        return {
            f"{self.table}_feed_{op}": (
                f"CREATE TRIGGER {_quoted(f'{self.table}_feed_{op}')} "
                f"AFTER {op} ON {_quoted(self.table)} BEGIN "
                f"INSERT INTO {_quoted(self.notes)} (op, old, new) VALUES "
                f"('{op}', {_note(columns, old)}, {_note(columns, new)}); END"
            )
            for op, (old, new) in states.items()
        }

    # --- the database ------------------------------------------------------------------------

    @contextmanager
    def transaction(self, kind):
        """One transaction; what raises in it undoes it."""
        self.database.execute(f"BEGIN {kind}")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def one(self, sql, *values):
        """The one value that a query gives."""
        return self.database.execute(sql, values).fetchone()[0]


def _note(columns, state):
    """An expression for a row: a list of objects, whose values are `[type, value]`."""
    if state == "NULL":
        return state
    pairs = []
    for name in columns:
        value = f"{state}.{_quoted(name)}"
        # 17 digits say which number it is, if they are exact; SQLite's are not always the nearest.
        told = (
            f"CASE typeof({value}) WHEN 'blob' THEN hex({value}) "
            f"WHEN 'real' THEN printf('%!.20g', {value}) ELSE {value} END"
        )
        pairs.append(f"{_text(name)}, json_array(typeof({value}), {told})")
    # A function of SQLite's takes 127 arguments, so a wide row is told in several objects.
    objects = [f"json_object({', '.join(pairs[n : n + 60])})" for n in range(0, len(pairs), 60)]
    return "'[' || " + " || ',' || ".join(objects) + " || ']'"


def _event(op, old, new):
    rows = {"old": old, "new": new}
    return {"op": op} | {state: _row(note) for state, note in rows.items() if note is not None}


def _row(note):
    return {
        name: _value(kind, value)
        for part in json.loads(note)
        for name, (kind, value) in part.items()
    }


def _value(kind, value):
    if kind == "blob":
        return {"blob": value.lower()}
    if kind == "real":
        return float(value) if math.isfinite(float(value)) else {"real": value}
    return value


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'


def _text(value):
    return "'" + value.replace("'", "''") + "'"
