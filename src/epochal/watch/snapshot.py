"""A look at a folder: each plugin file and package in it, with a stamp that changes when it does.

A folder that is being written, or that is broken, must not end the look: what cannot be read has no
part in a stamp.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from epochal._core.plugin.artifact import files_of
from epochal._core.plugin.discovery import sources_in

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    Stamp = tuple[tuple[str, int, int, int, int], ...]
    Snapshot = dict[Path, Stamp]


def snapshot(folder: Path) -> Snapshot:
    """Each plugin file and package of a folder, with its stamp."""
    return {
        path: _stamp([path] if os.path.isfile(path) else sorted(files_of(path, lambda _: None)))  # noqa: PTH113  pathlib's raises
        for path in sources_in(folder)
    }


def _stamp(paths: Iterable[Path]) -> Stamp:
    stamps: list[tuple[str, int, int, int, int]] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # deleted since the folder was listed, or a link in a circle
            continue
        # The inode too: an editor that saves by renaming may keep the time and the size. And the
        # time of the inode's own change: a folder that replaces another may be given its inodes.
        stamps.append((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_ctime_ns))
    return tuple(stamps)
