"""Whether memory comes back: resident memory over thousands of reloads."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import Figure
from benchmarks.plugin import host

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST = 200
_MORE = 5_000


def measure() -> Iterator[Figure]:
    """Growth of the resident set over 5,000 reloads, after the first 200."""
    with host() as (rt, _):
        for _ in range(_FIRST):
            rt.reload("geo")
        before = _resident_mib()
        for _ in range(_MORE):
            rt.reload("geo")
        grown = _resident_mib() - before
    yield Figure("resident memory, growth over 5,000 reloads", grown, "MiB", 2.0)


def _resident_mib() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
