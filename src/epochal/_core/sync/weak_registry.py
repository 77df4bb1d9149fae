"""A set of live objects, held weakly, safe to change from weak-reference callbacks.

`weakref.WeakSet` cannot be iterated while another thread adds to it, and its removals run Python
code of its own. Here every change is one dict step under the interpreter lock, keyed by an int, so
a callback may run anywhere, at any time, in any thread, without a lock.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class WeakRegistry(Generic[T]):
    """Objects that are alive, in the order in which they were added.

    Args:
        on_gone: called after an object died or was dropped, in whatever thread that happened: it
            may only do what is re-entrant.
    """

    __slots__ = ("__weakref__", "_on_gone", "_refs")

    def __init__(self, on_gone: Callable[[], None] | None = None) -> None:
        # Added to by any thread; removed from by `drop` and by callbacks, anywhere. Of two that
        # remove one key, one gets the entry.
        self._refs: Final[dict[int, weakref.ref[T]]] = {}
        self._on_gone: Final = on_gone

    def add(self, item: T) -> int:
        """Count an object in until it dies; returns the key for `drop`."""
        ref = weakref.ref(item, self._gone)
        key = id(ref)  # unique for as long as the entry holds the reference
        self._refs[key] = ref
        return key

    def drop(self, key: int) -> None:
        """Count an object out before it dies; doing so again does nothing."""
        if self._refs.pop(key, None) is not None and self._on_gone is not None:
            self._on_gone()

    def live(self) -> list[T]:
        """The objects alive now; while the list is held they stay so."""
        # dict.copy is one step under the interpreter lock; iterating the dict itself is not.
        return [item for ref in self._refs.copy().values() if (item := ref()) is not None]

    def _gone(self, ref: weakref.ref[T]) -> None:
        self.drop(id(ref))

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, key: int) -> bool:
        return key in self._refs
