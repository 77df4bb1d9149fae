"""How much memory this process has, without a dependency for it, and by how much it grew.

Queries that run take and give back tens of MiB all the time, so two single readings differ by that
much though nothing grew. The floor under a few seconds of readings is what stays.
"""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from epochal.demo.lanes import Phase

_STATUS: Final = Path("/proc/self/status")
_MIB: Final = 1024 * 1024
_FLOOR_OVER: Final = 30  # readings


class MemoryTrack:
    """Readings of the process's memory, by phase of a run."""

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read: Final[defaultdict[Phase, list[float]]] = defaultdict(list)

    def read(self, phase: Phase) -> None:
        """Take a reading."""
        resident = resident_mib()
        if resident is not None:
            self._read[phase].append(resident)

    def growth_mib(self, before: Phase, after: Phase) -> float | None:
        """From the floor at the end of one phase to that at the end of another, in MiB.

        None where there are no readings.
        """
        if not (self._read[before] and self._read[after]):
            return None
        return min(self._read[after][-_FLOOR_OVER:]) - min(self._read[before][-_FLOOR_OVER:])


def resident_mib() -> float | None:
    """Resident memory in MiB.

    As it is now on Linux, its highest so far on other Unixes; None where the standard library has
    no way to know.
    """
    if _STATUS.exists():
        line = next(one for one in _STATUS.read_text().splitlines() if one.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024
