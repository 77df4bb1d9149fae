"""The changes of a SQLite table, as a stream: what is inserted, updated, deleted, in order.

Triggers note each change beside the table, in the transaction that makes it: so a change is in the
feed if and only if it was committed. Its position is its number there, which SQLite never reuses
and, having one writer at a time, gives in the order of commits.

The notes are in `<table>_changes`; those that every reader has passed may be deleted. Bytes are
told as hexadecimal digits. Before a column is dropped, SQLite wants the triggers `<table>_feed_…`
dropped; the next start makes them again, as it does for columns that were added. `INSERT OR
REPLACE` tells what it deletes only under `PRAGMA recursive_triggers`.

Configuration: `path`, the database; `table`, whose changes.
"""

# /// plugin
# id = "feed"
# version = "1.0.0"
# capabilities = ["source"]
# ///
import json
import sqlite3

from epochal.kinds import source

config = {}


def init(ctx):
    for key in ("path", "table"):
        if not isinstance(ctx.config.get(key), str):
            raise ValueError(f"feed needs config={{'path': …, 'table': …}}; {key!r} is missing")
    config.update(ctx.config)


@source
class changes:
    """Changes as `{"op": "insert" | "update" | "delete", "row": {column: value}}`."""

    def __init__(self):
        # Streams call it from one thread at a time, though not always the same.
        self.database = sqlite3.connect(config["path"], check_same_thread=False, timeout=10.0)
        self.position = 0
        self.log = _quoted(f"{config['table']}_changes")

    def start(self, position):
        """Go on after a change; None begins with the first that was noted."""
        self.position = position or 0
        if not self.is_noting():
            with self.database:
                # In one step: no change is committed between the old triggers and the new ones.
                self.database.execute("BEGIN IMMEDIATE")
                self.note()

    def is_noting(self):
        """Whether the log is there, and the triggers are those that the table needs."""
        kept = dict(self.database.execute("SELECT name, sql FROM sqlite_master"))
        return f"{config['table']}_changes" in kept and self.triggers().items() <= kept.items()

    def note(self):
        """Make the log and the triggers."""
        self.database.execute(
            f"CREATE TABLE IF NOT EXISTS {self.log} "
            "(position INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, row TEXT NOT NULL)"
        )
        for name, sql in self.triggers().items():
            self.database.execute(f"DROP TRIGGER IF EXISTS {_quoted(name)}")
            self.database.execute(sql)

    def triggers(self):
        """The SQL of each trigger, by name."""
        table = config["table"]
        columns = [row[1] for row in self.database.execute(f"PRAGMA table_info({_quoted(table)})")]
        if not columns:
            raise ValueError(f"{config['path']} has no table {table!r}")
        return {
            f"{table}_feed_{op}": f"CREATE TRIGGER {_quoted(f'{table}_feed_{op}')} "
            f"AFTER {op} ON {_quoted(table)} BEGIN "
            f"INSERT INTO {self.log} (op, row) VALUES ('{op}', {_json(columns, state)}); END"
            for op, state in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD"))
        }

    def read(self, limit):
        """The next changes, up to `limit`."""
        rows = self.database.execute(
            f"SELECT position, op, row FROM {self.log} WHERE position > ? "
            "ORDER BY position LIMIT ?",
            (self.position, limit),
        ).fetchall()
        if rows:
            self.position = rows[-1][0]
        return [(position, {"op": op, "row": json.loads(row)}) for position, op, row in rows]

    def checkpoint(self):
        """The last change that was read."""
        return self.position

    def close(self):
        """Close the database."""
        self.database.close()


def _json(columns, state):
    """An expression for a row as a JSON object."""
    pairs = []
    for name in columns:
        value = f"{state}.{_quoted(name)}"
        pairs.append(f"{_text(name)}, iif(typeof({value}) = 'blob', hex({value}), {value})")
    # A function of SQLite's takes 127 arguments, so a wide row is told in several objects.
    objects = [f"json_object({', '.join(pairs[n : n + 60])})" for n in range(0, len(pairs), 60)]
    if len(objects) == 1:
        return objects[0]
    inner = [f"substr({one}, 2, length({one}) - 2)" for one in objects]
    return "'{' || " + " || ',' || ".join(inner) + " || '}'"


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'


def _text(value):
    return "'" + value.replace("'", "''") + "'"
