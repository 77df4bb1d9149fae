"""How much each scenario does: the published matrix, or a quick look in the test suite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Counts for the scenarios that repeat.

    Attributes:
        swaps: while operations run.
        tasks: of an event loop.
        holders: of one function.
        reloads: asked for at once.
        saves: of equal length.
        memory_swaps: after as many again to warm up, divided by ten.
    """

    swaps: int = 200
    tasks: int = 100
    holders: int = 1000
    reloads: int = 100
    saves: int = 200
    memory_swaps: int = 2000


FULL = Size()
QUICK = Size(swaps=30, tasks=20, holders=100, reloads=20, saves=10, memory_swaps=100)
