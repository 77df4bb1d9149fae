"""The number of the last committed epoch, beside the journal.

It serves for comparison only. It is written in place after a commit, without a sync: after a power
cut it may be behind or unreadable, but it is never ahead of what was committed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WIDTH: Final = 20


class Head:
    """The file `head`, made if it is not there. Not thread-safe: the store calls it under its lock.

    `warn` is called with a line when the file cannot be written.
    """

    __slots__ = ("_file", "_path", "_warn")

    def __init__(self, path: Path, warn: Callable[[str], object]) -> None:
        self._path: Final = path
        self._warn: Final = warn
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)

    def read(self) -> int | None:
        """The number; None if the file has no readable one."""
        text = self._path.read_bytes().strip()
        return int(text) if text.isdigit() else None

    def note(self, epoch: int) -> None:
        """Write the number. A failure is a warning, not an error: the commit has happened."""
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"{epoch:0{_WIDTH}}\n".encode())
        except OSError as error:
            self._warn(f"{self._path} cannot be written: {error.strerror}")

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
