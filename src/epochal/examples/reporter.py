"""A job: writes the number of rows of a SQLite table into a report, twenty times a second.

(That often to be fun to watch; `@job(cron="0 * * * *")` would write once an hour.)
Configuration: `path`, the database; `table`, the table; its report is `<table>_report`.
"""

# /// plugin
# id = "reporter"
# version = "1.0.0"
# capabilities = ["job"]
# ///
import sqlite3
import time
from contextlib import closing

from epochal.kinds import job

config = {}


def init(ctx):
    for key in ("path", "table"):
        if not isinstance(ctx.config.get(key), str):
            raise ValueError(f"reporter needs config={{'path': …, 'table': …}}; {key!r} is missing")
    config.update(ctx.config)
    with closing(_connect()) as database, database:
        database.execute(f"CREATE TABLE IF NOT EXISTS {_report()} (at REAL, rows INTEGER)")


@job(every="50ms")
def count():
    """Write one line of the report."""
    with closing(_connect()) as database, database:
        database.execute(
            f"INSERT INTO {_report()} SELECT ?, count(*) FROM {_quoted(config['table'])}",
            (time.time(),),
        )


def _connect():
    return sqlite3.connect(config["path"], timeout=10.0)


def _report():
    return _quoted(f"{config['table']}_report")


def _quoted(name):
    return '"' + name.replace('"', '""') + '"'
