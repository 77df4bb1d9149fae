"""One runtime at a time has a store: an exclusive lock on a file beside the journal.

Other tools can still read the journal: they do not ask for this lock.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from epochal._core.sync.durable_files import touch
from epochal._core.sync.file_lock import FileLock
from epochal.errors import StoreInUseError

if TYPE_CHECKING:
    from pathlib import Path


def lock_store(folder: Path) -> FileLock:
    """Lock a store's folder until the lock is released or the process ends.

    Raises:
        StoreInUseError: another runtime has it; the message names its process.
        OSError: the folder cannot be written, or its lock not be used.
    """
    holder = folder / "holder"
    touch(folder / "lock")
    try:
        lock = FileLock(folder / "lock")
    except BlockingIOError:
        raise _in_use(folder, holder) from None
    try:
        touch(holder)  # readable by its owner alone, which `write_text` would not ensure
        holder.write_text(f"{os.getpid()}\n")
    except BaseException:
        lock.release()
        raise
    return lock


def _in_use(folder: Path, holder: Path) -> StoreInUseError:
    pid: int | None = None
    with suppress(OSError, ValueError):  # only for the message; the lock is what counts
        pid = int(holder.read_text())
    name = "another process" if pid is None else f"process {pid}"
    if pid == os.getpid():
        name = f"another runtime of this process ({pid})"
    return StoreInUseError(
        f"the store {folder} is in use by {name}; a store serves one runtime at a time: "
        "stop that one, or give this one a store of its own (a server of several workers, such as "
        "`uvicorn --workers 2`, starts a runtime in each: run one worker)",
        path=folder,
        pid=pid,
    )
