"""The watcher: a thread that looks at the folder, and changes the plugins that were saved.

Editors write in several steps, and a checkout writes many files, so the watcher waits until the
folder has been quiet for a moment: until two snapshots of it are equal. The system's notifications
only say *when* to look, the difference between two snapshots says *what* has changed. So a missed
notification (the system's queue overflows, the folder lies on another machine) loses no change:
there is a snapshot every few seconds anyway, also while notifications fail.

Plugins that changed together go into one change. If that is refused, each is tried on its own, so
that a broken plugin does not keep another from its new version. A refused plugin causes a
`SourceRefused` event, and its active generation stays. So does the active generation of a deleted
plugin, unless the watcher was made with ``remove=True``.

What lies in the folder is foreign: whatever reading it raises is a refusal of that file, and ends
neither the look nor the watcher.

Threads: all attributes but ``_stop`` belong to the watcher's own thread.
"""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from epochal._core.plugin.artifact import shown
from epochal._core.plugin.manifest import has_manifest, read_manifest
from epochal._core.sync.threads import start_thread
from epochal.artifact import read_artifact
from epochal.errors import EpochalError, HostError, RuntimeClosedError, format_error
from epochal.watch.snapshot import snapshot
from epochal.watch.source_choice import SavedPlugin, SourceChoice, is_same
from epochal.watch.source_events import (
    NotificationsFailed,
    SourceGone,
    SourceRefused,
    SourceRenamed,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from epochal.runtime import Runtime
    from epochal.watch.snapshot import Snapshot

    Notified = Collection[object]

_LONGEST_S: Final = 5.0
"""How long the watcher waits for a folder that is never quiet."""

_STEPS: Final = 8
"""In so many steps a settling time is divided for `watchfiles`, which notifies one or two steps
after a write. Fewer would add to the wait; more would wake the process more often (40 times a
second: two thousandths of a processor)."""


class Watcher:
    """Reloads a runtime's plugins from a folder, until it is closed; a context manager.

    Each `.py` file and each package with a manifest in the folder is a plugin; hidden ones are left
    out. Files that are there at the start count as seen, unless `load` is given.

    Args:
        runtime: loads the plugins.
        folder: of plugins.
        remove: whether a deleted plugin is removed.
        load: whether to load, before this returns, the plugins that are there and not active yet.
            One that is refused causes an event, as later.
        configs: the configuration of each plugin, by id, for when the watcher loads it; one that is
            active keeps its own.
        settle_s: seconds without a further write after which a change has settled; the watcher
            looks at most a quarter later.
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
        load: bool = False,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
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
        self._configs: Final = dict(configs or {})
        self._settle_s: Final = settle_s
        self._scan_s: Final = scan_s
        self._stop: Final = threading.Event()
        self._choice: Final = SourceChoice()
        self._choice.note_active(runtime.epoch)
        self._seen = {} if load else snapshot(self._folder)
        if load:
            # Here, before the thread: a file that is saved meanwhile is not missed.
            self._look(snapshot(self._folder))
        self._notifications: Final[Callable[[], Iterable[Collection[object]]]] = lambda: (
            watchfiles.watch(
                self._folder,
                stop_event=self._stop,
                step=max(1, round(settle_s * 1000 / _STEPS)),
                debounce=round(_LONGEST_S * 1000),
                rust_timeout=round(scan_s * 1000),
                yield_on_timeout=True,
            )
        )
        self._thread: Final = start_thread(self._run, name="epochal watch")

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
        for is_notified in self._wake_ups():
            try:
                # Without a notification, too, a file that has changed may be written just now.
                now = self._wait_until_quiet(None if is_notified else self._seen)
                if now is None:
                    return
                self._look(now)
            except RuntimeClosedError:
                return
            except Exception as error:  # noqa: BLE001  of one look; the next one is to come
                self._emit_refused(self._folder, error)

    def _wait_until_quiet(self, before: Snapshot | None) -> Snapshot | None:
        """Wait until nothing is written for the settling time.

        Args:
            before: a snapshot from long ago; None to wait in any case.

        Returns:
            A snapshot; None if the watcher is closed.
        """
        longest = monotonic() + _LONGEST_S
        while (now := snapshot(self._folder)) != before and monotonic() < longest:
            before = now
            if self._stop.wait(self._settle_s):
                return None
        return now

    def _wake_ups(self) -> Iterator[bool]:
        """Wake up at a change, which is true, and every few seconds."""
        failed = False
        while True:
            try:
                for changes in self._notifications():
                    failed = False
                    yield bool(changes)
            # A name that is not UTF-8, a folder that was replaced, too many watched folders: the
            # library raises for the whole folder.
            except Exception as error:  # noqa: BLE001  foreign, and begun again
                if not failed:
                    text = shown(format_error(error))
                    event = NotificationsFailed(path=shown(self._folder), error=text)
                    self._runtime.events.emit(event)
                pause_s, failed = self._scan_s if failed else self._settle_s, True
                if self._stop.wait(pause_s):
                    return
                yield False
            else:
                return

    def _look(self, now: Snapshot) -> None:
        before, self._seen = self._seen, now
        paths = [path for path, stamp in now.items() if before.get(path) != stamp]
        gone = [path for path in before if path not in now]
        if not paths and not gone:
            return
        paths += [path for path in self._choice.undecided if path in now and path not in paths]
        read = {path: one for path in paths if (one := self._read(path)) is not None}
        # No local variable has the epoch: a look lasts for as long as a change does.
        chosen, refused = self._choice.choose(self._runtime.epoch, read, now)
        for path, error in refused:
            self._emit_refused(path, error)
        saved = [one for one in chosen if not self._is_active(one)]
        self._apply(saved, self._removed(gone, list(read.values())))

    def _apply(self, saved: Sequence[SavedPlugin], removed: Sequence[tuple[Path, str]]) -> None:
        if not saved and not removed:
            return
        error = self._try(saved, removed)
        if error is None:
            return
        paths = [one.path for one in saved] + [path for path, _ in removed]
        if len(paths) == 1:
            self._emit_refused(paths[0], error)
            return
        for one in saved:
            if (error := self._try([one], [])) is not None:
                self._emit_refused(one.path, error)
        for path, plugin in removed:
            if (error := self._try([], [(path, plugin)])) is not None:
                self._emit_refused(path, error)

    def _try(
        self, saved: Sequence[SavedPlugin], removed: Sequence[tuple[Path, str]]
    ) -> Exception | None:
        """Load and remove in one change; returns the error if it is refused."""
        paths = dict.fromkeys([one.path for one in saved] + [path for path, _ in removed])
        names = shown(", ".join(path.name for path in paths))
        try:
            # Without a wait for the drain: the next save must not wait for a long query.
            with self._runtime.change(drain_timeout=0.0, reason=f"watch: {names}") as change:
                for one in saved:
                    is_new = one.plugin not in self._runtime.epoch.generations
                    config = self._configs.get(one.plugin) if is_new else None
                    change.put(one.artifact, config=config)
                for _, plugin in removed:
                    change.remove(plugin)
        except RuntimeClosedError:
            raise
        except Exception as error:  # noqa: BLE001  a host's kind may raise anything; it is emitted
            return error
        return None

    def _read(self, path: Path) -> SavedPlugin | None:
        """A saved plugin.

        Returns:
            None if it is refused, or if the file is not a plugin and never was one.
        """
        try:
            artifact = read_artifact(path)
            if not has_manifest(artifact) and self._plugin_from(path) is None:
                return None
            return SavedPlugin(path, read_manifest(artifact).id, artifact)
        except Exception as error:  # noqa: BLE001  whatever a foreign file raises
            self._emit_refused(path, error)
            return None

    def _is_active(self, saved: SavedPlugin) -> bool:
        """Whether a saved plugin is active in this version, from this path."""
        generation = self._runtime.epoch.generations.get(saved.plugin)
        if generation is None or generation.digest != saved.artifact.digest:
            return False
        origin = generation.candidate.artifact.origin
        return origin is not None and is_same(origin, saved.path)

    def _removed(self, gone: Sequence[Path], read: Sequence[SavedPlugin]) -> list[tuple[Path, str]]:
        """The plugins to remove, because their source is gone; else emits that it is."""
        staying = {one.plugin for one in read}  # a renamed file: its plugin is among the saved ones
        events: list[tuple[Path, str, SourceGone | SourceRenamed]] = []
        for path in gone:
            plugin = self._plugin_from(path)
            if plugin is not None and plugin not in staying:
                events.append((path, plugin, SourceGone(path=shown(path), plugin=plugin)))
        for one in read:
            plugin = self._plugin_from(one.path)
            if plugin is not None and plugin not in staying:
                renamed = SourceRenamed(path=shown(one.path), plugin=plugin, now=one.plugin)
                events.append((one.path, plugin, renamed))
        for _, _, event in events:
            if not self._remove or isinstance(event, SourceRenamed):
                self._runtime.events.emit(event)
        return [(path, plugin) for path, plugin, _ in events] if self._remove else []

    def _plugin_from(self, path: Path) -> str | None:
        """The active plugin that came from a path."""
        for plugin, generation in self._runtime.epoch.generations.items():
            origin = generation.candidate.artifact.origin
            if origin is not None and is_same(origin, path):
                return plugin
        return None

    def _emit_refused(self, path: Path, error: Exception) -> None:
        code, text = "internal", format_error(error)
        if isinstance(error, EpochalError):
            code, text = error.code, str(error)
        plugin = getattr(error, "plugin", None) or self._plugin_from(path)
        event = SourceRefused(path=shown(path), code=code, error=shown(text), plugin=plugin)
        self._runtime.events.emit(event)
