"""One runtime at a time has a store: an exclusive lock on a file beside the journal.

Other tools can still read the journal: they do not ask for this lock.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import FILE_MODE, FileLock, touch
from epochal.errors import StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path


class StoreLock:
    """Holds a store until it is released or the process ends.

    Args:
        folder: the store's.

    Raises:
        StoreInUseError: another runtime has it; the message names its process.
        OSError: the folder cannot be written.
        sqlite3.Error: its lock cannot be used.
    """

    __slots__ = ("_lock",)

    def __init__(self, folder: Path) -> None:
        touch(folder / "lock")
        try:
            self._lock: Final = FileLock(folder / "lock")
        except BlockingIOError:
            raise _in_use(folder) from None
        try:
            _write_holder(folder / "holder")
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let the store go. Idempotent."""
        self._lock.release()


def _write_holder(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        os.write(file, f"{os.getpid()}\n".encode())
    finally:
        os.close(file)


def _in_use(folder: Path) -> StoreInUseError:
    pid: int | None = None
    with suppress(OSError, ValueError):  # only for the message; the lock is what counts
        pid = int((folder / "holder").read_text())
    holder = "another process" if pid is None else f"process {pid}"
    if pid == os.getpid():
        holder = f"another runtime of this process ({pid})"
    return StoreInUseError(
        f"the store {folder} is in use by {holder}; a store serves one runtime at a time: "
        "stop that one, or give this one a store of its own",
        path=folder,
        pid=pid,
    )
