"""One runtime at a time has a store.

The lock is SQLite's own, an exclusive transaction on an empty database beside the journal, because
that is the same on every platform, goes when the process goes, however it goes, and is not
inherited by a fork. Reading the journal with other tools stays possible: they do not ask for it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import FILE_MODE, touch
from epochal.errors import StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path


class StoreLock:
    """Holds a store until it is released or the process ends.

    Args:
        folder: the store's.

    Raises:
        StoreInUseError: somebody else has it; the message names the process.
        OSError: the folder cannot be written.
        sqlite3.Error: the same, as SQLite says it.
    """

    __slots__ = ("_connection",)

    def __init__(self, folder: Path) -> None:
        touch(folder / "lock")
        self._connection: Final = sqlite3.connect(
            folder / "lock", timeout=0.0, isolation_level=None, check_same_thread=False
        )
        try:
            # No rollback journal: nothing is ever written, and nobody shall find one.
            self._connection.execute("PRAGMA journal_mode = MEMORY")
            self._connection.execute("BEGIN EXCLUSIVE")
            _write_holder(folder / "holder")
        except BaseException as error:
            self._connection.close()
            if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
                raise _in_use(folder) from None
            raise

    def release(self) -> None:
        """Let the store go; doing so again does nothing."""
        self._connection.close()


def _write_holder(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        os.write(file, f"{os.getpid()}\n".encode())
    finally:
        os.close(file)


def _in_use(folder: Path) -> StoreInUseError:
    pid: int | None = None
    with suppress(OSError, ValueError):  # it is there for people; the lock is what counts
        pid = int((folder / "holder").read_text())
    who = "another process" if pid is None else f"process {pid}"
    if pid == os.getpid():
        who = f"another runtime of this process ({pid})"
    return StoreInUseError(
        f"the store {folder} is in use by {who}; a store serves one runtime at a time: "
        "stop that one, or give this one a store of its own",
        path=folder,
        pid=pid,
    )
