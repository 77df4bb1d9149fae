"""The memory of this process, without a dependency for it, and its growth during a run.

Running queries allocate and free tens of MiB all the time, so two single readings differ by that
much without any growth. The floor under a few seconds of readings is the memory that stays.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from epochal.demo.lanes import Phase

_STATUS: Final = Path("/proc/self/status")
_FLOOR_OVER: Final = 30  # readings


class MemoryTrack:
    """Readings of the process's memory, by phase of a run."""

    def __init__(self) -> None:
        self._readings: Final[defaultdict[Phase, list[float]]] = defaultdict(list)

    def read(self, phase: Phase) -> None:
        """Take a reading."""
        if (resident := resident_mib()) is not None:
            self._readings[phase].append(resident)

    def growth_mib(self, before: Phase, after: Phase) -> float | None:
        """Growth in MiB between the floors at the ends of two phases; None without readings."""
        first, last = self._readings[before], self._readings[after]
        if not (first and last):
            return None
        return min(last[-_FLOOR_OVER:]) - min(first[-_FLOOR_OVER:])


def resident_mib() -> float | None:
    """Resident memory in MiB; None where the system has no `/proc`."""
    if not _STATUS.exists():
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
