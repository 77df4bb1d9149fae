"""What is released while queries run: a round of changes, repeated.

A round has everything that can happen to plugins: single reloads, two plugins that only fit
together in one change, releases that must be refused for four different reasons, a plugin that goes
and comes back. A change that ought to be refused and is not, or the other way round, fails the
demonstration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from epochal.errors import InitError, LinkError, RequiredByError, VersionConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from epochal._core.change.transaction import Change
    from epochal.errors import EpochalError

_FOLDER: Final = Path(__file__).parent / "plugins"


@dataclass(frozen=True, slots=True)
class Load:
    """A plugin that is not active comes in."""

    source: str

    def record(self, change: Change) -> None:
        """Ask for it."""
        change.load(find_source(self.source))


@dataclass(frozen=True, slots=True)
class Reload:
    """An active plugin is replaced."""

    plugin: str
    source: str

    def record(self, change: Change) -> None:
        """Ask for it."""
        change.reload(self.plugin, find_source(self.source))


@dataclass(frozen=True, slots=True)
class Remove:
    """An active plugin goes."""

    plugin: str

    def record(self, change: Change) -> None:
        """Ask for it."""
        change.remove(self.plugin)


Part: TypeAlias = Load | Reload | Remove


@dataclass(frozen=True, slots=True)
class Release:
    """One change.

    Attributes:
        parts: what is asked for at once.
        refusal: the error that it must end with; None for one that must be published.
    """

    parts: tuple[Part, ...]
    refusal: type[EpochalError] | None = None

    def record(self, change: Change) -> None:
        """Ask for all of it."""
        for part in self.parts:
            part.record(change)


OPENING: Final = Release(
    (Load("units_1_0"), Load("geo_1_0"), Load("delay_1_0"), Load("carbon_1_0")),
)
"""What is active before the first query."""

ROUND: Final = (
    Release((Reload("geo", "geo_1_1"),)),
    Release((Reload("delay", "delay_1_1"),)),
    Release((Reload("geo", "geo_1_2_does_not_load"),), refusal=LinkError),
    Release((Reload("units", "units_2_0"), Reload("geo", "geo_2_0"))),
    Release((Reload("carbon", "carbon_1_1"),)),
    Release((Reload("geo", "geo_1_3_does_not_start"),), refusal=InitError),
    Release((Remove("carbon"),)),
    Release((Reload("units", "units_1_1"),), refusal=VersionConflictError),
    Release((Reload("delay", "delay_1_0"),)),
    Release((Load("carbon_1_0"),)),
    Release((Remove("geo"),), refusal=RequiredByError),
    Release((Reload("units", "units_1_1"), Reload("geo", "geo_1_0"))),
    Release((Reload("units", "units_1_0"),)),
)
"""Ends with every plugin as in the opening, in new generations."""


def releases(reloads: int) -> Iterator[Release]:
    """Rounds, cut off after so many changes that are to be published."""
    published = 0
    for release in cycle(ROUND):
        if published == reloads:
            return
        published += release.refusal is None
        yield release


def find_source(name: str) -> Path:
    """The file or folder of a plugin version by its name, `geo_1_0`."""
    folder = _FOLDER / name
    return folder if folder.is_dir() else folder.with_suffix(".py")
