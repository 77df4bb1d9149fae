"""Gates: calls wait here while the state that they would change is moved.

The problem: state is moved from an old generation to the new one in two steps, export and import,
and a change that a call makes to the old one between the two is lost.

The idea: calls go through a gate. A change *closes* the gates of everything that it moves,
together, and waits until no call is inside; so the exported state has all that the calls did. Calls
that arrive meanwhile wait, a coroutine without blocking its loop, until the new epoch is published
or the change was rolled back.

There is no counter. Each call's frame holds an `Admission`; when the frame dies, the admission dies
with it and counts as left. So an exception between two instructions, Ctrl-C for example, leaves no
gate with a call inside that does not exist.

While a gate is being closed, it still admits the calls that the closing itself waits for: a call
that comes from inside another one, of any gate of the same closing; and a call that would block the
event loop in which such a call is to go on. Once no call is inside, only the thread that moves the
state is admitted, the closing's *owner*.

Reads and writes
----------------

No lock is taken on the way in or out, since admissions also end where objects die: anywhere, in any
thread, in the collector too. There are two orders, each a pair of single steps under the
interpreter's lock.

* A call puts its admission into ``_admissions`` *before* it reads ``_closing`` and ``is_sealed``.
  A closing writes those *before* it looks into ``_admissions``. So the call sees that it must wait,
  or the closing sees the call.
* A waiting call puts its wake-up into ``_waiting`` *before* it reads ``is_over`` and ``is_sealed``;
  the end of the wait is written there *before* the wake-ups are taken. Likewise an admission is
  removed *before* ``_closing`` is read to wake it, and a closing looks for admissions *before* it
  sleeps on the queue that wakes it.

``_closing`` of a gate, ``is_sealed``, ``_owner`` and ``is_over`` are written by the change that
holds the runtime's lock, one thread at a time. Any thread may call `give_up`.
"""

from __future__ import annotations

import sys
import threading
import weakref
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.sync.completion import Completion
from epochal._core.sync.weak_registry import once_gone, overdue

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable


_LOOK_S: Final = 0.25
"""How often a closing looks for calls whose end has woken nothing."""


class Admission:
    """One call inside a gate, for as long as this object is held or until it leaves.

    Attributes:
        gate: the gate.
        key: the gate's key for this admission.
        loop: the event loop in which the call goes on; None for a call that does not await. A call
            that returns an awaitable sets it, in its own thread, before it returns.
        is_admitted: whether the call was let in; before that it is only announced.
        is_awaited: whether the closing waits for something that waits for this call.
    """

    __slots__ = ("__weakref__", "gate", "is_admitted", "is_awaited", "key", "loop")

    def __init__(self, gate: Gate, loop: asyncio.AbstractEventLoop | None) -> None:
        self.gate: Final = gate
        self.key = 0
        self.loop = loop
        self.is_admitted = False
        self.is_awaited = False


class _AdmissionRef(weakref.ref[Admission]):
    """A gate's weak reference to an admission."""

    __slots__ = ("gate",)
    gate: Gate


class AdmissionStack:
    """The admissions of the current code, innermost first, held weakly."""

    __slots__ = ("outer", "ref")

    def __init__(self, ref: _AdmissionRef, outer: AdmissionStack | None) -> None:
        self.ref: Final = ref
        self.outer: Final = outer

    def admission(self) -> Admission | None:
        """The innermost admission; None if it has ended."""
        admission = self.ref()
        return admission if admission is not None and admission.gate.knows(admission) else None


_stack: Final[ContextVar[AdmissionStack | None]] = ContextVar("epochal_admissions", default=None)


class Gate:
    """Admits the calls of one stateful object, or makes them wait."""

    __slots__ = ("_admissions", "_closing")

    def __init__(self) -> None:
        self._admissions: Final[dict[int, _AdmissionRef]] = {}
        self._closing: GateClosure | None = None

    @property
    def is_closing(self) -> bool:
        """Whether a change is closing it, or has closed it."""
        return self._closing is not None

    def enter(self) -> Admission:
        """Go in, in a thread; waits while the gate is closed."""
        while not (admission := self._try_enter(None)).is_admitted:
            if (closing := self._closing) is not None:
                closing.wait(admission)
        return admission

    async def aenter(self) -> Admission:
        """Go in, in an event loop; waits while the gate is closed."""
        loop = _running_loop()
        while not (admission := self._try_enter(loop)).is_admitted:
            if (closing := self._closing) is not None:
                await closing.wait_async(admission)
        return admission

    def leave(self, admission: Admission) -> None:
        """Go out. Idempotent."""
        ref = self._admissions.pop(admission.key, None)
        # After the removal: woken earlier, the closing would look, find the call, and sleep on.
        if (closing := self._closing) is not None:
            closing.wake()
        self._leave_stack(ref)

    def step_out(self, admission: Admission) -> None:
        """Go on outside, while the call goes on inside in another context.

        What this context calls next does not come from the call, and is not let in with it.
        """
        self._leave_stack(self._admissions.get(admission.key))

    def step_in(self, admission: Admission) -> None:
        """Go on with the call, in this context. `leave` ends it."""
        ref = self._admissions.get(admission.key)
        if ref is not None:
            _stack.set(AdmissionStack(ref, _stack.get()))

    def is_moving_here(self) -> bool:
        """Whether this thread is moving the state behind the gate, which it has closed."""
        closing = self._closing
        return closing is not None and closing.is_owner()

    def knows(self, admission: Admission) -> bool:
        """Whether an admission has not ended."""
        return admission.key in self._admissions

    def inside(self) -> list[Admission]:
        """The admissions that have not ended, including those that are only announced."""
        refs = self._admissions.copy()  # one step; a dictionary that changes cannot be iterated
        return [admission for ref in refs.values() if (admission := ref()) is not None]

    # An argument has the stack: the interpreter's exit ends calls when global names are None.
    @staticmethod
    def _leave_stack(
        ref: _AdmissionRef | None, current: ContextVar[AdmissionStack | None] = _stack
    ) -> None:
        stack = current.get()
        # It is another stack where a coroutine is closed in another context.
        if ref is not None and stack is not None and stack.ref is ref:
            current.set(stack.outer)

    def _try_enter(self, loop: asyncio.AbstractEventLoop | None) -> Admission:
        admission = Admission(self, loop)
        ref = _AdmissionRef(admission, _on_death)
        ref.gate = self
        admission.key = id(ref)
        # Announce before the look at the closing: the other way round, a closing between the two
        # steps would miss this call, and this call the closing.
        self._admissions[admission.key] = ref
        outer = _stack.get()
        while outer is not None and outer.admission() is None:
            outer = outer.outer
        closing = self._closing
        if closing is not None and not closing.admits(admission, outer):
            self.leave(admission)
            return admission
        admission.is_admitted = True
        _stack.set(AdmissionStack(ref, outer))
        return admission


def _leave_dead(ref: _AdmissionRef) -> None:
    """Count a dead admission as left. Runs anywhere, so it does single steps only."""
    # The same order as in `leave`.
    ref.gate._admissions.pop(id(ref), None)  # noqa: SLF001  the same room
    if (closing := ref.gate._closing) is not None:  # noqa: SLF001
        closing.wake()


_on_death: Final = once_gone(_leave_dead)


class GateClosure:
    """The gates of one change, closed together, once.

    Args:
        gates: the gates of everything that the change moves.

    Attributes:
        is_sealed: no call is inside, and only the owner is admitted.
        is_over: the gates are open again, or were never closed.
    """

    __slots__ = ("_changed", "_gates", "_is_given_up", "_owner", "_waiting", "is_over", "is_sealed")

    def __init__(self, gates: Iterable[Gate]) -> None:
        self._gates: Final = tuple(dict.fromkeys(gates))
        self._changed: Final[SimpleQueue[None]] = SimpleQueue()
        self._waiting: list[Completion[None]] = []
        self._owner = 0
        self._is_given_up = False
        self.is_sealed = False
        self.is_over = False

    # --- the change --------------------------------------------------------------------------

    def close(self, timeout: float | None) -> bool:
        """Admit no more calls, and wait until none is inside.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            Whether the gates are sealed; False if the time ran out or `give_up` was called first.
        """
        deadline = None if timeout is None else monotonic() + timeout
        for gate in self._gates:
            gate._closing = self  # noqa: SLF001  the same room
        while not self._seal():
            left_s = _LOOK_S if deadline is None else min(_LOOK_S, deadline - monotonic())
            try:
                self._changed.get(timeout=max(0.0, left_s))
            except Empty:
                self._sweep()
                if deadline is not None and monotonic() >= deadline:
                    return self._seal()
            if self._is_given_up:
                return False
        return True

    def give_up(self) -> None:
        """Stop waiting for calls to leave. Any thread may call it."""
        self._is_given_up = True
        self.wake()

    def open(self) -> None:
        """Admit all calls again. Idempotent."""
        # Before the wake-ups are taken: a call that registers later reads it and does not sleep.
        self.is_over = True
        for gate in self._gates:
            if gate._closing is self:  # noqa: SLF001  the same room
                gate._closing = None  # noqa: SLF001
        self._wake_waiting()

    def _seal(self) -> bool:
        self._owner = threading.get_ident()  # before the seal, which admits the owner
        # Seal, then look: a call that comes after the look finds the seal.
        self.is_sealed = True
        if not any(gate._admissions for gate in self._gates):  # noqa: SLF001  the same room
            return True
        self.is_sealed = False
        # An awaited call may have met the seal of this attempt, and must not wait for it.
        self._wake_waiting()
        return False

    def _sweep(self) -> None:
        """Have the calls left whose death's callback was interrupted, and has woken no closing."""
        for gate in self._gates:
            for ref in overdue(gate._admissions.copy().values()):  # noqa: SLF001  the same room
                _leave_dead(ref)

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for again in waiting:
            again.set_result(None)

    # --- calls -------------------------------------------------------------------------------

    def admits(self, admission: Admission, outer: AdmissionStack | None) -> bool:
        """Whether an announced call may go in.

        Args:
            admission: the call's.
            outer: the admissions that it comes from.
        """
        if self.is_over or self.is_owner():
            return True
        admission.is_awaited = self._comes_from_inside(outer) or self._would_block_inside(admission)
        # If it is awaited, a call is inside: then a seal is only an attempt, and will be broken.
        return admission.is_awaited and not self.is_sealed

    def is_owner(self) -> bool:
        """Whether this thread moves the state now."""
        return self.is_sealed and self._owner == threading.get_ident()

    def wake(self) -> None:
        """Have the change look again, after a call has left."""
        self._changed.put(None)

    def wait(self, admission: Admission) -> None:
        """Wait until a call that was not admitted may try again."""
        again = self._register()
        if self._keeps_out(admission):
            again.wait()

    async def wait_async(self, admission: Admission) -> None:
        """`wait` in an asyncio event loop."""
        again = self._register()
        if self._keeps_out(admission):
            await again.wait_async()

    def _register(self) -> Completion[None]:
        # Before the look (`_keeps_out`): an opening between the two finds it.
        again: Completion[None] = Completion()
        self._waiting.append(again)
        return again

    def _keeps_out(self, admission: Admission) -> bool:
        return not self.is_over and (self.is_sealed or not admission.is_awaited)

    def _comes_from_inside(self, stack: AdmissionStack | None) -> bool:
        while stack is not None:
            admission = stack.admission()
            if admission is not None and admission.gate in self._gates:
                return True
            stack = stack.outer
        return False

    def _would_block_inside(self, admission: Admission) -> bool:
        """Whether it would hold up the event loop in which a call that is inside goes on."""
        loop = _running_loop() if admission.loop is None else None
        return loop is not None and any(
            other.loop is loop and other.is_admitted
            for gate in self._gates
            for other in gate.inside()
        )


def _find_running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread; None outside of one, and in another library's."""
    global _running_loop
    find = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    if find is None:  # a process that has not imported asyncio has no loop
        return None
    _running_loop = find  # calls of services go straight there from now on
    loop: asyncio.AbstractEventLoop | None = find()
    return loop


_running_loop: Callable[[], asyncio.AbstractEventLoop | None] = _find_running_loop
