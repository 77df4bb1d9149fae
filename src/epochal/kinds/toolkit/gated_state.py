"""What a kind keeps for one generation, behind a gate that its successors share.

A kind that keeps something opens a `GatedState`: the plugin's object, and the gate before it
(`epochal._core.use.gate`). What the epoch offers is made of a `StateRef`: that object, and the
lease that calls of it carry. When a new generation takes the state over it shares the gate, and
calls go to whichever generation has the state, also through an epoch that was captured before: what
an older one would do to its own object after the state has moved would be lost.

The new one shares the gate from its beginning. So what calls it before it has its state, the `init`
of a plugin that requires it say, reaches the old one, and is moved along with the rest.

Who reads, who writes: ``current`` of a gate is written by the change that has the turn, while the
gate is closed or before anybody knows the handle, and read by calls that are inside: so it does not
change under a call. It is weak, since whoever it names refers to the gate.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal._core.use.gate import Admission, Gate
from epochal._core.use.lease_carrier import carry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from epochal._core.use.lease import Lease, RevocableLease

__all__ = ["Admission", "ExportGate", "GatedState", "GatedTransfer", "StateRef", "state_ref_of"]


class ExportGate(Gate):
    """The gate of one export, shared by the generations that its state goes through.

    Attributes:
        current: the side that has the state.
    """

    __slots__ = ("current",)

    def __init__(self) -> None:
        super().__init__()
        self.current: weakref.ref[StateRef] | None = None


class GatedState:
    """What a kind opened for one generation: the plugin's object, and the gate before it.

    Attributes:
        target: the plugin's object; most kinds never replace it.
        gate: shared with the other generations that the state came from, or goes to.
    """

    __slots__ = ("gate", "target")

    def __init__(self, target: Any) -> None:
        self.target: Any = target
        # Replaced once, by a `GatedTransfer`, before anybody else knows this.
        self.gate = ExportGate()


class StateRef:
    """One generation's end of what is kept: its object, and the lease that calls of it carry."""

    __slots__ = ("__weakref__", "_methods", "lease", "state")

    def __init__(self, state: GatedState, lease: Lease | RevocableLease) -> None:
        self.state: Final = state
        self.lease: Final = lease
        self._methods: Final[dict[str, Any]] = {}
        if state.gate.current is None:
            state.gate.current = weakref.ref(self)

    def method(self, name: str) -> Any:
        """A method of this very generation's object, carrying its lease, past the gate."""
        try:
            return self._methods[name]
        except KeyError:
            method = carry(getattr(self.state.target, name), self.lease)
            return self._methods.setdefault(name, method)

    @contextmanager
    def inside(self) -> Generator[StateRef]:
        """Go through the gate, in a thread; waits while it is closed.

        Yields:
            Where the call goes, `newest`.
        """
        visit = self.state.gate.enter()
        try:
            yield self.current()
        finally:
            visit.gate.leave(visit)

    def current(self) -> StateRef:
        """Where a call goes that is inside the gate: to who has the state.

        What moves the state finds the very generation that it asks instead: of what it requires,
        an old one the old, and a new one the new, which has its state by then.
        """
        gate = self.state.gate
        side = gate.current() if gate.current is not None else None
        return side if side is not None and not gate.is_moving_here() else self


class GatedTransfer:
    """Moves state while the gate before it is closed; a `Handover`.

    Args:
        old: where from.
        new: where to; it gets the gate of the old one.
        take: gives the state of the old one.
        give: has the new one take it over.

    Attributes:
        gate: the change closes it before `run`, and opens it after `commit` or `roll_back`.
        is_given_up: whether the change went back. Written before the gate is opened, by whoever
            takes the change over; read by the thread in which it may still be under way.
    """

    __slots__ = ("_steps", "gate", "is_given_up")

    def __init__(
        self,
        old: GatedState,
        new: GatedState,
        take: Callable[[], Any],
        give: Callable[[Any], object],
    ) -> None:
        self.gate: Final = old.gate
        new.gate = old.gate
        self._steps: tuple[Callable[[], Any], Callable[[Any], object]] | None = (take, give)
        self.is_given_up = False

    def run(self) -> None:
        """Take, give. Ends early if it was given up meanwhile."""
        steps = self._steps
        if steps is None:
            return
        take, give = steps
        state = take()
        if not self.is_given_up:
            give(state)

    def commit(self, offered: Any) -> None:
        """Calls go to the new one from now on."""
        self.gate.current = weakref.ref(state_ref_of(offered))
        self._steps = None  # they hold both objects, and may refer to this

    def roll_back(self) -> None:
        """Calls go on with the old one."""
        self.is_given_up = True
        self._steps = None


def state_ref_of(handle: Any) -> StateRef:
    """The side that a handle of a gated kind stands for."""
    side: StateRef = vars(handle)["_ref"]
    return side
