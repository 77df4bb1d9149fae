"""What a change reports: frozen records that hold nothing of any plugin alive."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Version:
    """Which code: one generation of a plugin, by number, version and digest."""

    plugin: str
    generation: int
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.plugin}#{self.generation} {self.version} ({self.digest[:8]})"


@dataclass(frozen=True, slots=True)
class Swap:
    """What a change did to one plugin.

    Attributes:
        plugin: its id.
        old: what served before; None if the plugin is new.
        new: what serves now; None if the plugin was removed.
        drained: nobody uses the old generation any more, and it was shut down. True without one.
        reclaimed: the old generation's module, functions and classes are gone (empty class shells
            may wait for the next ordinary collection). True without one; False while it drains.
        wakeup_us: microseconds from the last release to the drain waking; None when nobody was
            waited for.
        pause_ms: milliseconds for which the plugin's services may have waited while what they keep
            was handed over; None when nothing was.
        holders: who still uses the old generation, if it has not drained: labelled operations and
            running calls; where there are none, whoever a look through the heap finds.
        leaks: what keeps the old generation's memory alive, if it was not reclaimed.
        failures: what raised while the old generation was shut down.
        cleaned_up: what the old generation had left in the process's tables (log handlers, warnings
            filters, exit hooks, …), and was taken out with it.
        dropped: state that the old generation kept and the new one has no place for.
    """

    plugin: str
    old: Version | None
    new: Version | None
    drained: bool = True
    reclaimed: bool = True
    wakeup_us: float | None = None
    pause_ms: float | None = None
    holders: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    cleaned_up: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cutover:
    """The report of one change.

    Attributes:
        change: the number of the change in its runtime.
        published: False for a dry run, which changed nothing.
        epoch_before: the number of the epoch that the change found.
        epoch_after: the number of the epoch that it published (the same for a dry run).
        swaps: what happened to each plugin that it touched, dependencies first.
        steps: its plan, a line a step.
        phases_ms: milliseconds for each phase: `wait` for other changes, `read`, `plan`, `link`,
            `compare`, `init`, `hand over`, `journal`, `publish`, `drain`, `shutdown`, `reclaim`.
        total_ms: milliseconds from the call to the report.
    """

    change: int
    published: bool
    epoch_before: int
    epoch_after: int
    swaps: tuple[Swap, ...] = ()
    steps: tuple[str, ...] = ()
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    total_ms: float = 0.0

    @property
    def drained(self) -> bool:
        """Whether every old generation was shut down."""
        return all(swap.drained for swap in self.swaps)

    @property
    def reclaimed(self) -> bool:
        """Whether every old generation's memory came back."""
        return all(swap.reclaimed for swap in self.swaps)

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that the change touched."""
        return tuple(swap.plugin for swap in self.swaps)

    @property
    def holders(self) -> tuple[str, ...]:
        """Who still uses an old generation, in a person's words."""
        return self._gather("holders")

    @property
    def leaks(self) -> tuple[str, ...]:
        """What keeps old generations' memory alive, in a person's words."""
        return self._gather("leaks")

    @property
    def failures(self) -> tuple[str, ...]:
        """What raised while old generations were shut down."""
        return self._gather("failures")

    @property
    def cleaned_up(self) -> tuple[str, ...]:
        """What old generations had left in the process's tables, and was taken out."""
        return self._gather("cleaned_up")

    @property
    def dropped(self) -> tuple[str, ...]:
        """State that old generations kept and new ones have no place for."""
        return self._gather("dropped")

    @property
    def cutover_ms(self) -> float:
        """Milliseconds of everything but waiting for others to end (`wait` and `drain`)."""
        return sum(ms for phase, ms in self.phases_ms.items() if phase not in {"wait", "drain"})

    def _gather(self, field: str) -> tuple[str, ...]:
        return tuple(line for swap in self.swaps for line in getattr(swap, field))

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON."""
        return asdict(self) | {
            "phases_ms": dict(self.phases_ms),
            "drained": self.drained,
            "reclaimed": self.reclaimed,
        }
