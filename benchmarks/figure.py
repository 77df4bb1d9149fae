"""One measured figure with its goal, and fair comparisons of two pieces of code."""

from __future__ import annotations

import os
import statistics
import timeit
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


QUICK = os.environ.get("EPOCHAL_BENCH") == "quick"
"""Whether this is a quick run: fewer repeats and smaller sizes, and no results are written."""


def sized(whole: int, quick: int) -> int:
    """The size for this run: `whole`, or `quick` in a quick one."""
    return quick if QUICK else whole


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its goal.

    Attributes:
        name: the name of the measured quantity.
        value: the median over the repeats, unless the name says otherwise.
        unit: the unit of value and goal; empty for a ratio.
        goal: the most that the value may be (the least, if `higher`); None for no goal.
        spread: the lowest and highest repeat; None for a single measurement.
        higher: whether a higher value is better.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    spread: tuple[float, float] | None = None
    higher: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal, and in a quick run."""
        if self.goal is None or QUICK:
            return None
        return self.value >= self.goal if self.higher else self.value <= self.goal

    def as_dict(self) -> dict[str, Any]:
        """The fields and `reached` as a dictionary, ready for JSON."""
        return {**asdict(self), "reached": self.reached}


def from_repeats(
    name: str, values: list[float], unit: str, goal: float | None = None, *, higher: bool = False
) -> Figure:
    """A figure of several repeats: their median, with the spread."""
    spread = (min(values), max(values))
    return Figure(name, statistics.median(values), unit, goal, spread, higher)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all values (0 to 1) do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def compare_ns(
    first: str, second: str, names: Mapping[str, object], *, loops: int = 200_000, repeats: int = 25
) -> tuple[list[float], list[float]]:
    """Time two statements by turns, so that both meet the same state of the machine.

    Returns:
        Nanoseconds for each run of the statement, a value for each repeat, of both.
    """
    return interleaved(
        timeit.Timer(first, globals=dict(names)).timeit,
        timeit.Timer(second, globals=dict(names)).timeit,
        loops,
        repeats,
    )


def interleaved(
    first: Callable[[int], float], second: Callable[[int], float], loops: int, repeats: int
) -> tuple[list[float], list[float]]:
    """Run two timers by turns; returns the nanoseconds a loop of each, for every repeat."""
    a: list[float] = []
    b: list[float] = []
    for turn in range(repeats + 1):
        pair = (first(loops), second(loops))
        if turn:  # the first pair warms up
            a.append(pair[0] / loops * 1e9)
            b.append(pair[1] / loops * 1e9)
    return a, b


def ratios(a: list[float], b: list[float]) -> list[float]:
    """The ratio of each pair, `a` over `b`."""
    return [x / y for x, y in zip(a, b, strict=True)]
