"""Files that survive a crash whole or not at all.

A file is written under a temporary name, synced and renamed; the name is durable once its folder is
synced too. Each writer has a temporary name of its own, so of several, in any number of processes,
the last one wins, and no reader finds less than a whole file. The content may hold secrets, so only
its owner can read it.
"""

from __future__ import annotations

import os
import re
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
UNFINISHED: Final = re.compile(r"\.[0-9a-f]{32}\.unfinished")
"""What a temporary name has after the file's own: after a crash it belongs to no process."""
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file whole; `sync_folder` makes its name durable.

    Raises:
        OSError: the file cannot be written; no part of it is left.
    """
    _replace(path, content, sync=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, without a sync: after a power cut its content may be missing.

    Raises:
        OSError: the file cannot be written; no part of it is left.
    """
    _replace(path, content, sync=False)


def _replace(path: Path, content: bytes, *, sync: bool) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")
    try:
        _write(unfinished, content, sync=sync)
        # After the sync in `_write`: renamed earlier, a crash would leave the name and no content.
        os.replace(unfinished, path)  # noqa: PTH105  the seam that tests break
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _write(path: Path, content: bytes, *, sync: bool) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, FILE_MODE)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        if sync:
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
