"""Which of several files or folders with one id serves its plugin.

The problem: a conflict copy of a file server (`geo copy.py`), a touched backup (`geo.bak`), or the
old folder that a deployment moved aside all say that they are plugin `geo`, and have old code.

The rule: a plugin is served from the source that it came from for as long as that is there. Another
source with its id is refused. If its own source is gone, another one that is saved takes over: that
is a renamed file. If that was only the first half of a deployment (`mv geo geo.bak`, and a moment
later `mv geo.new geo`), the path that it came from has precedence again, unless the renamed one was
saved meanwhile. Of several sources of a plugin that is not active none is loaded, since nothing
says which is meant.

Belongs to the watcher's thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from epochal._core.plugin.artifact import shown
from epochal._core.plugin.discovery import is_source
from epochal.artifact import read_artifact, read_manifest
from epochal.errors import EpochalError, SourceConflictError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from epochal import Epoch, Generation
    from epochal.artifact import Artifact


@dataclass(frozen=True, slots=True)
class SavedPlugin:
    """A source that was saved: what it is, and its bytes."""

    path: Path
    plugin: str
    artifact: Artifact


class SourceChoice:
    """Chooses among the saved sources of a folder.

    Attributes:
        undecided: the sources that were refused because several are a plugin that is not active:
            they are to be looked at again once one of them is gone.
    """

    __slots__ = ("_claims", "_moved_from", "_sources", "undecided")

    def __init__(self) -> None:
        self._claims: dict[Path, str] = {}  # the id of each source, as last read
        self._sources: Final[dict[str, Path]] = {}  # where each plugin came from last
        self._moved_from: Final[dict[str, Path]] = {}  # by plugin: the path before a rename
        self.undecided: set[Path] = set()

    def note_active(self, epoch: Epoch) -> None:
        """Remember where the active plugins came from: an upload replaces code, not a source."""
        for plugin, generation in epoch.generations.items():
            origin = generation.candidate.artifact.origin
            if origin is not None:
                self._sources[plugin] = origin

    def choose(
        self, epoch: Epoch, saved: Mapping[Path, SavedPlugin], present: Collection[Path]
    ) -> tuple[list[SavedPlugin], list[tuple[Path, SourceConflictError]]]:
        """Choose the source of each plugin that was saved.

        Args:
            epoch: the current one.
            saved: what was saved and read, by its path.
            present: all sources in the folder.

        Returns:
            What is to be loaded, and what is refused.
        """
        self.note_active(epoch)
        self._claims = {path: plugin for path, plugin in self._claims.items() if path in present}
        self._claims.update((path, one.plugin) for path, one in saved.items())
        self.undecided &= set(present)
        chosen: list[SavedPlugin] = []
        refused: list[tuple[Path, SourceConflictError]] = []
        for plugin in dict.fromkeys(one.plugin for one in saved.values()):
            rivals = [one for one in saved.values() if one.plugin == plugin]
            serving = self._serving(plugin, saved, rivals)
            active = epoch.generations.get(plugin)
            if serving is not None and active is None:
                self._claims[serving], serving = plugin, None  # removed, but its file is there
            if serving is None:
                self._choose_new(plugin, active, rivals, chosen, refused)
                continue
            for one in rivals:
                if is_same(one.path, serving):
                    chosen.append(one)
                else:
                    paths = [shown(one.path)]
                    refused.append((one.path, SourceConflictError(plugin, paths, shown(serving))))
        return chosen, refused

    def _serving(
        self, plugin: str, saved: Mapping[Path, SavedPlugin], rivals: list[SavedPlugin]
    ) -> Path | None:
        """The path that a plugin is to be served from; None if its source is gone."""
        source = self._sources.get(plugin)
        if source is None:
            return None
        before = self._moved_from.get(plugin)
        if any(is_same(one.path, source) for one in rivals):
            self._moved_from.pop(plugin, None)  # it was saved: the renamed one is meant
        elif before is not None and any(is_same(one.path, before) for one in rivals):
            return before
        return source if _is_of(plugin, source, saved) else None

    def _choose_new(
        self,
        plugin: str,
        active: Generation | None,
        rivals: list[SavedPlugin],
        chosen: list[SavedPlugin],
        refused: list[tuple[Path, SourceConflictError]],
    ) -> None:
        """Choose the source of a plugin that has none: a new plugin, or a renamed file."""
        paths = sorted(path for path, claimed in self._claims.items() if claimed == plugin)
        if len(paths) > 1:
            error = SourceConflictError(plugin, [shown(path) for path in paths])
            refused += [(one.path, error) for one in rivals if one.path not in self.undecided]
            if active is None:
                self.undecided.update(paths)
            return
        self.undecided.difference_update(paths)
        [one] = rivals
        source = self._sources.get(plugin)
        if active is not None and source is not None and active.digest == one.artifact.digest:
            self._moved_from.setdefault(plugin, source)
        chosen.append(one)


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths are one place, however it is spelled. It need not exist."""
    if path == other:
        return True
    with suppress(OSError):
        return path.name == other.name and os.path.samefile(path.parent, other.parent)  # noqa: PTH121
    return False


def _is_of(plugin: str, source: Path, saved: Mapping[Path, SavedPlugin]) -> bool:
    """Whether a source is there, and a plugin's; a broken one is, for it is being written."""
    if not is_source(source):
        return False
    for path, one in saved.items():
        if is_same(path, source):
            return one.plugin == plugin
    try:
        return read_manifest(read_artifact(source)).id == plugin
    except EpochalError:
        return True
