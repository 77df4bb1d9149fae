"""The SQLite side of the store: opening, the schema, transactions, what its errors mean.

WAL mode with `synchronous=FULL`: a transaction that was committed is on the disk. The schema has a
number (`PRAGMA user_version`); a later one is refused instead of guessed at.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import sync_folder, touch
from epochal.errors import StoreCorruptError, StoreSchemaError, StoreWriteError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SCHEMA: Final = 1

# A generation is in every epoch from `since` up to, not including, `until` (NULL: until further
# notice), so a commit writes what it changes and nothing else. `restored` is the number that the
# last restart gave it; `root` is the file name of a single-file plugin, NULL for a package.
_SCHEMA: Final = f"""
CREATE TABLE epoch (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX epoch_at ON epoch (at);
CREATE TABLE generation (
    plugin TEXT NOT NULL, number INTEGER NOT NULL, restored INTEGER,
    version TEXT NOT NULL, identity TEXT NOT NULL,
    digest TEXT NOT NULL, name TEXT NOT NULL, root TEXT, origin BLOB,
    config TEXT NOT NULL, grants TEXT NOT NULL,
    since INTEGER NOT NULL, until INTEGER,
    PRIMARY KEY (plugin, number)
);
CREATE INDEX generation_until ON generation (until);
CREATE TABLE number (plugin TEXT PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE audit (
    entry INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
    change INTEGER NOT NULL, reason TEXT NOT NULL,
    epoch_before INTEGER NOT NULL, epoch_after INTEGER NOT NULL,
    plugins TEXT NOT NULL, code TEXT, error TEXT
);
CREATE INDEX audit_at ON audit (at);
PRAGMA user_version = {SCHEMA};
"""

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """The journal's file. Its callers take turns: the store calls it under its lock.

    Args:
        path: of the file; made if it is not there.

    Raises:
        StoreError: it cannot be opened, is damaged, or was written by a later version.
    """

    __slots__ = ("connection", "path")

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        with told("open the store", path):
            touch(path)
            self.connection: Final = sqlite3.connect(
                path, timeout=5.0, isolation_level=None, check_same_thread=False
            )
        try:
            with told("open the store", path):
                self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        run = self.connection.execute
        (schema,) = run("PRAGMA user_version").fetchone()
        if schema > SCHEMA:
            raise StoreSchemaError(
                f"{self.path} has schema {schema}, this version of Epochal knows {SCHEMA}: "
                "a later version wrote it; use that one",
                path=self.path,
            )
        self.connection.row_factory = sqlite3.Row
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        if schema == 0:
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    run(statement)
            sync_folder(self.path.parent)
        (verdict,) = run("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(self.path, verdict)

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All of the block, or nothing of it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file; doing so again does nothing."""
        self.connection.close()


@contextmanager
def told(what: str, path: Path) -> Generator[None]:
    """Say what goes wrong in the block in the store's own errors.

    Args:
        what: what is being done: "keep epoch 7".
        path: where, if the error does not say.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The low byte is the kind of error, the rest its details.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise _damaged(path, str(error)) from error
        raise _failed(what, path, str(error)) from error
    except OSError as error:
        raise _failed(what, error.filename or path, error.strerror or str(error)) from error


def _damaged(path: Path, what: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} is damaged: {what}; put it back from a backup (with its -wal file, and the "
        "artifacts folder), or move the whole store away and load the plugins anew",
        path=path,
    )


def _failed(what: str, path: Path | str, why: str) -> StoreWriteError:
    return StoreWriteError(
        f"cannot {what} in {path}: {why}; nothing was changed: make room there, or make it "
        "writable, and try again",
        path=path,
    )
