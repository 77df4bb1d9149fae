"""The sizes of the scenarios: full for the published matrix, quick for the test suite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Counts for the scenarios that repeat.

    Attributes:
        swaps: the swaps while operations run.
        tasks: the tasks of an event loop.
        holders: the operations under way during one swap.
        reloads: the swaps that are requested at once.
        saves: the saved versions of equal length.
        memory_swaps: the swaps after which memory must have come back.
    """

    swaps: int = 200
    tasks: int = 100
    holders: int = 1000
    reloads: int = 100
    saves: int = 200
    memory_swaps: int = 2000


FULL = Size()
QUICK = Size(swaps=8, tasks=20, holders=100, reloads=10, saves=5, memory_swaps=40)
