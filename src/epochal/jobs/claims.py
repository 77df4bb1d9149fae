"""One of something for each runtime: whoever is first has it until he lets it go.

Two that ran the jobs of one runtime would run each tick twice, and neither could tell. Who reads,
who writes: each claim is one `setdefault`, which of any number of threads succeeds for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.runtime import Runtime

_claims: Final[WeakKeyDictionary[Runtime, dict[str, object]]] = WeakKeyDictionary()


def claim(runtime: Runtime, what: str, *, taken: str) -> Callable[[], None]:
    """Have something of a runtime for oneself. It is held weakly: a claim keeps no runtime alive.

    Args:
        runtime: whose.
        what: a name for it, the same for all who claim it.
        taken: what to tell whoever comes second.

    Returns:
        A function that lets it go; calling it again does nothing.

    Raises:
        HostError: somebody has it; with the text of `taken`.
    """
    mine = object()
    held = _claims.setdefault(runtime, {})
    if held.setdefault(what, mine) is not mine:
        raise HostError(taken)

    def release() -> None:
        if held.get(what) is mine:
            del held[what]

    return release
