"""Where an index is persisted: each build in a folder of its own.

An index is read where it lies for as long as it serves, a page at a time even. So no build writes
over another: in the folder that a host gave, each gets a folder, and a file names the newest that
is whole. That is replaced, in one step, once all of it is on the disk; a build that fails, or a
process that dies in one, leaves the one before. What a later build has taken the place of goes when
nobody refers to it any more, in this process or another: each holds it by a lock (`build_locks`).

Without a folder of the host's, a build is temporary and goes with the last reference to it. Whoever
cleans temporary folders may take it away before: so what is in it is noted, and looked for again
before it is read.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.tracebacks import format_error
from epochal._core.sync.durable_files import sync_all, sync_folder, write_durably
from epochal.errors import HostError
from epochal.kinds.toolkit.build_locks import SUFFIX, BuildLock, lock_of, remove_if_unused

if TYPE_CHECKING:
    from os import PathLike

_logger: Final = logging.getLogger("epochal.kinds")
_NEWEST: Final = "epochal-index.json"
_PREFIX: Final = "build-"
_NAME: Final = re.compile(rf"{_PREFIX}\w+")
_TRIES: Final = 10


class Build:
    """A folder with one build of an index.

    Attributes:
        path: of it.
        home: the host's folder that it is in; None for a temporary one.
    """

    __slots__ = ("__weakref__", "_files", "home", "path")

    def __init__(self, path: Path, home: Path | None = None, lock: BuildLock | None = None) -> None:
        self.path: Final = path
        self.home: Final = home
        self._files: dict[str, int] = {}
        weakref.finalize(self, _discard, path, home, lock, os.getpid())

    def note(self) -> None:
        """Note what is in it."""
        self._files = _files_in(self.path)

    @property
    def is_whole(self) -> bool:
        """Whether all that was noted is there."""
        return self._files.items() <= _files_in(self.path).items()


_referred: Final[weakref.WeakValueDictionary[Path, Build]] = weakref.WeakValueDictionary()
"""The builds in folders of hosts: one object for each, however often it is opened.

By where the folder really is, whatever links lead there. Read and written by any thread, one step
each.
"""


def begin(given: str | PathLike[str] | None, index: str) -> Build:
    """An empty folder to build an index into; it goes with the object unless it is published.

    Args:
        given: the host's folder, which is made; None for a temporary one.
        index: the index's full name.

    Raises:
        HostError: the folder is another index's.
        OSError: it cannot be made.
    """
    if given is None:
        return Build(Path(tempfile.mkdtemp(prefix="epochal-index-")))
    Path(given).mkdir(parents=True, exist_ok=True)
    home = Path(given).resolve()
    newest = _newest(home)
    if newest is not None and newest[0] != index:
        raise HostError(f"{given} holds the index {newest[0]}; give {index} a folder of its own")
    _clean(home, newest)
    path = home / f"{_PREFIX}{uuid.uuid4().hex}"
    lock = BuildLock(path, make=True)  # before the folder, or it would be taken for a left one
    path.mkdir(0o700)
    return _referred.setdefault(path, Build(path, home, lock))


def publish(build: Build, index: str) -> None:
    """Have a build be what is found in the host's folder; all of it is on the disk before.

    Raises:
        OSError: it cannot be kept; what was found before still is.
    """
    build.note()
    home = build.home
    if home is None:
        return
    sync_all(build.path)
    said_of_it = {"index": index, "build": build.path.name}
    write_durably(home / _NEWEST, json.dumps(said_of_it).encode())
    # It is found from here on, so it must serve; what is not durable is a name, and that is told.
    try:
        sync_folder(home)
    except OSError as error:
        _logger.warning(
            "index %s is built into %s, but may be gone after a power failure: %s",
            index,
            home,
            format_error(error),
        )


def find(given: str | PathLike[str]) -> Build:
    """The newest build in a folder.

    Raises:
        HostError: there is none.
    """
    home = Path(given).resolve()
    for _ in range(_TRIES):  # another process may publish and remove between two steps
        newest = _newest(home)
        if newest is None or not (home / newest[1]).is_dir():
            break
        if (found := _hold(home, newest[1])) is not None:
            return found
    raise HostError(f"there is no index in {given}; build one into it first")


def _hold(home: Path, name: str) -> Build | None:
    """The build of that name in a host's folder; None if it is removed this instant."""
    path = home / name
    if (found := _referred.get(path)) is not None:
        return found
    try:
        lock = BuildLock(path, make=path.is_dir() and not lock_of(path).exists())
    except (BlockingIOError, FileNotFoundError):
        return None
    except OSError:  # a read-only disk: nobody removes anything there
        lock = None
    if not path.is_dir():
        if lock is not None:
            lock.release()
        return None
    build = _referred.setdefault(path, Build(path, home, lock))
    build.note()
    return build


def _clean(home: Path, newest: tuple[str, str] | None) -> None:
    """Remove what processes left that died."""
    names = {one.name.removesuffix(SUFFIX) for one in home.glob(f"{_PREFIX}*")}
    for name in names:
        if _NAME.fullmatch(name) and (newest is None or name != newest[1]):
            remove_if_unused(home / name, _remove)


def _newest(home: Path) -> tuple[str, str] | None:
    """Which index, and which build of it; None where there is none that is whole."""
    try:
        found = json.loads((home / _NEWEST).read_text())
        index, name = str(found["index"]), str(found["build"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(home, format_error(error)) from error
    if not _NAME.fullmatch(name):
        raise _damaged(home, f"{name!r} is no build")
    return index, name


def _damaged(home: Path, why: str) -> HostError:
    return HostError(f"{home / _NEWEST} is damaged: {why}; remove it, and build the index again")


def _discard(path: Path, home: Path | None, lock: BuildLock | None, pid: int) -> None:
    """Remove a build to which nobody refers, unless it is the newest in a host's folder.

    It is still in use by whom this process was forked from, if it was.
    """
    if pid != os.getpid():
        return
    if lock is not None:
        lock.release()
    if home is None:
        _remove(path)
        return
    try:
        newest = _newest(home)
    except (HostError, OSError):
        return  # nobody knows which is the newest
    if newest is None or newest[1] != path.name:
        remove_if_unused(path, _remove)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _files_in(folder: Path) -> dict[str, int]:
    """The sizes of the files in a folder; none where it is not there."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
