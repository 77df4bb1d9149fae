"""Says of a folder that somebody uses it, to other processes too.

A build of an index may be served by several processes, which know nothing of each other; who wants
to remove it must know that nobody does. The lock is SQLite's, on an empty file beside the folder,
since that is the same on every platform, goes when its process goes, however it goes, and is not
inherited by a fork. Who uses a folder reads that file in a transaction; who removes the folder must
have it alone.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import touch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIX: Final = ".lock"
_PATIENCE_S: Final = 1.0
"""For so long a remover is waited for; it needs a moment, and then the folder is gone."""


class BuildLock:
    """Holds a folder in use until it is released or the process ends.

    Args:
        folder: which; it need not be there yet.
        make: make the lock's file too, for a folder that is about to be made.

    Raises:
        OSError: somebody is removing the folder, or has.
    """

    __slots__ = ("_connection", "_pid")

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        path = lock_of(folder)
        if make:
            touch(path)
        self._pid: Final = os.getpid()
        self._connection: Final = _connect(path)
        try:
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            self._connection.close()
            raise BlockingIOError(f"{folder} is being removed") from error

    def release(self) -> None:
        """Let it go; doing so again does nothing, and neither does it in a fork."""
        if self._pid == os.getpid():
            self._connection.close()


def remove_if_unused(folder: Path, remove: Callable[[Path], object]) -> bool:
    """Remove a folder and its lock, unless anybody uses it, in this process or another.

    Returns:
        Whether it was removed.
    """
    path = lock_of(folder)
    with suppress(OSError, sqlite3.Error):
        touch(path)  # of a folder that was left without
        with closing(_connect(path, patience_s=0.0)) as alone:
            alone.execute("BEGIN EXCLUSIVE")
            remove(folder)
            path.unlink(missing_ok=True)
            return True
    return False


def lock_of(folder: Path) -> Path:
    """The file that stands for a folder's lock."""
    return folder.with_name(folder.name + SUFFIX)


def _connect(path: Path, patience_s: float = _PATIENCE_S) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw",
            uri=True,
            timeout=patience_s,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA journal_mode = MEMORY")  # nobody shall find another file
    except sqlite3.Error as error:
        raise FileNotFoundError(f"{path} cannot be locked: {error}") from error
    return connection
