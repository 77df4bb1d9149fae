"""A registry of live objects, held weakly, that weak-reference callbacks can change safely.

`weakref.WeakSet` cannot be iterated while another thread adds to it, and its removals run Python
code of its own. Here every change is one dict step under the interpreter lock, keyed by an int, so
a callback may run anywhere, at any time, in any thread, without a lock.

An object that the collector finds dead has not gone yet. The collector clears weak references and
calls their callbacks first, then runs the finalizers of everything in the same garbage: the
``finally:`` of a generator, which uses what the object stood for. So such an object counts until
the collection has ended (`once_gone`). The collector calls a callback from the very frame in which
the collection began, by which it is told from an object that a finalizer lets go of.

A callback may be interrupted: an exception that a signal handler raises in it is printed, and lost
for the code below. So a thread that waits for the callbacks looks now and then for objects that are
dead and still registered (`overdue`).

Reads and writes: ``_collecting`` and ``_waiting`` belong to the thread that collects, of which
there is one at a time; other threads read ``_collecting`` alone, and find another thread's number.
``_begun`` counts collections, in the same thread; `overdue` compares it from any thread.
"""

from __future__ import annotations

import gc
import sys
import weakref
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

T = TypeVar("T")
R = TypeVar("R", bound="weakref.ref[Any]")

_collecting: tuple[int, FrameType | None] = (0, None)
"""The thread that collects, and the frame in which its collection began."""
_begun = 0
"""The number of collections so far."""
_waiting: Final[list[Callable[[], object]]] = []
"""The calls that wait for the end of the collection."""


def _note_collection(phase: str, _: dict[str, Any]) -> None:
    global _begun, _collecting
    if phase == "start":
        _begun += 1
        _collecting = (get_ident(), sys._getframe().f_back)  # noqa: SLF001  the documented way
        return
    _collecting = (0, None)
    while _waiting:  # what Ctrl-C leaves here, the end of the next collection calls
        _waiting.pop()()


gc.callbacks.append(_note_collection)


def once_gone(action: Callable[..., object], *args: Any) -> None:
    """Call `action(*args)` now, or at the end of the collection that found the object dead.

    Only for the callback of a weak reference to call, directly.
    """
    thread, began_in = _collecting
    # The first test is for speed: mostly no thread collects.
    if thread and thread == get_ident() and sys._getframe(1).f_back is began_in:  # noqa: SLF001
        _waiting.append(partial(action, *args))
    else:
        action(*args)


def overdue(refs: Iterable[R]) -> list[R]:
    """The weak references whose objects have gone, although their callbacks have not removed them.

    None while a collection runs, whose finalizers may use the objects: look again later.
    """
    begun = _begun
    if _collecting[0]:
        return []
    dead = [ref for ref in refs if ref() is None]
    # Another thread may have begun a collection meanwhile, which is where they died.
    return dead if begun == _begun else []


class WeakRegistry(Generic[T]):
    """Objects that are alive, in the order in which they were added.

    Args:
        on_removed: called after an object died or was dropped, in the thread where that happened,
            which may be inside the collector: it may only do what is re-entrant.
    """

    __slots__ = ("__weakref__", "_on_removed", "_refs")

    def __init__(self, on_removed: Callable[[], None] | None = None) -> None:
        # Any thread adds; `drop` and the callbacks remove, anywhere.
        self._refs: Final[dict[int, weakref.ref[T]]] = {}
        self._on_removed: Final = on_removed

    def add(self, item: T) -> int:
        """Register an object until it dies; returns the key for `drop`."""
        ref = weakref.ref(item, self._on_death)
        key = id(ref)  # unique for as long as the entry holds the reference
        self._refs[key] = ref
        return key

    def drop(self, key: int) -> None:
        """Remove an object before it dies. Idempotent."""
        # One `pop`, and no look before it: of a drop and a death, exactly one gets the entry and
        # calls back. And the callback comes after the removal, whose effect it looks at.
        if self._refs.pop(key, None) is not None and self._on_removed is not None:
            self._on_removed()

    def sweep(self) -> None:
        """Remove the objects whose callback was interrupted."""
        for ref in overdue(self._refs.copy().values()):
            self.drop(id(ref))

    def live(self) -> list[T]:
        """The objects alive now; while the list is held they stay so."""
        # dict.copy is one step under the interpreter lock; iterating the dict itself is not.
        return [item for ref in self._refs.copy().values() if (item := ref()) is not None]

    def _on_death(self, ref: weakref.ref[T]) -> None:
        once_gone(self.drop, id(ref))

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, key: int) -> bool:
        return key in self._refs
