"""Ends queries when the process takes too much memory.

The problem: the engine's limit of a query's memory does not count everything. A join that gathers
rows without columns, and functions that make long values of short ones, grow for as long as the
query runs, until the system kills the process.

The idea: several times a second, look at the memory of the process. While it is above the limit,
the query that has run longest is ended, one at each look. The engine lets go of its memory within a
second or two.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from epochal.observe.process_memory import resident_bytes
from epochal.server.problem_details import logger

if TYPE_CHECKING:
    from epochal.server.state import ServiceState

LOOK_S: Final = 0.2
_SHARE: Final = 0.75
"""Of the memory that the process may have."""

_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


async def watch_memory(service: ServiceState) -> None:
    """End queries while the process is above its limit; until cancelled."""
    limit = service.limits.memory_bytes or default_limit()
    while True:
        await asyncio.sleep(LOOK_S)
        if (resident_bytes() or 0) > limit and (sql := service.database.stop_oldest()) is not None:
            logger.error("a query was ended at %d MiB of memory: %s", limit >> 20, sql)


def default_limit() -> int:
    """Three quarters of the machine's memory, or of what the process's group may have."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such file, or "max"
        available = min(available, int(_CGROUP.read_text()))
    return int(available * _SHARE)
