"""The memory of this process, its growth during a run, and the generations that keep theirs.

Running queries allocate and free tens of MiB all the time, so two single readings differ by that
much without any growth. The floor under a few seconds of readings is the memory that stays.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from epochal.events import GenerationLeaked
from epochal.observe.process_memory import resident_bytes

if TYPE_CHECKING:
    from epochal.demo.checks import Phase
    from epochal.events import Event

_FLOOR_OVER: Final = 30  # readings


class MemoryTrack:
    """Readings of the process's memory, by phase of a run, and the generations that leaked."""

    def __init__(self) -> None:
        self.leaks: Final[dict[str, str]] = {}  # generation -> the references to it, in words
        self._readings: Final[defaultdict[Phase, list[float]]] = defaultdict(list)

    def read(self, phase: Phase) -> None:
        """Take a reading."""
        if (resident := resident_mib()) is not None:
            self._readings[phase].append(resident)

    def on_event(self, event: Event) -> None:
        """Take an event of the runtime in; called by the subscription's thread."""
        if isinstance(event, GenerationLeaked):
            generation = f"{event.plugin}#{event.generation}"
            self.leaks[generation] = f"{generation} leaked: {'; '.join(map(str, event.leaks))}"

    def growth_mib(self, before: Phase, after: Phase) -> float | None:
        """Growth in MiB between the floors at the ends of two phases; None without readings."""
        first, last = self._readings[before], self._readings[after]
        if not (first and last):
            return None
        return min(last[-_FLOOR_OVER:]) - min(first[-_FLOOR_OVER:])


def resident_mib() -> float | None:
    """Resident memory in MiB; None where the system does not tell."""
    resident = resident_bytes()
    return None if resident is None else resident / 2**20
