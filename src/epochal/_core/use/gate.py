"""Gates: where calls wait while what they would change is moved.

The problem: state is moved from an old generation to the new one in two steps, export and import,
and what a call does to the old one between the two is lost.

The idea: calls go through a gate. A change *closes* the gates of all that it moves, together, and
waits until nobody is inside; so the state has all that they did. Those that come wait, a coroutine
without blocking its loop, until the new epoch is published or the change went back.

Who is inside is not counted but held: the frame of the call holds its `Admission`, and a visit that
dies has left. So whatever raises between two instructions, Ctrl-C say, no gate is left with a
visitor that is not there.

Who is let in while a gate is being closed: whoever is waited for. That is a call that comes from
inside of another one, of any gate of the same closing; and one that would block the event loop in
which such a call is to go on. Once nobody is inside, only the thread is let in that moves the
state.

Who reads, who writes
---------------------

No lock is taken on the way in or out, since visits also end where objects die: anywhere, in any
thread, in the collector too. There are two orders, each a pair of single steps under the
interpreter's lock.

* A call puts its visit into ``_visits`` *before* it reads ``_closing`` and ``is_sealed``. A closing
  writes those *before* it looks into ``_visits``. So the call sees that it must wait, or the
  closing sees the call.
* Whoever waits puts a wake-up into ``_waiting`` *before* it reads ``is_over`` and ``is_sealed``;
  what ends the wait is written there *before* the wake-ups are taken. Likewise a visit is taken
  out *before* ``_closing`` is read to wake it, and a closing looks for visits *before* it sleeps on
  what wakes it, a queue.

``_closing`` of a gate, ``is_sealed``, ``_mover`` and ``is_over`` are written by the change that has
the turn, one thread at a time. `give_up` may be called by anybody.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Admission:
    """One call that is inside of a gate, for as long as this object is held or until it leaves.

    Attributes:
        gate: which.
        key: under which the gate knows it.
        loop: the event loop in which the call goes on; None for a call that does not await.
        is_admitted: whether it was let in; before that it is only announced.
        is_awaited: whether a closing waits for something that waits for it.
    """

    __slots__ = ("__weakref__", "gate", "is_admitted", "is_awaited", "key", "loop")

    def __init__(self, gate: Gate, loop: asyncio.AbstractEventLoop | None) -> None:
        self.gate: Final = gate
        self.key = 0
        self.loop: Final = loop
        self.is_admitted = False
        self.is_awaited = False


class _Mark(weakref.ref[Admission]):
    """How a gate knows a visit: weakly."""

    __slots__ = ("gate",)
    gate: Gate


class AdmissionStack:
    """The visits that the current code is in, innermost first; it holds none of them."""

    __slots__ = ("mark", "outer")

    def __init__(self, mark: _Mark, outer: AdmissionStack | None) -> None:
        self.mark: Final = mark
        self.outer: Final = outer

    def visit(self) -> Admission | None:
        """The innermost visit, if it has not ended."""
        visit = self.mark()
        return visit if visit is not None and visit.gate.knows(visit) else None


_trail: Final[ContextVar[AdmissionStack | None]] = ContextVar("epochal_visits", default=None)


class Gate:
    """Lets the calls of one thing that keeps state in, or makes them wait."""

    __slots__ = ("_closing", "_visits")

    def __init__(self) -> None:
        self._visits: Final[dict[int, _Mark]] = {}
        self._closing: GateClosure | None = None

    def enter(self) -> Admission:
        """Go in, in a thread; waits while the gate is closed."""
        while not (visit := self._try_enter(None)).is_admitted:
            if (closing := self._closing) is not None:
                closing.wait(visit)
        return visit

    async def aenter(self) -> Admission:
        """Go in, in an event loop; waits while the gate is closed."""
        loop = asyncio._get_running_loop()  # noqa: SLF001  None in another library's loop
        while not (visit := self._try_enter(loop)).is_admitted:
            if (closing := self._closing) is not None:
                await closing.wait_async(visit)
        return visit

    def leave(self, visit: Admission) -> None:
        """Go out; doing so again does nothing."""
        mark = self._visits.pop(visit.key, None)
        if (closing := self._closing) is not None:
            closing.wake()
        trail = _trail.get()
        # Not so where a coroutine is closed in somebody else's context.
        if mark is not None and trail is not None and trail.mark is mark:
            _trail.set(trail.outer)

    def is_moving_here(self) -> bool:
        """Whether this thread moves what is behind the gate, which it has closed."""
        closing = self._closing
        return closing is not None and closing.is_mover()

    def knows(self, visit: Admission) -> bool:
        """Whether a visit has not ended."""
        return visit.key in self._visits

    def inside(self) -> list[Admission]:
        """The visits that have not ended, those that are only announced too."""
        return [visit for mark in self._visits.copy().values() if (visit := mark()) is not None]

    def _try_enter(self, loop: asyncio.AbstractEventLoop | None) -> Admission:
        visit = Admission(self, loop)
        mark = _Mark(visit, _gone)
        mark.gate = self
        visit.key = id(mark)
        self._visits[visit.key] = mark
        outer = _trail.get()
        while outer is not None and outer.visit() is None:
            outer = outer.outer
        closing = self._closing
        if closing is not None and not closing.lets_in(visit, outer):
            self.leave(visit)
            return visit
        visit.is_admitted = True
        _trail.set(AdmissionStack(mark, outer))
        return visit


def _gone(mark: weakref.ref[Admission]) -> None:
    """A visit died: in whatever thread that is, so only single steps are done."""
    assert isinstance(mark, _Mark)
    mark.gate._visits.pop(id(mark), None)  # noqa: SLF001  the same room
    if (closing := mark.gate._closing) is not None:  # noqa: SLF001
        closing.wake()


class GateClosure:
    """The gates of one change, closed together, once.

    Args:
        gates: of all that the change moves.

    Attributes:
        is_sealed: nobody is inside, and only the mover is let in.
        is_over: they are open again, or were never closed.
    """

    __slots__ = ("_changed", "_gates", "_is_given_up", "_mover", "_waiting", "is_over", "is_sealed")

    def __init__(self, gates: Iterable[Gate]) -> None:
        self._gates: Final = tuple(dict.fromkeys(gates))
        self._changed: Final[SimpleQueue[None]] = SimpleQueue()
        self._waiting: list[Callable[[], object]] = []
        self._mover = 0
        self._is_given_up = False
        self.is_sealed = False
        self.is_over = False

    # --- the change --------------------------------------------------------------------------

    def close(self, timeout: float | None) -> bool:
        """Let nobody in any more, and wait until nobody is inside.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            Whether that came; not so when the time ran out, or `give_up` was called before.
        """
        deadline = None if timeout is None else monotonic() + timeout
        for gate in self._gates:
            gate._closing = self  # noqa: SLF001  the same room
        while not self._seal():
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                self._changed.get(timeout=left)
            except Empty:
                return self._seal()
            if self._is_given_up:
                return False
        return True

    def give_up(self) -> None:
        """Wait no longer for nobody to be inside. Any thread."""
        self._is_given_up = True
        self.wake()

    def open(self) -> None:
        """Let everybody in; doing so again does nothing."""
        self.is_over = True
        for gate in self._gates:
            if gate._closing is self:  # noqa: SLF001  the same room
                gate._closing = None  # noqa: SLF001
        self._have_them_try_again()

    def _seal(self) -> bool:
        self._mover = threading.get_ident()
        self.is_sealed = True
        if not any(gate._visits for gate in self._gates):  # noqa: SLF001  the same room
            return True
        self.is_sealed = False
        self._have_them_try_again()
        return False

    def _have_them_try_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    # --- calls -------------------------------------------------------------------------------

    def lets_in(self, visit: Admission, outer: AdmissionStack | None) -> bool:
        """Whether a call is let in that has announced itself.

        Args:
            visit: of the call.
            outer: the trail of the visits that it comes from.
        """
        if self.is_over or self.is_mover():
            return True
        visit.is_awaited = self._comes_from_inside(outer) or self._would_block_inside(visit)
        # Where it is awaited, somebody is inside: a seal is being tried, and will be broken.
        return visit.is_awaited and not self.is_sealed

    def is_mover(self) -> bool:
        """Whether this thread moves the state now."""
        return self.is_sealed and self._mover == threading.get_ident()

    def wake(self) -> None:
        """A visit ended: have the change look again."""
        self._changed.put(None)

    def wait(self, visit: Admission) -> None:
        """Wait until a call that was not let in may try again."""
        again = threading.Event()
        self._waiting.append(again.set)
        if self._keeps_out(visit):
            again.wait()

    async def wait_async(self, visit: Admission) -> None:
        """Wait for that in an event loop of asyncio."""
        loop = asyncio.get_running_loop()
        again = loop.create_future()
        self._waiting.append(lambda: _set(loop, again))
        if self._keeps_out(visit):
            await again

    def _keeps_out(self, visit: Admission) -> bool:
        return not self.is_over and (self.is_sealed or not visit.is_awaited)

    def _comes_from_inside(self, trail: AdmissionStack | None) -> bool:
        while trail is not None:
            visit = trail.visit()
            if visit is not None and visit.gate in self._gates:
                return True
            trail = trail.outer
        return False

    def _would_block_inside(self, visit: Admission) -> bool:
        """Whether it would hold up the event loop in which one that is inside goes on."""
        loop = asyncio._get_running_loop() if visit.loop is None else None  # noqa: SLF001
        return loop is not None and any(
            other.loop is loop and other.is_admitted
            for gate in self._gates
            for other in gate.inside()
        )


def _set(loop: asyncio.AbstractEventLoop, again: asyncio.Future[None]) -> None:
    def wake() -> None:
        if not again.done():
            again.set_result(None)

    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:
        return  # the loop was closed, and the task that waited is gone with it
