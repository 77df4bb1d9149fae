"""Files that are there after a crash, or were never there: never half of one.

A file is written under a temporary name, synced, and renamed; the name is durable once its folder
is synced too. What is stored may hold secrets, so only its owner reads it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
UNFINISHED: Final = ".unfinished"
"""What the temporary names end with: whatever has it after a crash is nobody's."""


def write_durably(path: Path, content: bytes) -> None:
    """Write a file whole; `sync_folder` makes its name durable.

    Raises:
        OSError: it cannot be written, and is not there.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        _write(unfinished, content)
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
        OSError: it cannot.
    """
    if os.name == "nt":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_all(folder: Path) -> None:
    """Make all that was written into a folder durable, by whomever.

    Raises:
        OSError: it cannot.
    """
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside comes first
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb+") as file:
                os.fsync(file)
    sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can look into, and its name durable, if it is not there.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)


def touch(path: Path) -> None:
    """Make an empty file that only its owner can read, if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))


_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
