"""A gate: where calls wait while what they would change is handed over.

The problem: state is moved from an old generation to the new one in two steps, export and import,
and what a call does to the old one between the two is lost.

The idea: calls go through a gate. A hand-over closes it, which waits for those inside; so the state
has all that they did. Those that come wait, a coroutine without blocking its loop, until the new
epoch is published or the change went back.

A change that moves several plugins closes all their gates before anything moves, dependents first:
who is inside a dependent may be on the way to what that requires. What moves the state is let
through closed gates, and finds there the very generation that it asks: a dependent that imports its
state may ask what it requires, which has its own by then.

Who reads, who writes
---------------------

A gate belongs to all the generations of one export. ``_inside``, ``_closing``, ``_closer`` and
``_waiting`` are read and written under ``_lock``, and no foreign code is called under it. Two look
without it: `is_closed` reads one reference, and `is_mine` asks about its own thread, which wrote
both if the answer is yes. ``current`` is written by the change that has the turn, while the gate is
closed or before anybody knows the handle, and read by calls that are inside: so it does not change
under a call. It is weak, since whoever it names refers to the gate.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from epochal._core.carry import carry

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.lease import Borrow, Lease


class Kept:
    """What a kind opened for one generation: the plugin's object, and the gate before it.

    Attributes:
        target: the plugin's object; most kinds never replace it.
        gate: shared with the other generations that the state came from, or goes to.
    """

    __slots__ = ("gate", "target")

    def __init__(self, target: Any) -> None:
        self.target: Any = target
        # Replaced once, by a hand-over, before the new epoch is published.
        self.gate = Gate()


class Side:
    """One generation's end of what is kept: its object, and the lease that calls of it carry."""

    __slots__ = ("__weakref__", "_methods", "kept", "lease")

    def __init__(self, kept: Kept, lease: Lease | Borrow) -> None:
        self.kept: Final = kept
        self.lease: Final = lease
        self._methods: Final[dict[str, Any]] = {}
        if kept.gate.current is None:
            kept.gate.current = weakref.ref(self)

    def method(self, name: str) -> Any:
        """A method of this very generation's object, carrying its lease, past the gate."""
        try:
            return self._methods[name]
        except KeyError:
            method = carry(getattr(self.kept.target, name), self.lease)
            return self._methods.setdefault(name, method)

    def newest(self) -> Side:
        """Where a call goes that is inside the gate."""
        current = self.kept.gate.current
        side = current() if current is not None else None
        return side if side is not None and not self.kept.gate.is_mine() else self


class GatedMove:
    """Moves state while the gate before it is closed; a `Handover`.

    Args:
        old: where from.
        new: where to; it gets the gate of the old one.
        take: gives the state of the old one.
        give: has the new one take it over.
    """

    __slots__ = ("_closing", "_gate", "_give", "_new", "_take")

    def __init__(
        self, old: Kept, new: Kept, take: Callable[[], Any], give: Callable[[Any], object]
    ) -> None:
        self._new: Final = new
        self._take: Final = take
        self._give: Final = give
        self._gate: Final = old.gate
        self._closing: object = None

    def quiesce(self) -> None:
        """Close the gate, and wait for those inside."""
        self._closing = self._gate.close()

    def run(self) -> None:
        """Take, give. Ends early if it was given up meanwhile."""
        if not self._gate.is_closed(self._closing):
            return
        self._new.gate = self._gate
        state = self._take()
        if self._gate.is_closed(self._closing):
            self._give(state)

    def commit(self, offered: Any) -> None:
        """Calls go to the new one from now on."""
        self._gate.current = weakref.ref(side_of(offered))
        self._gate.open()

    def roll_back(self) -> None:
        """Calls go on with the old one."""
        self._gate.open()


def side_of(handle: Any) -> Side:
    """The side that a handle of a gated kind stands for."""
    side: Side = vars(handle)["_side"]
    return side


class Visit:
    """One call that is inside a gate; `open` is cleared as it leaves."""

    __slots__ = ("gate", "open", "outer")

    def __init__(self, gate: Gate, outer: Visit | None) -> None:
        self.gate = gate
        self.open = True
        self.outer = outer


_visit: Final[ContextVar[Visit | None]] = ContextVar("epochal_gate", default=None)
"""The innermost visit of any gate that the current code is in."""


class Gate:
    """Lets the calls of one thing that keeps state in, or makes them wait.

    A call that comes from inside another call of the same thing is let in at once: the gate's
    closing waits for the outer one, which waits for it. So is one of the thread that closed it.
    """

    __slots__ = ("_closer", "_closing", "_inside", "_lock", "_quiet", "_waiting", "current")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._inside = 0
        self._closing: object | None = None  # what `close` returned, while it is closed
        self._closer = 0  # the thread that closed it last
        self._quiet: Final = threading.Event()
        self._waiting: list[Callable[[], object]] = []
        self.current: weakref.ref[Side] | None = None

    def enter(self) -> Visit:
        """Go in, in a thread; waits while the gate is closed."""
        opened = None
        while True:
            visit = self._try_enter(opened.set if opened is not None else None)
            if visit is not None:
                return visit
            if opened is None:
                opened = threading.Event()
            else:
                opened.wait()
                opened.clear()

    def try_enter(self) -> Visit | None:
        """Go in if that needs no waiting; None where it does."""
        return self._try_enter(None)

    async def aenter(self) -> Visit:
        """Go in, in an event loop; waits while the gate is closed."""
        while True:
            loop = asyncio.get_running_loop()
            opened = loop.create_future()
            visit = self._try_enter(functools.partial(_wake, loop, opened))
            if visit is not None:
                return visit
            await opened

    def leave(self, visit: Visit) -> None:
        """Go out."""
        _visit.set(visit.outer)
        with self._lock:
            visit.open = False
            self._inside -= 1
            quiet = self._closing is not None and not self._inside
        if quiet:
            self._quiet.set()

    def close(self) -> object:
        """Let nobody in any more, and wait until those inside have left, or somebody opens it.

        Returns:
            What to ask `is_closed` with.
        """
        closing = object()
        with self._lock:
            self._closer = threading.get_ident()
            self._closing = closing
            self._quiet.clear()
            quiet = not self._inside
        if not quiet:
            self._quiet.wait()
        return closing

    def is_closed(self, closing: object) -> bool:
        """Whether it is still closed by that very call of `close`."""
        return self._closing is closing

    def is_mine(self) -> bool:
        """Whether this thread has closed it, and moves what is behind it."""
        return self._closing is not None and self._closer == threading.get_ident()

    def open(self) -> None:
        """Let everybody in."""
        with self._lock:
            self._closing = None
            waiting, self._waiting = self._waiting, []
        self._quiet.set()  # whoever closed it is not waited for any more
        for wake in waiting:
            wake()

    def _try_enter(self, wake: Callable[[], object] | None) -> Visit | None:
        outer = _visit.get()
        with self._lock:
            if self._closing is not None and not (self.is_mine() or self._is_inside(outer)):
                if wake is not None:
                    self._waiting.append(wake)
                return None
            self._inside += 1
        visit = Visit(self, outer)
        _visit.set(visit)
        return visit

    def _is_inside(self, visit: Visit | None) -> bool:
        while visit is not None:
            if visit.gate is self and visit.open:
                return True
            visit = visit.outer
        return False


def _wake(loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not opened.done():
            opened.set_result(None)

    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:
        return  # the loop was closed, and the task that waited is gone with it
