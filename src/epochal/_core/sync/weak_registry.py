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

Objects die, and collections run, also as the interpreter exits, when the global names of modules
are None. So a callback, and all that it calls, finds what it uses in attributes, cells and default
arguments: read from a global name, it would raise an error, which the interpreter prints.

Reads and writes: ``running`` and ``waiting`` belong to the thread that collects, of which there is
one at a time; other threads read ``running`` alone, and find another thread's number. ``begun``
counts collections, in the same thread; `overdue` compares it from any thread.
"""

from __future__ import annotations

import gc
import sys
import weakref
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
R = TypeVar("R", bound="weakref.ref[Any]")


class _Collections:
    """The collections of this process.

    Attributes:
        running: the thread that collects, and the frame in which its collection began.
        begun: the number of collections so far.
        waiting: the calls that wait for the end of the collection.
    """

    __slots__ = ("begun", "running", "waiting")

    def __init__(self) -> None:
        self.running: tuple[int, FrameType | None] = (0, None)
        self.begun = 0
        self.waiting: Final[list[Callable[[], object]]] = []

    def note(
        self,
        phase: str,
        _: dict[str, Any],
        this_thread: Callable[[], int] = get_ident,
        this_frame: Callable[[], FrameType] = sys._getframe,  # noqa: SLF001  the documented way
    ) -> None:
        """Called by the collector, as a collection begins and ends."""
        if phase == "start":
            self.begun += 1
            self.running = (this_thread(), this_frame().f_back)
            return
        self.running = (0, None)
        while self.waiting:  # what Ctrl-C leaves here, the end of the next collection calls
            self.waiting.pop()()


_collections: Final = _Collections()
gc.callbacks.append(_collections.note)


def once_gone(action: Callable[[*Ts], object]) -> Callable[[*Ts], None]:
    """Make a weak reference's callback, which calls `action` once the object has gone.

    That is at once, or at the end of the collection that found the object dead.
    """
    collections, this_thread, later = _collections, get_ident, partial
    this_frame = sys._getframe  # noqa: SLF001  the documented way

    def on_death(*args: *Ts) -> None:
        thread, began_in = collections.running
        # The first test is for speed: mostly no thread collects.
        if thread and thread == this_thread() and this_frame().f_back is began_in:
            collections.waiting.append(later(action, *args))
        else:
            action(*args)

    return on_death


def overdue(refs: Iterable[R]) -> list[R]:
    """The weak references whose objects have gone, although their callbacks have not removed them.

    None while a collection runs, whose finalizers may use the objects: look again later.
    """
    begun = _collections.begun
    if _collections.running[0]:
        return []
    dead = [ref for ref in refs if ref() is None]
    # Another thread may have begun a collection meanwhile, which is where they died.
    return dead if begun == _collections.begun else []


class WeakRegistry(Generic[T]):
    """Objects that are alive, in the order in which they were added.

    Args:
        on_removed: called after an object died or was dropped, in the thread where that happened,
            which may be inside the collector: it may only do what is re-entrant, and read no
            module's global names (see above).
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

    @once_gone
    def _on_death(self, ref: weakref.ref[T]) -> None:
        self.drop(id(ref))

    def __len__(self) -> int:
        return len(self._refs)

    def __contains__(self, key: int) -> bool:
        return key in self._refs
