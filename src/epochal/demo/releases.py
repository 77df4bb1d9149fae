"""The changes that are made while queries run: a round of releases, repeated.

A round has everything that can happen to plugins: single reloads, two plugins that only fit
together in one change, releases that must be refused for four different reasons, a plugin that is
removed and comes back. A release that ends otherwise than it must fails the demonstration.

A release waits until the one before is published, so that each finds the versions that it was
written for, but not until the old generations have drained: those drains overlap, as they would in
a service with queries of any length. Half of the changes are made from a thread, half from the
event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from epochal.artifact import Artifact
from epochal.errors import (
    EpochalError,
    InitError,
    LinkError,
    RequiredByError,
    VersionConflictError,
)
from epochal.events import ChangeCommitted, ChangeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from epochal import Change, Cutover, Runtime
    from epochal.events import Event

_FOLDER: Final = Path(__file__).parent / "plugins"

# Each later version is an edit of the first one, which stands in the folder `plugins`.
_EDITS: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("units", "1.1.0"): {"= 1.609": "= 1.609344", "to three places": "exactly"},
    ("units", "2.0.0"): {"= 1.609": "= 1.852", "miles, to three places": "nautical miles"},
    ("delay", "1.1.0"): {"minutes < 15.0": "minutes < 10.0"},
    ("carbon", "1.1.0"): {"DETOUR_KM = 0.0": "DETOUR_KM = 95.0"},
    ("geo", "1.1.0"): {'"haversine"': '"law_of_cosines"'},
    ("geo", "1.2.0"): {"import pyarrow as pa": "import geodesics_of_tomorrow as pa"},
    ("geo", "1.3.0"): {"RADIANS = math.pi / 180.0": "RADIANS = 1.0", "units>=1,<2": "units>=1"},
    ("geo", "2.0.0"): {"6371.0088": "6371.2", "units>=1,<2": "units>=2,<3"},
}  # fmt: skip

Part: TypeAlias = tuple[Literal["load", "reload", "remove"], str, str]
"""A verb, a plugin and a version."""


@cache
def source(plugin: str, version: str) -> Artifact:
    """One version of a plugin of the demonstration."""
    path = _FOLDER / plugin
    is_package = path.is_dir()
    paths = sorted(p for p in path.iterdir() if p.is_file()) if is_package else [Path(f"{path}.py")]
    edits = {'version = "1.0.0"': f'version = "{version}"', **_EDITS.get((plugin, version), {})}
    files = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for old, new in edits.items():
            text = text.replace(old, new, 1)
        files[path.name] = text.encode()
    return Artifact(plugin, files, is_package)


@dataclass(frozen=True, slots=True)
class Release:
    """One change.

    Attributes:
        parts: the changes of plugins, all at once.
        refusal: the error that it must end with; None if it must be published.
    """

    parts: tuple[Part, ...]
    refusal: type[EpochalError] | None = None

    def record(self, change: Change) -> None:
        """Record all parts."""
        for verb, plugin, version in self.parts:
            if verb == "load":
                change.load(source(plugin, version))
            elif verb == "reload":
                change.reload(plugin, source(plugin, version))
            else:
                change.remove(plugin)


OPENING: Final = Release(
    tuple(("load", plugin, "1.0.0") for plugin in ("units", "geo", "delay", "carbon"))
)
"""The plugins that are active before the first query."""

ROUND: Final = (
    Release((("reload", "geo", "1.1.0"),)),
    Release((("reload", "delay", "1.1.0"),)),
    Release((("reload", "geo", "1.2.0"),), refusal=LinkError),
    Release((("reload", "units", "2.0.0"), ("reload", "geo", "2.0.0"))),
    Release((("reload", "carbon", "1.1.0"),)),
    Release((("reload", "geo", "1.3.0"),), refusal=InitError),
    Release((("remove", "carbon", ""),)),
    Release((("reload", "units", "1.1.0"),), refusal=VersionConflictError),
    Release((("reload", "delay", "1.0.0"),)),
    Release((("load", "carbon", "1.0.0"),)),
    Release((("remove", "geo", ""),), refusal=RequiredByError),
    Release((("reload", "units", "1.1.0"), ("reload", "geo", "1.0.0"))),
    Release((("reload", "units", "1.0.0"),)),
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
    """Makes changes and keeps their reports; used by one event loop.

    Attributes:
        committed: the reports of the changes that were published and have drained.
        refused: the number of releases that were refused as they must be.
        faults: descriptions of releases that did not end as they must.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt: Final = rt
        self._decided: Final[asyncio.Queue[None]] = asyncio.Queue()
        self.committed: Final[list[Cutover]] = []
        self.refused = 0
        self.faults: Final[list[str]] = []

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
        release.record(change)
        expected = release.refusal
        try:
            cutover = await (asyncio.to_thread(change.run) if in_thread else change.run_async())
        except EpochalError as error:
            if expected is not None and isinstance(error, expected):
                self.refused += 1
            else:
                self.faults.append(f"a release failed: {type(error).__name__}: {error}")
            return
        if expected is not None:
            self.faults.append(f"a release that had to be refused was published: {cutover.plugins}")
        self.committed.append(cutover)
