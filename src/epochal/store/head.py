"""The number of the last committed epoch, beside the journal.

It is there to be compared, not to be relied on: it is written in place after a commit, without a
sync, so after a power cut it may be behind or unreadable, but never ahead.
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
    """The file `head`. Its callers take turns.

    Args:
        path: of the file; made if it is not there.
        tell: is told when it cannot be written.

    Raises:
        OSError: it cannot be opened.
    """

    __slots__ = ("_file", "_path", "_tell")

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        self._path: Final = path
        self._tell: Final = tell
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)

    def read(self) -> int | None:
        """The number; None if there is none that can be read."""
        text = self._path.read_bytes().strip()
        return int(text) if text.isdigit() else None

    def note(self, epoch: int) -> None:
        """Write the number; a failure is told, since the commit has happened."""
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"{epoch:0{_WIDTH}}\n".encode())
        except OSError as error:
            self._tell(f"{self._path} cannot be written: {error.strerror}")

    def close(self) -> None:
        """Close the file; doing so again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
