"""Operations that run while a scenario swaps, and count what they see."""

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


class Seen:
    """What the operations of one worker saw; written by that worker."""

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


def two_calls(system: System, seen: Seen) -> None:
    """One operation: a call, a millisecond, another call."""
    started = time.perf_counter()
    try:
        with system.begin() as look:
            first = look("geo", "a")()
            time.sleep(_BETWEEN_S)
            seen.note_pair(first, look("geo", "b")())
    except Exception as error:  # noqa: BLE001  counted
        seen.note(error)
    seen.times.append(time.perf_counter() - started)
    seen.counts["operations"] += 1


async def two_calls_in_a_task(system: System, seen: Seen) -> None:
    """The same in a task; others run in the meantime."""
    try:
        with system.begin() as look:
            first = look("geo", "a")()
            await asyncio.sleep(_BETWEEN_S)
            seen.note_pair(first, look("geo", "b")())
    except Exception as error:  # noqa: BLE001  counted
        seen.note(error)
    seen.counts["operations"] += 1


def beside(
    system: System, work: Callable[[System, Seen], None], change: Callable[[], None], threads: int
) -> list[Seen]:
    """Run `work` again and again in threads while `change` runs; what each thread saw."""
    stop = threading.Event()
    seen = [Seen() for _ in range(threads)]

    def run(mine: Seen) -> None:
        while not stop.is_set():
            work(system, mine)

    workers = [threading.Thread(target=run, args=(mine,), daemon=True) for mine in seen]
    for worker in workers:
        worker.start()
    try:
        change()
    finally:
        stop.set()
        for worker in workers:
            worker.join(20)
    return seen


def swapping(system: System, count: int, *plugins: str) -> Callable[[], None]:
    """Swaps plugins to versions 2, 3, and so on."""

    def change() -> None:
        for version in range(2, count + 2):
            system.swap({name: source(name, version) for name in plugins})
            time.sleep(_BETWEEN_S)

    return change


def total(seen: list[Seen]) -> Counter[str]:
    """All counts together."""
    counts: Counter[str] = Counter()
    for one in seen:
        counts.update(one.counts)
    return counts


def said(counts: Counter[str]) -> str:
    """Counts in words, zeros left out."""
    wrong = {name: n for name, n in counts.items() if n and name != "operations"}
    listed = ", ".join(f"{n:,} {name}" for name, n in sorted(wrong.items())) or "none wrong"
    return f"{counts['operations']:,} operations: {listed}"


def none_wrong(counts: Counter[str]) -> bool:
    """Whether every operation saw what it should."""
    return not any(n for name, n in counts.items() if name != "operations")
