"""Claims: a part of a runtime that one owner at a time may use, such as one of its sources.

Two objects that ran the jobs of one runtime would run each tick twice, and neither could notice. So
a claim belongs to the runtime, not to the object that made it, and refers to it weakly.

Threads: a claim is one `dict.setdefault`, which succeeds for one of any number of
threads; its release is one step too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from epochal.runtime import Runtime


_claims: Final[WeakKeyDictionary[Runtime, dict[Hashable, list[str]]]] = WeakKeyDictionary()


def claim(runtime: Runtime, key: Hashable, description: str) -> Callable[[], None]:
    """Claim a part of a runtime.

    Args:
        runtime: the runtime.
        key: names the part.
        description: for the error of the next claim, a sentence without its end: "… is connected".

    Returns:
        A function that ends the claim. Idempotent.

    Raises:
        HostError: the part is claimed already.
    """
    mine = [description]  # a list of its own: claims are compared by identity
    held = _claims.setdefault(runtime, {})
    holder = held.setdefault(key, mine)
    if holder is not mine:
        raise HostError(f"{holder[0]} already, on this runtime; close that first")

    def release() -> None:
        # Only our own: after the release, the claim may be another's.
        if held.get(key) is mine:
            del held[key]

    return release
