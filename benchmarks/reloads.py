"""The cost of a reload, alone and beside a large heap."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, percentile, sized
from benchmarks.plugin import host

if TYPE_CHECKING:
    from collections.abc import Iterator

_RELOADS = sized(200, 50)
_OBJECTS = sized(10_000_000, 500_000)
# A computing thread gives way to another after the interpreter's switch interval, by default 5 ms.
# Stops are measured with the default, and with this short interval, which leaves only the stops
# during uninterruptible work, such as a collection.
_SWITCH_S = 0.0005


def measure() -> Iterator[Figure]:
    """Yield times of reloads of an unused 300-line plugin, which therefore include no drain."""
    alone = _reload_ms()
    yield from_repeats("reload of a 300-line plugin, but for the drain, p50", alone, "ms", 5.0)
    yield Figure("the same, p99", percentile(alone, 0.99), "ms")
    crowd = [[n] for n in range(_OBJECTS)]
    gc.collect()
    beside = _reload_ms()
    quiet, stops = _stops_ms()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    _, held = _stops_ms()
    sys.setswitchinterval(usual)
    del crowd
    ratio = percentile(beside, 0.5) / percentile(alone, 0.5)
    yield Figure("the same beside ten million objects / alone, p50", ratio, "x", 1.2)
    name = "longest stop of a thread beside them"
    yield Figure(f"{name}, without reloads", max(quiet), "ms")
    yield Figure(f"{name}, {_RELOADS} reloads", max(stops), "ms")
    yield Figure(f"{name}, threads switched each 0.5 ms", max(held), "ms", 5.0)


class _Ticker:
    """A thread that reads the clock all the time, and records the longest gap."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        last = time.perf_counter()
        while not self._ended:
            time.sleep(0.0002)  # a thread that holds the interpreter delays the wake-up
            now = time.perf_counter()
            self._longest = max(self._longest, now - last)
            last = now

    def take_ms(self) -> float:
        """The longest gap since the last call, in milliseconds."""
        longest, self._longest = self._longest, 0.0
        return longest * 1e3

    def end(self) -> None:
        """End the thread, and wait for it."""
        self._ended = True
        self._thread.join()


def _stops_ms() -> tuple[list[float], list[float]]:
    """The longest stop in each quiet span, and in each of the reloads between them."""
    quiet: list[float] = []
    busy: list[float] = []
    with host() as (rt, _):
        for _ in range(20):
            rt.reload("geo")
        ticker = _Ticker()
        try:
            for _ in range(_RELOADS):
                ticker.take_ms()
                time.sleep(0.02)
                quiet.append(ticker.take_ms())
                rt.reload("geo")
                busy.append(ticker.take_ms())
        finally:
            ticker.end()
    return quiet, busy


def _reload_ms() -> list[float]:
    times: list[float] = []
    with host() as (rt, _):
        for turn in range(_RELOADS + 20):
            started = time.perf_counter()
            cut = rt.reload("geo")
            taken = (time.perf_counter() - started) * 1e3
            assert cut.reclaimed, cut.leaks
            if turn >= 20:
                times.append(taken)
    return times
