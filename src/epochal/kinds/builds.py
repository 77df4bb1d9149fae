"""Where an index is persisted: each build in a folder of its own.

An index is read where it lies for as long as it serves, a page at a time even. So no build writes
over another: in the folder that a host gave, each gets a folder, and a file names the newest that
is whole. That is replaced, in one step, once all of it is on the disk; a build that fails, or a
process that dies in one, leaves the one before. What a later build has taken the place of goes when
nobody in this process refers to it any more.

Without a folder of the host's, a build is temporary and goes with the last reference to it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epochal._core.disk import sync_all, sync_folder, write_durably
from epochal.errors import HostError

if TYPE_CHECKING:
    from os import PathLike

_NEWEST: Final = "epochal-index.json"
_PREFIX: Final = "build-"


class Build:
    """A folder with one build of an index.

    Attributes:
        path: of it.
        home: the host's folder that it is in; None for a temporary one.
    """

    __slots__ = ("__weakref__", "home", "path")

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path: Final = path
        self.home: Final = home
        weakref.finalize(self, _discard, path, home)


_referred: Final[weakref.WeakValueDictionary[Path, Build]] = weakref.WeakValueDictionary()
"""The builds in folders of hosts: one object for each, however often it is opened."""


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
    home = Path(given).absolute()
    home.mkdir(parents=True, exist_ok=True)
    newest = _newest(home)
    if newest is not None and newest[0] != index:
        raise HostError(f"{given} holds the index {newest[0]}; give {index} a folder of its own")
    for left in home.glob(f"{_PREFIX}*"):  # by a process that died
        if (newest is None or left.name != newest[1]) and left not in _referred:
            shutil.rmtree(left, ignore_errors=True)
    return _in(home, Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home)).name)


def publish(build: Build, index: str) -> None:
    """Have a build be what is found in the host's folder; all of it is on the disk before.

    Raises:
        OSError: it cannot be kept; what was found before still is.
    """
    home = build.home
    if home is None:
        return
    sync_all(build.path)
    said = {"index": index, "build": build.path.name}
    write_durably(home / _NEWEST, json.dumps(said).encode())
    sync_folder(home)


def find(given: str | PathLike[str]) -> Build:
    """The newest build in a folder.

    Raises:
        HostError: there is none.
    """
    home = Path(given).absolute()
    newest = _newest(home)
    if newest is None or not (home / newest[1]).is_dir():
        raise HostError(f"there is no index in {given}; build one into it first")
    return _in(home, newest[1])


def _in(home: Path, name: str) -> Build:
    """The build of that name in a host's folder."""
    path = home / name
    found = _referred.get(path)
    return found if found is not None else _referred.setdefault(path, Build(path, home))


def _newest(home: Path) -> tuple[str, str] | None:
    """Which index, and which build of it; None where there is none that is whole."""
    try:
        said = json.loads((home / _NEWEST).read_text())
        return str(said["index"]), Path(said["build"]).name
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"{home / _NEWEST} is damaged: {error}; remove it, and build the index again"
        ) from error


def _discard(path: Path, home: Path | None) -> None:
    """Remove a build to which nobody refers, unless it is the newest in a host's folder."""
    try:
        newest = _newest(home) if home is not None else None
    except (HostError, OSError):
        return  # nobody knows which is the newest
    if newest is None or newest[1] != path.name:
        shutil.rmtree(path, ignore_errors=True)
