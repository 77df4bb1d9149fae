"""Collections of which it is known whether they ran.

The interpreter refuses a collection without a word while another thread is within one. That can
last: finalizers and the callbacks of weak references run in there, and give way to other threads.
What it has found to be garbage is in no table meanwhile, as if native code held it.
"""

from __future__ import annotations

import gc
from time import monotonic, sleep
from typing import Final

_PAUSE_S: Final = 0.005


def collect(generation: int = 2) -> bool:
    """Run a collection, unless one is under way.

    Args:
        generation: the oldest that it looks at, 0 to 2.

    Returns:
        Whether it ran.
    """
    # Another thread's may end between a refusal and the second look, and be taken for ours: what
    # was garbage when that one began is gone then, too.
    before = _collections_of(generation)
    gc.collect(generation)
    return _collections_of(generation) != before


def collect_soon(patience: float) -> None:
    """Run a full collection, after one that is under way; none if that one does not end in time.

    Args:
        patience: seconds to wait for that.
    """
    deadline = monotonic() + patience
    while not collect() and monotonic() < deadline:
        sleep(_PAUSE_S)


def _collections_of(generation: int) -> int:
    count: int = gc.get_stats()[generation]["collections"]
    return count
