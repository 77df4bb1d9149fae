"""Watches a folder of plugins: a saved plugin is loaded or reloaded once the folder is quiet.

Editors write in several steps, and a checkout writes many files, so the watcher waits until the
folder has been quiet for a moment. Then it takes a snapshot of the folder: the system's
notifications only say *when* to look, the difference between two snapshots says *what* has changed.
So a missed notification (the system's queue overflows, the folder lies on another machine) loses no
change: there is a snapshot every few seconds anyway.

Plugins that changed together go into one change. If that is refused, each is tried on its own, so
that a broken plugin does not keep another from its new version. A refused plugin causes a
`SourceRefused` event, and its active generation stays. So does the active generation of a deleted
plugin, unless the watcher was made with ``remove=True``.

Threads: all attributes but ``_stop`` belong to the watcher's own thread.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from epochal._core.plugin.discovery import children_of, sources_in
from epochal._core.plugin.manifest import has_manifest, read_manifest
from epochal.artifact import Artifact, read_artifact
from epochal.errors import EpochalError, HostError, RuntimeClosedError, format_error
from epochal.events import Event

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from epochal.runtime import Runtime

    Stamp = tuple[tuple[str, int, int, int], ...]

_LONGEST_S: Final = 5.0
"""How long the watcher waits for a folder that is never quiet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRefused(Event):
    """A plugin in a watched folder was saved and refused; its active generation stays.

    Attributes:
        path: of the plugin's file or folder.
        code: the error's stable code.
        error: the error's text.
    """

    _LEVEL: ClassVar[int] = logging.ERROR
    _TEXT: ClassVar[str] = "{path} refused [{code}]: {error}"

    path: str
    code: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGone(Event):
    """An active plugin's file or folder was deleted; the plugin stays active."""

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "{path} is gone, {plugin} serves on"

    path: str
    plugin: str


class Watcher:
    """Reloads a runtime's plugins from a folder, until it is closed; a context manager.

    Each `.py` file and each package with a manifest in the folder is a plugin; hidden ones are left
    out. Files that are there at the start count as seen: load them first.

    Args:
        runtime: loads the plugins.
        folder: of plugins.
        remove: whether a deleted plugin is removed.
        settle_s: seconds without a further write after which a change has settled.
        scan_s: seconds between two snapshots without a notification.

    Raises:
        HostError: the folder does not exist, or `watchfiles` is not installed.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: str | os.PathLike[str],
        *,
        remove: bool = False,
        settle_s: float = 0.2,
        scan_s: float = 5.0,
    ) -> None:
        self._runtime: Final = runtime
        self._folder: Final = Path(folder).absolute()
        if not self._folder.is_dir():
            raise HostError(
                f"{self._folder} is not a folder; name the folder that holds the plugins"
            )
        try:
            import watchfiles
        except ImportError:
            raise HostError(
                "watching needs the package watchfiles: pip install 'epochal[watch]'"
            ) from None
        self._remove: Final = remove
        self._stop: Final = threading.Event()
        self._seen = _snapshot(self._folder)
        self._notifications: Final = watchfiles.watch(
            self._folder,
            stop_event=self._stop,
            step=round(settle_s * 1000),
            debounce=round(_LONGEST_S * 1000),
            rust_timeout=round(scan_s * 1000),
            yield_on_timeout=True,
        )
        self._thread: Final = threading.Thread(target=self._run, name="epochal watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching, after the change under way. Idempotent."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- the watcher's thread ----------------------------------------------------------------

    def _run(self) -> None:
        for _ in self._notifications:
            now, before = _snapshot(self._folder), self._seen
            self._seen = now
            saved = [path for path, stamp in now.items() if before.get(path) != stamp]
            gone = [path for path in before if path not in now]
            try:
                self._apply(saved, gone)
            except RuntimeClosedError:
                return

    def _apply(self, saved: list[Path], gone: list[Path]) -> None:
        artifacts = {path: plugin for path in saved if (plugin := self._read(path)) is not None}
        removed = self._removed(gone, staying={plugin for plugin, _ in artifacts.values()})
        if not artifacts and not removed:
            return
        error = self._try(artifacts, removed)
        if error is None:
            return
        paths = (*artifacts, *removed)
        if len(paths) == 1:
            self._emit_refused(paths[0], error)
            return
        for path in paths:
            saved_alone = {path: artifacts[path]} if path in artifacts else {}
            removed_alone = {path: removed[path]} if path in removed else {}
            if (error := self._try(saved_alone, removed_alone)) is not None:
                self._emit_refused(path, error)

    def _try(
        self, artifacts: Mapping[Path, tuple[str, Artifact]], removed: Mapping[Path, str]
    ) -> Exception | None:
        """Load and remove in one change; returns the error if it is refused."""
        names = ", ".join(path.name for path in (*artifacts, *removed))
        try:
            # Without a wait for the drain: the next save must not wait for a long query.
            with self._runtime.change(drain_timeout=0.0, reason=f"watch: {names}") as change:
                for _, artifact in artifacts.values():
                    change.put(artifact)
                for plugin in removed.values():
                    change.remove(plugin)
        except RuntimeClosedError:
            raise
        except Exception as error:  # noqa: BLE001  a host's kind may raise anything; it is emitted
            return error
        return None

    def _read(self, path: Path) -> tuple[str, Artifact] | None:
        """The id and the bytes of a saved plugin.

        Returns:
            None if the plugin is refused or already active in this version, or if the file is not a
            plugin and never was one.
        """
        try:
            artifact = read_artifact(path)
            if not has_manifest(artifact) and path not in self._origins():
                return None
            plugin = read_manifest(artifact).id
        except EpochalError as error:
            self._emit_refused(path, error)
            return None
        generation = self._runtime.epoch.generations.get(plugin)
        active = generation.candidate.artifact if generation is not None else None
        if active is not None and active.digest == artifact.digest and active.origin == path:
            return None
        return plugin, artifact

    def _removed(self, gone: list[Path], staying: set[str]) -> dict[Path, str]:
        """The plugins to remove, because their files are gone; else emits that they are."""
        origins = self._origins()
        # A renamed file is gone, but its plugin is among the saved ones.
        plugins = {p: origins[p] for p in gone if p in origins and origins[p] not in staying}
        if self._remove:
            return plugins
        for path, plugin in plugins.items():
            self._runtime.events.emit(SourceGone(path=str(path), plugin=plugin))
        return {}

    def _origins(self) -> dict[Path | None, str]:
        """The path of each active plugin's file or folder."""
        generations = self._runtime.epoch.generations.items()
        return {g.candidate.artifact.origin: plugin for plugin, g in generations}

    def _emit_refused(self, path: Path, error: Exception) -> None:
        code, text = "internal", format_error(error)
        if isinstance(error, EpochalError):
            code, text = error.code, str(error)
        self._runtime.events.emit(SourceRefused(path=str(path), code=code, error=text))


def _snapshot(folder: Path) -> dict[Path, Stamp]:
    """Each plugin file and package of a folder, with a stamp that changes when it is written."""
    return {
        path: _stamp(iter([path]) if path.suffix == ".py" and path.is_file() else _files(path))
        for path in sources_in(folder)
    }


def _files(folder: Path) -> Iterator[Path]:
    for path in children_of(folder):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _stamp(paths: Iterator[Path]) -> Stamp:
    stamps: list[tuple[str, int, int, int]] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # deleted since the folder was listed
            continue
        # The inode too: an editor that saves by renaming may keep the time and the size.
        stamps.append((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(stamps)
