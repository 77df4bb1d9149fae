"""Memory after thousands of reloads, also of a plugin that leaves hooks and threads behind."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, sized
from benchmarks.plugin import host, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST = sized(500, 100)
_MORE = sized(10_000, 500)
_SWAPS = sized(500, 50)
_HELD = 50


def measure() -> Iterator[Figure]:
    """Yield the growth of the resident set over reloads, after the first few hundred."""
    with host() as (rt, _):
        for _ in range(_FIRST):
            rt.reload("geo")
        before = _resident_mib()
        for _ in range(_MORE):
            rt.reload("geo")
        grown = _resident_mib() - before
    yield Figure(f"resident memory, growth over {_MORE:,} reloads", grown, "MiB", 2.0)
    yield Figure("memory of one generation of 300 lines", _generation_kib(), "KiB")
    yield from _worst_neighbour()


def _generation_kib() -> float:
    """The memory of one more generation while its predecessors are held."""
    tracemalloc.start()
    with host() as (rt, _):
        held = [rt.epoch]
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(_HELD):
            rt.reload("geo", drain_timeout=0.0)
            held.append(rt.epoch)
        taken = tracemalloc.get_traced_memory()[0] - before
        held.clear()
    tracemalloc.stop()
    return taken / _HELD / 1024


def _worst_neighbour() -> Iterator[Figure]:
    """Yield the growth for a plugin with 233 KiB, an exit hook, a log handler and a thread."""
    handlers = len(logging.root.handlers)
    with host(text=worst()) as (rt, _):
        for _ in range(_FIRST):
            rt.reload("geo")
        resident, blocks = _resident_mib(), sys.getallocatedblocks()
        for _ in range(_SWAPS):
            cut = rt.reload("geo")
            assert cut.reclaimed, cut.leaks
        resident, blocks = _resident_mib() - resident, sys.getallocatedblocks() - blocks
        threads = sum(thread.name == "geo-poll" for thread in threading.enumerate()) - 1
        assert len(logging.root.handlers) == handlers + 1
    name = "worst neighbour (233 KiB, hook, handler, thread)"
    yield Figure(f"{name}, resident memory a swap", resident * 1024 / _SWAPS, "KiB", 5.0)
    yield Figure(f"{name}, memory blocks a swap", blocks / _SWAPS, "", 5.0)
    yield Figure(f"{name}, threads left over", threads, "", 0)


def _resident_mib() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
