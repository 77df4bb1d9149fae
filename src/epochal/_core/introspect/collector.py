"""Collections of the garbage collector that are known to have run.

The interpreter refuses a collection silently while another thread is within one. That can last:
finalizers and the callbacks of weak references run in there, and give way to other threads. The
garbage that it has found is in no table meanwhile, as if native code held it.
"""

from __future__ import annotations

import gc
from time import monotonic, sleep
from typing import Final

_PAUSE_S: Final = 0.005
"""Between two attempts: short beside a collection of a large heap, which takes 0.5 s."""


_SELDOM: Final = 0.002
"""The share of the time that collections may take which are a courtesy: each stops every thread."""

_last = (float("-inf"), 0.0)
# When the last collection of `collect_soon` ended, and what it took. Written, whole, and read by
# any thread that collects; if two meet, one collection more may run.

_FROZEN_BY_THE_INTERPRETER: Final = 1_000
"""Python 3.12 sets some 400 objects of its own aside; a program's `gc.freeze` 10,000 and more."""

_WAIT_S: Final = 2.0
"""Seconds to wait for a collection in another thread, where finalizers may block."""


def collect(generation: int = 2) -> bool:
    """Run a collection, unless one is under way.

    Args:
        generation: the oldest that it looks at, 0 to 2.

    Returns:
        Whether it ran.
    """
    # The count must be read before and after, since `gc.collect` returns 0 when refused, too. A
    # collection of another thread may end between the two looks and be taken for ours: the garbage
    # that was there when it began is gone then, too.
    before = _collections_of(generation)
    gc.collect(generation)
    return _collections_of(generation) != before


def collect_soon(*, seldom: bool = False) -> None:
    """Run a full collection, after one that is under way, if that ends within two seconds.

    Args:
        seldom: whether it is a courtesy: none runs if the last one of this function took more than
            a small share of the time since.
    """
    global _last
    begun = monotonic()
    ended, took = _last
    if seldom and took > _SELDOM * (begun - ended):
        return
    while not collect() and monotonic() < begun + _WAIT_S:
        sleep(_PAUSE_S)
    ended = monotonic()
    _last = (ended, ended - begun)


def frozen_objects() -> int:
    """How many objects a program has set aside with `gc.freeze`.

    No look through the heap and no collection sees them.
    """
    frozen = gc.get_freeze_count()
    return frozen if frozen > _FROZEN_BY_THE_INTERPRETER else 0


def _collections_of(generation: int) -> int:
    count: int = gc.get_stats()[generation]["collections"]
    return count
