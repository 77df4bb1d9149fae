"""Claims: what only one at a time may do with a runtime, such as read one of its sources.

A claim belongs to the runtime, not to the object that made it: two of those do not know of each
other. It is weak on the runtime, whose claims go with it.

Who reads, who writes: both under ``_lock``, and no foreign code is called under it. It may be taken
again by the thread that has it, since a collection that starts there may run anybody's finalizer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from epochal.runtime import Runtime

_lock: Final = threading.RLock()
_claims: Final[WeakKeyDictionary[Runtime, dict[Hashable, str]]] = WeakKeyDictionary()


def claim(runtime: Runtime, what: Hashable, told: str) -> Callable[[], None]:
    """Have something of a runtime for oneself.

    Args:
        runtime: whose.
        what: is claimed.
        told: what whoever comes second is told, a sentence without its end: "… is connected".

    Returns:
        What ends the claim; doing so again does nothing.

    Raises:
        HostError: somebody has it.
    """
    with _lock:
        held = _claims.setdefault(runtime, {})
        if what in held:
            raise HostError(f"{held[what]} already, on this runtime; close that first")
        held[what] = told
    is_over = False

    def release() -> None:
        nonlocal is_over
        with _lock:
            if not is_over:
                is_over = True
                del held[what]

    return release
