"""The changes of a SQLite table, as a stream: what is inserted, updated, deleted, in order.

Triggers note each change beside the table, in the transaction that makes it: so a change is in the
feed if and only if it was committed. Its position is its number there, which SQLite never reuses
and, having one writer at a time, gives in the order of commits.

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
        table = config["table"]
        columns = [row[1] for row in self.database.execute(f"PRAGMA table_info({_quoted(table)})")]
        if not columns:
            raise ValueError(f"{config['path']} has no table {table!r}")
        with self.database:
            self.database.execute(
                f"CREATE TABLE IF NOT EXISTS {self.log} "
                "(position INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT NOT NULL, row TEXT NOT NULL)"
            )
            for op, state in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
                pairs = ", ".join(f"{_text(name)}, {state}.{_quoted(name)}" for name in columns)
                self.database.execute(
                    f"CREATE TRIGGER IF NOT EXISTS {_quoted(f'{table}_feed_{op}')} "
                    f"AFTER {op} ON {_quoted(table)} BEGIN "
                    f"INSERT INTO {self.log} (op, row) VALUES ('{op}', json_object({pairs})); END"
                )

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


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'


def _text(value):
    return "'" + value.replace("'", "''") + "'"
