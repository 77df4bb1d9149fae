"""Operations that run while a scenario swaps plugins, and count their observations."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from conformance.plugin import UsedAfterShutdownError, source

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.system import System

_BETWEEN_S = 0.001


class Observations:
    """The observations of one worker's operations; only that worker writes them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.times: list[float] = []

    def note(self, error: BaseException) -> None:
        """Count an operation that raised."""
        if isinstance(error, UsedAfterShutdownError):
            self.counts["used after shutdown"] += 1
        elif isinstance(error, (LookupError, AttributeError, ImportError)):
            self.counts["missing"] += 1
        else:
            self.counts["failed"] += 1

    def note_pair(self, first: int, second: int) -> None:
        """Count an operation that saw two versions."""
        self.counts["mixed"] += first != second


def two_calls(system: System, observations: Observations) -> None:
    """One operation: a call, a millisecond, another call."""
    started = time.perf_counter()
    try:
        with system.begin() as look:
            first = look("geo", "a")()
            time.sleep(_BETWEEN_S)
            observations.note_pair(first, look("geo", "b")())
    except Exception as error:  # noqa: BLE001  counted
        observations.note(error)
    observations.times.append(time.perf_counter() - started)
    observations.counts["operations"] += 1


async def two_calls_in_a_task(system: System, observations: Observations) -> None:
    """One operation in a task: other tasks run between its two calls."""
    try:
        with system.begin() as look:
            first = look("geo", "a")()
            await asyncio.sleep(_BETWEEN_S)
            observations.note_pair(first, look("geo", "b")())
    except Exception as error:  # noqa: BLE001  counted
        observations.note(error)
    observations.counts["operations"] += 1


def run_during(
    system: System,
    work: Callable[[System, Observations], None],
    change: Callable[[], None],
    threads: int,
) -> list[Observations]:
    """Run `work` in threads, over and over, while `change` runs.

    Returns:
        The observations of each thread.
    """
    stop = threading.Event()
    observations = [Observations() for _ in range(threads)]

    def run(own: Observations) -> None:
        while not stop.is_set():
            work(system, own)

    workers = [threading.Thread(target=run, args=(own,), daemon=True) for own in observations]
    for worker in workers:
        worker.start()
    try:
        change()
    finally:
        stop.set()
        for worker in workers:
            worker.join(20)
    return observations


def swapping(system: System, count: int, *plugins: str) -> Callable[[], None]:
    """A function that swaps plugins `count` times, to versions 2, 3, and so on."""

    def change() -> None:
        for version in range(2, count + 2):
            system.swap({name: source(name, version) for name in plugins})
            time.sleep(_BETWEEN_S)

    return change


def total(observations: list[Observations]) -> Counter[str]:
    """The sum of all workers' counts."""
    counts: Counter[str] = Counter()
    for worker in observations:
        counts.update(worker.counts)
    return counts


def summary(counts: Counter[str]) -> str:
    """The counts as text, without zeros."""
    wrong = {name: n for name, n in counts.items() if n and name != "operations"}
    listed = ", ".join(f"{n:,} {name}" for name, n in sorted(wrong.items())) or "none wrong"
    return f"{counts['operations']:,} operations: {listed}"


def none_wrong(counts: Counter[str]) -> bool:
    """Whether no operation counted an error or a mixed pair."""
    return not any(n for name, n in counts.items() if name != "operations")
