"""A lock on a file between processes, shared or exclusive.

It is `flock`, which belongs to the opened file: it ends with its process, however that ends, and
other code of the process may open, read and close the same file, as a backup does. (A POSIX lock,
such as SQLite's, is lost then.) A forked child would share the opened file and keep the lock when
its parent dies, so it closes it first thing.

The file may be removed by the holder of its exclusive lock. A lock on a file that no longer has its
name is none: it is taken again.

Windows has no `flock`; there a transaction on an empty SQLite database does, whose locks belong to
the opened file as well.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import weakref
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from epochal._core.sync.forks import in_forked_child

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

_PAUSE_S: Final = 0.005

_files: Final[set[int]] = set()
"""The opened files of this process's locks; any thread adds and removes, one step each."""


class FileLock:
    """Holds a lock on a file until it is released or the process ends.

    Args:
        path: of an empty file, which must exist.
        shared: for any number of holders, as long as no exclusive one holds it.
        timeout: seconds to wait for a conflicting holder.

    Raises:
        BlockingIOError: another holder has it, here or in another process.
        FileNotFoundError: there is no such file.
        OSError: the file cannot be locked, for another reason.
    """

    __slots__ = ("__weakref__", "_end")

    def __init__(self, path: Path, *, shared: bool = False, timeout: float = 0.0) -> None:
        if sys.platform == "win32":
            transaction = _open_transaction(path, shared=shared, timeout=timeout)
            self._end: Final = weakref.finalize(self, transaction.close)
        else:
            file = _lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, timeout)
            self._end: Final = weakref.finalize(self, _close, file, os.getpid())
        self._end.atexit = False  # the end of the process ends it

    def release(self) -> None:
        """Release the lock. Idempotent; does nothing in a forked child, which has no lock."""
        self._end()


def _lock(path: Path, how: int, timeout: float) -> int:
    """The opened file, once it is locked."""
    deadline = monotonic() + timeout
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            if _has_name(file, path):
                return file
        except BlockingIOError:
            if monotonic() >= deadline:
                _close(file, os.getpid())
                raise BlockingIOError(f"{path} is locked") from None
            sleep(_PAUSE_S)
        except BaseException:
            _close(file, os.getpid())
            raise
        _close(file, os.getpid())


def _open(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR)  # a network's file system may want that
    except FileNotFoundError:
        raise
    except OSError:  # a read-only disk
        file = os.open(path, os.O_RDONLY)
    _files.add(file)
    return file


def _has_name(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _close(file: int, pid: int) -> None:
    if pid == os.getpid():  # a forked child has closed it
        _files.discard(file)
        os.close(file)


def _close_all() -> None:
    """In a forked child: let go of the parent's locks, which stay the parent's."""
    while _files:
        with suppress(OSError):
            os.close(_files.pop())


in_forked_child(_close_all)


def _open_transaction(path: Path, *, shared: bool, timeout: float) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        # No rollback journal: nothing is ever written, and no second file shall appear.
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN" if shared else "BEGIN EXCLUSIVE")
        if shared:  # SQLite locks at the first read, not at BEGIN
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
            raise BlockingIOError(f"{path} is locked") from error
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist") from error
        raise OSError(f"{path} cannot be locked: {error}") from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection
