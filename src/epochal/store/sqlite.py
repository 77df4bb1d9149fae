"""The journal's SQLite file: opening, schema, transactions, and SQLite's errors as the store's.

WAL mode with `synchronous=FULL`: a committed transaction is on the disk. The schema has a number
(`PRAGMA user_version`); a file with a later one is refused.
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


class JournalFile:
    """The journal's file. Not thread-safe: the store calls it under its lock.

    Args:
        path: of the file; made if it is not there.

    Raises:
        StoreError: it cannot be opened, is damaged, or was written by a later version.

    Attributes:
        connection: the only one to the file, for whichever thread has the store's lock.
        path: of the file.
    """

    __slots__ = ("connection", "path")

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        with store_errors("open the store", path):
            touch(path)
            # The timeout is for readers with other tools, which may hold a lock for a moment.
            self.connection: Final = sqlite3.connect(
                path, timeout=5.0, isolation_level=None, check_same_thread=False
            )
        try:
            with store_errors("open the store", path):
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
        # With NORMAL, WAL's default advice, a power cut could lose commits that were published.
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
        """Commit the block's statements at its end; roll them back if it raises."""
        # IMMEDIATE takes the write lock first: the rows read here cannot change before COMMIT.
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self.connection.close()


@contextmanager
def store_errors(action: str, path: Path) -> Generator[None]:
    """Turn the block's errors of SQLite and of the file system into the store's.

    Args:
        action: the block's purpose, for the message: "keep epoch 7".
        path: the file, for errors that name none.

    Raises:
        StoreCorruptError: SQLite finds the file damaged.
        StoreWriteError: any other of these errors.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The low byte is the kind of error, the rest its details.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise _damaged(path, str(error)) from error
        raise _failed(action, path, str(error)) from error
    except OSError as error:
        raise _failed(action, error.filename or path, error.strerror or str(error)) from error


def _damaged(path: Path, fault: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} is damaged: {fault}; put it back from a backup (with its -wal file, and the "
        "artifacts folder), or move the whole store away and load the plugins anew",
        path=path,
    )


def _failed(action: str, path: Path | str, fault: str) -> StoreWriteError:
    return StoreWriteError(
        f"cannot {action} in {path}: {fault}; nothing was changed: make room there, or make it "
        "writable, and try again",
        path=path,
    )
