"""One measured figure, what it should be, and how to compare two pieces of code fairly."""

from __future__ import annotations

import os
import statistics
import timeit
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


QUICK = os.environ.get("EPOCHAL_BENCH") == "quick"
"""Whether a minute has to do: fewer repeats and smaller sizes, for a look and not for a record."""


def sized(whole: int, quick: int) -> int:
    """How many: of a whole run, or of a quick one."""
    return quick if QUICK else whole


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its goal.

    Attributes:
        name: what was measured.
        value: the median over the repeats, unless the name says otherwise.
        unit: of value and goal; empty for a ratio.
        goal: what it should be at most (at least, where `higher` is set); None for no goal.
        spread: lowest and highest of the repeats; None where there is one.
        higher: more is better.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    spread: tuple[float, float] | None = None
    higher: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None or QUICK:
            return None
        return self.value >= self.goal if self.higher else self.value <= self.goal

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "reached": self.reached}


def from_repeats(
    name: str, values: list[float], unit: str, goal: float | None = None, *, higher: bool = False
) -> Figure:
    """The median of several repeats."""
    spread = (min(values), max(values))
    return Figure(name, statistics.median(values), unit, goal, spread, higher)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all values (0 to 1) do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def compare_ns(
    first: str, second: str, names: Mapping[str, object], *, loops: int = 200_000, repeats: int = 25
) -> tuple[list[float], list[float]]:
    """Nanoseconds a statement, of two statements by turns, so that both see the same machine."""
    return interleaved(
        timeit.Timer(first, globals=dict(names)).timeit,
        timeit.Timer(second, globals=dict(names)).timeit,
        loops,
        repeats,
    )


def interleaved(
    first: Callable[[int], float], second: Callable[[int], float], loops: int, repeats: int
) -> tuple[list[float], list[float]]:
    """Run two timers by turns; nanoseconds a loop of each."""
    a: list[float] = []
    b: list[float] = []
    for turn in range(repeats + 1):
        pair = (first(loops), second(loops))
        if turn:  # the first pair warms up
            a.append(pair[0] / loops * 1e9)
            b.append(pair[1] / loops * 1e9)
    return a, b


def ratios(a: list[float], b: list[float]) -> list[float]:
    """Of each pair."""
    return [x / y for x, y in zip(a, b, strict=True)]
