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


def collect_soon(timeout: float) -> None:
    """Run a full collection, after one that is under way.

    Args:
        timeout: seconds to wait for that one to end; none runs if it does not.
    """
    deadline = monotonic() + timeout
    while not collect() and monotonic() < deadline:
        sleep(_PAUSE_S)


def _collections_of(generation: int) -> int:
    count: int = gc.get_stats()[generation]["collections"]
    return count
