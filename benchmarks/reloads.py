"""What a reload costs, alone and beside a large heap."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, from_repeats, percentile
from benchmarks.plugin import host

if TYPE_CHECKING:
    from collections.abc import Iterator

_RELOADS = 200
_OBJECTS = 10_000_000


def measure() -> Iterator[Figure]:
    """Times of whole reloads of a 300-line plugin that nobody uses, so that no drain is in them."""
    alone = _reload_ms()
    yield from_repeats("reload of a 300-line plugin, but for the drain, p50", alone, "ms", 5.0)
    yield Figure("the same, p99", percentile(alone, 0.99), "ms")
    crowd = [[n] for n in range(_OBJECTS)]
    gc.collect()
    beside = _reload_ms()
    del crowd
    ratio = percentile(beside, 0.5) / percentile(alone, 0.5)
    yield Figure("the same beside ten million objects / alone, p50", ratio, "x", 1.2)


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
