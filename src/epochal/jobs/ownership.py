"""Claims: what only one at a time may do with a runtime, such as read one of its sources.

Two that ran the jobs of one runtime would run each tick twice, and neither could tell. So a claim
belongs to the runtime, not to the object that made it, and is weak on it.

Who reads, who writes: each claim is one `setdefault`, which of any number of threads succeeds for
one; its release is one step too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from epochal.runtime import Runtime


class _Claim:
    """Somebody's; of two alike each is itself."""

    __slots__ = ("told",)

    def __init__(self, told: str) -> None:
        self.told: Final = told


_claims: Final[WeakKeyDictionary[Runtime, dict[Hashable, _Claim]]] = WeakKeyDictionary()


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
    mine = _Claim(told)
    held = _claims.setdefault(runtime, {})
    holder = held.setdefault(what, mine)
    if holder is not mine:
        raise HostError(f"{holder.told} already, on this runtime; close that first")

    def release() -> None:
        if held.get(what) is mine:
            del held[what]

    return release
