"""Files that survive a crash whole or not at all, and a lock on a file between processes.

A file is written under a temporary name, synced and renamed; the name is durable once its folder is
synced too. The content may hold secrets, so only its owner can read it.

The lock is SQLite's own, taken by a transaction on an empty database file. It is the same on every
platform, ends with its process, however that ends, and is not inherited by a fork.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
UNFINISHED: Final = ".unfinished"
"""The suffix of the temporary names: a file that has it after a crash belongs to no process."""
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file whole; `sync_folder` makes its name durable.

    Raises:
        OSError: the file cannot be written; no part of it is left.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        _write(unfinished, content)
        # After the sync in `_write`: renamed earlier, a crash would leave the name and no content.
        os.replace(unfinished, path)  # noqa: PTH105  the seam that tests break
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _write(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, FILE_MODE)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (Windows does so by itself).

    Raises:
        OSError: the folder cannot be synced.
    """
    if os.name == "nt":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_all(folder: Path) -> None:
    """Make everything in a folder durable, whichever code wrote it.

    Raises:
        OSError: a file or folder cannot be synced.
    """
    for path in sorted(folder.rglob("*"), reverse=True):  # contents before their folder
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb+") as file:
                os.fsync(file)
    sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can read, and its name durable, unless it exists.

    Raises:
        OSError: the folder cannot be made, or something else has its name.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)


def touch(path: Path) -> None:
    """Make an empty file that only its owner can read, unless it exists.

    Raises:
        OSError: the file cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))


class FileLock:
    """Holds a lock on a file until it is released or the process ends.

    Args:
        path: of an empty file, which must exist (`touch`).
        shared: for any number of holders, as long as no exclusive one holds it.
        timeout: seconds to wait for a conflicting holder.

    Raises:
        BlockingIOError: another holder has it, here or in another process.
        FileNotFoundError: there is no such file.
        sqlite3.Error: the file cannot be locked, for another reason.
    """

    __slots__ = ("_connection", "_pid")

    def __init__(self, path: Path, *, shared: bool = False, timeout: float = 0.0) -> None:
        self._pid: Final = os.getpid()
        try:
            self._connection: Final = _open_transaction(path, shared=shared, timeout=timeout)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
                raise BlockingIOError(f"{path} is locked") from error
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist") from error
            raise

    def release(self) -> None:
        """Release the lock. Idempotent; does nothing in a forked child, which has no lock."""
        if self._pid == os.getpid():
            self._connection.close()


def _open_transaction(path: Path, *, shared: bool, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # No rollback journal: nothing is ever written, and no second file shall appear.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN" if shared else "BEGIN EXCLUSIVE")
        if shared:  # SQLite locks at the first read, not at BEGIN
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
