"""Operations under reloads: two calls with a millisecond between them, on four threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, percentile, sized
from benchmarks.plugin import host
from epochal.kinds import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from epochal import Runtime

_THREADS = 4
_ROUNDS = sized(15, 3)
_WINDOW_S = float(sized(3, 1))
_RELOADS_PER_S = 10


def measure() -> Iterator[Figure]:
    """Yield figures quiet and under reloads, by turns; each reload compiles a new version."""
    quiet: list[list[float]] = []
    busy: list[list[float]] = []
    wrong = 0
    with host() as (rt, path):
        _window(rt, None)
        for turn in range(_ROUNDS):
            first, second = (None, path) if turn % 2 else (path, None)
            for target in (first, second):
                taken, bad = _window(rt, target)
                (quiet if target is None else busy).append(taken)
                wrong += bad
    for share, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
        values = [percentile(taken, share) * 1e3 for taken in quiet]
        yield from_repeats(f"operation {name}, quiet", values, "ms")
        pairs = [
            percentile(b, share) / percentile(a, share) for a, b in zip(quiet, busy, strict=True)
        ]
        goal = 1.10 if name == "p99" else None
        label = f"operation {name} at {_RELOADS_PER_S} reloads a second / quiet"
        yield from_repeats(label, pairs, "x", goal)
    yield Figure("operations", sum(map(len, (*quiet, *busy))), "")
    yield Figure("operations failed, mixed, missing or used late", wrong, "", 0)


def _window(rt: Runtime, path: Path | None) -> tuple[list[float], int]:
    """Run operations for one window, with reloads of `path` meanwhile unless it is None.

    Returns:
        The seconds of each operation, and the number of wrong or failed ones.
    """
    taken: list[list[float]] = [[] for _ in range(_THREADS)]
    wrong = [0] * _THREADS
    ended = threading.Event()

    def operate(place: int) -> None:
        while not ended.is_set():
            started = time.perf_counter()
            try:
                exports = rt.epoch[scalar]
                before = exports["geo.enter"](1.0)
                time.sleep(0.001)
                after = exports["geo.double"](0.5)
                wrong[place] += before != after
            except Exception:  # noqa: BLE001  counted
                wrong[place] += 1
            del exports
            taken[place].append(time.perf_counter() - started)

    threads = [threading.Thread(target=operate, args=(place,)) for place in range(_THREADS)]
    for thread in threads:
        thread.start()
    started, count = time.perf_counter(), 0
    while time.perf_counter() < started + _WINDOW_S:
        time.sleep(1.0 / _RELOADS_PER_S)
        if path is not None:
            path.write_text(f"{path.read_text().partition('# save')[0]}# save {count}\n")
            rt.reload("geo")
            count += 1
    ended.set()
    for thread in threads:
        thread.join()
    return [value for times in taken for value in times], sum(wrong)
