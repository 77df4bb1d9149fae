"""Watching a folder of plugins: what is saved there is loaded or reloaded once it has settled.

Editors write in several steps, and a checkout writes many files, so nothing is done until the
folder has been quiet for a moment. Then it is looked at: events only say *when* to look, the
difference between two looks says *what* has changed. So no event that is missed (the system's queue
overflows, the folder lies on another machine) loses a change: a look every few seconds finds it.

What changed together is asked for together, in one change; if that is refused, each on its own, so
that a broken plugin keeps no other from its new version. What is refused is told as an event, and
what served serves on. A deleted plugin serves on too, unless the watcher was told to remove it.

Who reads, who writes: everything but ``_stop`` belongs to the watcher's own thread.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.tracebacks import format_error
from epochal._core.plugin.discovery import children_of, sources_in
from epochal._core.plugin.manifest import has_manifest, read_manifest
from epochal.artifact import Artifact, read_artifact
from epochal.errors import EpochalError, HostError, RuntimeClosedError
from epochal.events import SourceGone, SourceRefused

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from epochal._core.change.transaction import Change
    from epochal.runtime import Runtime

    Stamp = tuple[tuple[str, int, int, int], ...]

_LONGEST_S: Final = 5.0
"""How long a folder that is never quiet is waited for."""


class Watcher:
    """Reloads a runtime's plugins from a folder, until it is closed; a context manager.

    Each `.py` file and each package with a manifest in the folder is a plugin; hidden ones are left
    out. What is there when it starts is taken as seen: load it yourself first.

    Args:
        runtime: whose plugins.
        folder: of plugins.
        remove: whether a deleted plugin is removed.
        settle: seconds without a further write after which a change has settled.
        look: seconds after which the folder is looked at although no event came.

    Raises:
        HostError: there is no such folder, or `watchfiles` is not installed.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: str | os.PathLike[str],
        *,
        remove: bool = False,
        settle: float = 0.2,
        look: float = 5.0,
    ) -> None:
        self._runtime: Final = runtime
        self._folder: Final = Path(folder).absolute()
        if not self._folder.is_dir():
            raise HostError(f"{self._folder} is no folder; name the folder that holds the plugins")
        try:
            import watchfiles
        except ImportError:
            raise HostError(
                "watching needs the package watchfiles: pip install 'epochal[watch]'"
            ) from None
        self._remove: Final = remove
        self._stop: Final = threading.Event()
        self._seen = _look(self._folder)
        self._wakes: Final = watchfiles.watch(
            self._folder,
            stop_event=self._stop,
            step=round(settle * 1000),
            debounce=round(_LONGEST_S * 1000),
            rust_timeout=round(look * 1000),
            yield_on_timeout=True,
        )
        self._thread: Final = threading.Thread(target=self._run, name="epochal watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; a change under way is finished first. Doing so again does nothing."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- the watcher's thread ----------------------------------------------------------------

    def _run(self) -> None:
        for _ in self._wakes:
            found, before = _look(self._folder), self._seen
            self._seen = found
            saved = [path for path, stamp in found.items() if before.get(path) != stamp]
            gone = [path for path in before if path not in found]
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
            self._refused(paths[0], error)
            return
        for path in paths:
            one = {path: artifacts[path]} if path in artifacts else {}
            goer = {path: removed[path]} if path in removed else {}
            if (error := self._try(one, goer)) is not None:
                self._refused(path, error)

    def _try(
        self, artifacts: Mapping[Path, tuple[str, Artifact]], removed: Mapping[Path, str]
    ) -> Exception | None:
        try:
            self._change(artifacts, removed)
        except RuntimeClosedError:
            raise
        except Exception as error:  # noqa: BLE001  a host's kind may raise anything; it is told
            return error
        return None

    def _change(
        self, artifacts: Mapping[Path, tuple[str, Artifact]], removed: Mapping[Path, str]
    ) -> None:
        names = ", ".join(path.name for path in (*artifacts, *removed))
        # Not waiting for the drain: the next save must not wait for a long query.
        with self._runtime.change(drain_timeout=0.0, reason=f"watch: {names}") as change:
            self._record(change, artifacts, removed)

    def _record(
        self,
        change: Change,
        artifacts: Mapping[Path, tuple[str, Artifact]],
        removed: Mapping[Path, str],
    ) -> None:
        for _, artifact in artifacts.values():
            change.put(artifact)
        for plugin in removed.values():
            change.remove(plugin)

    def _read(self, path: Path) -> tuple[str, Artifact] | None:
        """What was saved: which plugin, and its bytes.

        None if it is refused, serves already, or is none and never was.
        """
        try:
            artifact = read_artifact(path)
            if not has_manifest(artifact) and path not in self._origins():
                return None
            plugin = read_manifest(artifact).id
        except EpochalError as error:
            self._refused(path, error)
            return None
        active = self._runtime.epoch.generations.get(plugin)
        serving = active.candidate.artifact if active is not None else None
        if serving is not None and serving.digest == artifact.digest and serving.origin == path:
            return None
        return plugin, artifact

    def _removed(self, gone: list[Path], staying: set[str]) -> dict[Path, str]:
        """The plugins whose source is gone, if they are to be removed; otherwise it is told."""
        origins = self._origins()
        found = {p: origins[p] for p in gone if p in origins and origins[p] not in staying}
        if self._remove:
            return found
        for path, plugin in found.items():
            self._runtime.events.emit(SourceGone(path=str(path), plugin=plugin))
        return {}

    def _origins(self) -> dict[Path | None, str]:
        """Where each active plugin was read from."""
        generations = self._runtime.epoch.generations.items()
        return {g.candidate.artifact.origin: plugin for plugin, g in generations}

    def _refused(self, path: Path, error: Exception) -> None:
        code, text = "internal", format_error(error)
        if isinstance(error, EpochalError):
            code, text = error.code, str(error)
        self._runtime.events.emit(SourceRefused(path=str(path), code=code, error=text))


def _look(folder: Path) -> dict[Path, Stamp]:
    """Each file and package of a folder, and what tells that it was written."""
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
        except OSError:  # it was deleted meanwhile
            continue
        stamps.append((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(stamps)
