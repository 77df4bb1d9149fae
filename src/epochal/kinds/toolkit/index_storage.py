"""Where an index is persisted: each build in a folder of its own.

An index is read in place for as long as it serves, even a page at a time, so no build writes over
another. In the folder that a host gave, each build gets a subfolder, and a file names the newest
whole one. That file is replaced, in one step, once all of the build is on the disk; a build that
fails, or dies with its process, leaves the one before. A superseded build is removed when no
process refers to it any more: each process that uses one holds a shared lock on the file beside its
folder, and its remover must have that lock exclusively. Any number of processes may build into one
folder; the last one wins.

Without a folder of the host's, a build is temporary and goes with the last reference to it. A
cleaner of temporary folders may remove it earlier: so its files are noted, and checked before it is
read again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import (
    UNFINISHED,
    sync_all,
    sync_folder,
    touch,
    write_durably,
)
from epochal._core.sync.file_lock import FileLock
from epochal.errors import HostError, format_error

if TYPE_CHECKING:
    from os import PathLike

_logger: Final = logging.getLogger("epochal.kinds")
_NEWEST: Final = "epochal-index.json"
_PREFIX: Final = "build-"
_NAME: Final = re.compile(rf"{_PREFIX}\w+")
_TRIES: Final = 100
_LOCK_SUFFIX: Final = ".lock"
_LOCK_TIMEOUT_S: Final = 1.0
"""A remover holds its lock for a moment only; then the folder is gone."""
_WRITTEN_WITHIN_S: Final = 3600.0
"""A file of a few bytes that is unfinished for longer was given up with its process."""


class Build:
    """A folder with one build of an index.

    Attributes:
        path: the folder.
        home: the host's folder that it is in; None for a temporary build.
    """

    __slots__ = ("__weakref__", "_files", "home", "path")

    def __init__(self, path: Path, home: Path | None = None, lock: FileLock | None = None) -> None:
        self.path: Final = path
        self.home: Final = home
        self._files: dict[str, int] = {}
        weakref.finalize(self, _discard, path, home, lock, os.getpid())

    def note(self) -> None:
        """Note which files the build has."""
        self._files = _files_in(self.path)

    @property
    def is_whole(self) -> bool:
        """Whether all noted files are there, with their sizes."""
        return self._files.items() <= _files_in(self.path).items()


_builds: Final[weakref.WeakValueDictionary[Path, Build]] = weakref.WeakValueDictionary()
"""The builds in hosts' folders that this process uses, by resolved path: one object for each.

Read and written by any thread, one step each.
"""


def begin(given: str | PathLike[str] | None, index: str) -> Build:
    """Make an empty folder to build an index into; it goes with the object unless published.

    Args:
        given: the host's folder, which is made if need be; None for a temporary build.
        index: the index's full name.

    Raises:
        HostError: the folder belongs to another index.
        OSError: the folder cannot be made.
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
    # The lock before the folder: an unlocked folder is taken for one that a dead process left.
    lock = _hold(path, make=True)
    try:
        path.mkdir(0o700)
    except BaseException:
        lock.release()
        raise
    return _builds.setdefault(path, Build(path, home, lock))


def publish(build: Build, index: str) -> None:
    """Make a build the newest in the host's folder, after all of it is on the disk.

    Raises:
        OSError: it cannot be written; the build before stays the newest.
    """
    build.note()
    home = build.home
    if home is None:
        return
    sync_all(build.path)
    record = {"index": index, "build": build.path.name}
    write_durably(home / _NEWEST, json.dumps(record).encode())
    # It is found from here on, so it must serve. If its name is not durable, that is logged only.
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
    """Open the newest build in a folder.

    Raises:
        HostError: the folder holds no build, or its pointer is damaged.
    """
    home = Path(given).resolve()
    for _ in range(_TRIES):  # another process may publish and remove between two steps
        newest = _newest(home)
        if newest is None:
            break
        if (build := _open(home, newest[1])) is not None:
            return build
        if not (home / newest[1]).is_dir() and _newest(home) == newest:
            break
    raise HostError(f"there is no index in {given}; build one into it first")


def _open(home: Path, name: str) -> Build | None:
    """The build of that name in a host's folder; None if it is being removed."""
    path = home / name
    if (known := _builds.get(path)) is not None:
        return known
    lock: FileLock | None = None
    try:
        lock = _hold(path, make=path.is_dir() and not _lock_file(path).exists())
    except (BlockingIOError, FileNotFoundError):
        return None
    except OSError:
        pass  # a read-only disk: no process removes anything there
    if not path.is_dir():
        if lock is not None:
            lock.release()
        return None
    build = _builds.setdefault(path, Build(path, home, lock))
    build.note()
    return build


def _clean(home: Path, newest: tuple[str, str] | None) -> None:
    """Remove what dead processes left: builds, and unfinished files."""
    for path in home.glob(f"{_NEWEST}.*"):
        with suppress(OSError):  # another process was first
            is_old = time.time() - path.stat().st_mtime > _WRITTEN_WITHIN_S
            if is_old and UNFINISHED.fullmatch(path.name.removeprefix(_NEWEST)):
                path.unlink()
    names = {path.name.removesuffix(_LOCK_SUFFIX) for path in home.glob(f"{_PREFIX}*")}
    for name in names:
        if _NAME.fullmatch(name) and (newest is None or name != newest[1]):
            _remove_unused(home / name)


def _newest(home: Path) -> tuple[str, str] | None:
    """The index and the name of its newest whole build; None if there is none."""
    try:
        record = json.loads((home / _NEWEST).read_text())
        index, name = str(record["index"]), str(record["build"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(home, format_error(error)) from error
    if not _NAME.fullmatch(name):
        raise _damaged(home, f"{name!r} is not the name of a build")
    return index, name


def _damaged(home: Path, why: str) -> HostError:
    return HostError(f"{home / _NEWEST} is damaged: {why}; remove it, and build the index again")


def _discard(path: Path, home: Path | None, lock: FileLock | None, pid: int) -> None:
    """Remove a build without references, unless it is the newest in a host's folder."""
    if pid != os.getpid():  # a fork: the parent still uses the build
        return
    if lock is not None:
        lock.release()
    if home is None:
        _remove(path)
        return
    _remove_unused(path)


def _hold(folder: Path, *, make: bool = False) -> FileLock:
    """Hold a folder in use, against removal by any process.

    Args:
        folder: need not exist yet.
        make: make the lock's file too.

    Raises:
        OSError: a process is removing the folder, or has.
    """
    for _ in range(_TRIES):
        if make:
            touch(_lock_file(folder))
        try:
            return FileLock(_lock_file(folder), shared=True, timeout=_LOCK_TIMEOUT_S)
        except FileNotFoundError:
            if not make:
                raise
            # Another process has cleaned up between the two steps.
        except BlockingIOError:
            break
    raise BlockingIOError(f"{folder} is being removed")


def _remove_unused(folder: Path) -> None:
    """Remove a folder and its lock, unless a process uses it, or it is the newest by now."""
    with suppress(OSError, HostError):  # in use, not this process's to remove, or not known
        touch(_lock_file(folder))  # a crash may have left a folder without
        lock = FileLock(_lock_file(folder))
        try:
            # Only now: the process that publishes a build holds its lock meanwhile.
            newest = _newest(folder.parent)
            if newest is None or newest[1] != folder.name:
                _remove(folder)
                _lock_file(folder).unlink(missing_ok=True)
        finally:
            lock.release()


def _lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK_SUFFIX)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _files_in(folder: Path) -> dict[str, int]:
    """The sizes of the files in a folder; empty if there is no such folder."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
