"""The changes that are made while queries run: a round of releases, repeated.

A round has everything that can happen to plugins: single reloads, two plugins that only fit
together in one change, releases that must be refused for four different reasons, a plugin that is
removed and comes back, and one that is WebAssembly in its third version. A release that ends
otherwise than it must fails the demonstration.

A release waits until the one before is published, and so finds the versions that it was written
for, but not until the old generations have drained: drains overlap, as in a service with queries of
any length. Half of the changes are made from a thread, half from the event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epochal.artifact import Artifact, embed_manifest, read_artifact
from epochal.errors import (
    EpochalError,
    InitError,
    LinkError,
    MissingDependencyError,
    RequiredByError,
    VersionConflictError,
)
from epochal.events import ChangeCommitted, ChangeFailed

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from epochal import Change, Cutover, Runtime
    from epochal.events import Event

_FOLDER: Final = Path(__file__).parent / "plugins"

# Each later version is an edit of the first one, which stands in the folder `plugins`.
_EDITS: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("units", "1.1.0"): {"= 1.609": "= 1.609344", "to three places": "exactly"},
    ("units", "2.0.0"): {"= 1.609": "= 1.852", "miles, to three places": "nautical miles"},
    ("delay", "1.1.0"): {"minutes < 15.0": "minutes < 10.0"},
    ("carbon", "1.1.0"): {"DETOUR_KM = 0.0": "DETOUR_KM = 95.0"},
    ("geo", "1.1.0"): {"6371.0088": "6371.0"},
    ("geo", "1.2.0"): {"import pyarrow as pa": "import geodesics_of_tomorrow as pa"},
    ("geo", "1.3.0"): {"RADIANS = math.pi / 180.0": "RADIANS = 1.0", "units>=1,<2": "units>=1"},
    ("geo", "2.0.0"): {"6371.0088": "6371.2", "units>=1,<2": "units>=2,<3"},
}  # fmt: skip


WASM_VERSION: Final = "3.0.0"
"""The version of `geo` that is WebAssembly; all else is Python."""


def is_wasm(stamp: str) -> bool:
    """Whether the generation of `geo` with this stamp is WebAssembly."""
    return stamp.partition("#")[0] == WASM_VERSION


def edited(path: Path, edits: Mapping[str, str]) -> Artifact:
    """The plugin at a path, with each old text replaced by the new one."""
    first = read_artifact(path)
    files = {}
    for name, content in first.files.items():
        text = content.decode()
        for old, new in edits.items():
            text = text.replace(old, new)
        files[name] = text.encode()
    return Artifact(first.name, files, first.is_package)


@cache
def source(plugin: str, version: str) -> Artifact:
    """One version of a plugin of the demonstration.

    Raises:
        MissingDependencyError: it is WebAssembly, and what assembles and runs that is not there.
    """
    if (plugin, version) == ("geo", WASM_VERSION):
        return _assembled(_FOLDER / "geo_wasm")
    package = _FOLDER / plugin
    path = package if package.is_dir() else package.with_suffix(".py")
    edits = _EDITS.get((plugin, version), {})
    return edited(path, {'version = "1.0.0"': f'version = "{version}"', **edits})


def _assembled(folder: Path) -> Artifact:
    """The plugin `geo` of its WebAssembly text and its manifest."""
    try:
        import wasmtime
    except ImportError:
        raise MissingDependencyError(
            f"the demonstration's geo {WASM_VERSION} is WebAssembly, for which wasmtime is "
            "missing: pip install 'epochal[demo]'",
            plugin="geo",
        ) from None
    module = bytes(wasmtime.wat2wasm((folder / "geo.wat").read_text()))
    return Artifact("geo", {"geo.wasm": embed_manifest(module, (folder / "geo.toml").read_bytes())})


@dataclass(frozen=True, slots=True)
class Release:
    """One change."""

    parts: Mapping[str, str | None]  # plugin -> its next version; None if it is removed
    refusal: type[EpochalError] | None = None  # that it must end with; None if it is published

    def record(self, change: Change, active: Container[str]) -> None:
        """Record all parts; plugins that are not active are loaded."""
        for plugin, version in self.parts.items():
            if version is None:
                change.remove(plugin)
            elif plugin in active:
                change.reload(plugin, source(plugin, version))
            else:
                change.load(source(plugin, version))


PLUGINS: Final = ("units", "geo", "delay", "carbon")

OPENING: Final = Release(dict.fromkeys(PLUGINS, "1.0.0"))
"""The plugins that are active before the first query."""

ROUND: Final = (
    Release({"geo": "1.1.0"}),
    Release({"delay": "1.1.0"}),
    Release({"geo": "1.2.0"}, refusal=LinkError),
    Release({"units": "2.0.0", "geo": "2.0.0"}),
    Release({"carbon": "1.1.0"}),
    Release({"geo": "1.3.0"}, refusal=InitError),
    Release({"carbon": None}),
    Release({"units": "1.1.0"}, refusal=VersionConflictError),
    Release({"carbon": "1.0.0"}),
    Release({"geo": WASM_VERSION}),
    Release({"delay": "1.0.0"}),
    Release({"geo": None}, refusal=RequiredByError),
    Release({"units": "1.1.0", "geo": "1.0.0"}),
    Release({"units": "1.0.0"}),
)
"""Ends with every plugin as in the opening, in new generations."""


def releases(reloads: int) -> Iterator[Release]:
    """Rounds, cut off after so many releases that are published."""
    published = 0
    for release in cycle(ROUND):
        if published == reloads:
            return
        published += release.refusal is None
        yield release


class Deployer:
    """Makes changes and keeps their reports; used by one event loop."""

    def __init__(self, rt: Runtime) -> None:
        self._rt: Final = rt
        self._decided: Final[asyncio.Queue[None]] = asyncio.Queue()
        self.committed: Final[list[Cutover]] = []  # published and drained
        self.refused = 0  # as they must be
        self.faults: Final[list[str]] = []  # releases that did not end as they must

    async def run(self, planned: Sequence[Release], seconds: float) -> None:
        """Make all changes, evenly over so many seconds (or longer, if they take longer)."""
        loop = asyncio.get_running_loop()

        def on_event(event: Event) -> None:
            if isinstance(event, ChangeCommitted | ChangeFailed):
                loop.call_soon_threadsafe(self._decided.put_nowait, None)

        unsubscribe = self._rt.events.subscribe(on_event)
        try:
            started = loop.time()
            async with asyncio.TaskGroup() as drains:
                for number, release in enumerate(planned):
                    # A pace, not a synchronisation: no result depends on how long this takes.
                    due = started + seconds * number / len(planned)
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    drains.create_task(self._make(release, in_thread=number % 2 == 1))
                    await self._decided.get()  # each change emits exactly one of the two events
        finally:
            await asyncio.to_thread(unsubscribe)

    async def _make(self, release: Release, *, in_thread: bool) -> None:
        change = self._rt.change()
        release.record(change, self._rt.epoch.generations)
        expected = () if release.refusal is None else (release.refusal,)
        try:
            cutover = await (asyncio.to_thread(change.run) if in_thread else change.run_async())
        except expected:
            self.refused += 1
        except EpochalError as error:
            self.faults.append(f"a release failed: {type(error).__name__}: {error}")
        else:
            self.committed.append(cutover)
            if expected:
                text = f"a release that had to be refused was published: {cutover.plugins}"
                self.faults.append(text)
