"""State that moves from generation to generation, behind a gate that the generations share.

The problem: a service or a sink keeps state, and on reload the state moves to the new generation's
object. A call that reaches the old object after that would be lost.

The idea: all calls pass a gate (`epochal._core.use.gate`), which the change closes while it moves
the state. Three pieces:

- `GatedState` is made by `Kind.open`, once for each generation: the plugin's object and the gate.
- `StateRef` is made by `Kind.wrap`, for each handle that an epoch offers: the state and the lease
  that calls of it carry. Inside the gate, `StateRef.current` leads to the generation that has the
  state, also for a handle from an older epoch.
- `GatedTransfer` is made by `Kind.hand_over`: it moves the state under the closed gate.

The new generation shares the gate from the moment its transfer is made, before it has the state. So
a call that reaches it early, for example from the `init` of a plugin that requires it, is led to
the old object, and its effect is moved with the rest.

Threads: the change writes ``current`` of a gate, one thread at a time, while the gate is closed or
before any caller has the handle. Calls read it inside the gate. So it does not change under a call.
The reference is weak: a `StateRef` refers to its gate, and a strong reference back would be a cycle
that keeps the lease alive until the collector runs.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal._core.use.gate import Admission, Gate
from epochal._core.use.lease import carry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from epochal._core.use.lease import Lease, RevocableLease

__all__ = ["Admission", "ExportGate", "GatedState", "GatedTransfer", "StateRef", "state_ref_of"]


class ExportGate(Gate):
    """The gate of one export, shared by the generations that its state moves through.

    Attributes:
        current: the reference that has the state; None until a handle is offered.
    """

    __slots__ = ("current",)

    def __init__(self) -> None:
        super().__init__()
        self.current: weakref.ref[StateRef] | None = None


class GatedState:
    """The plugin's object of one generation, and the gate in front of it.

    Attributes:
        target: the plugin's object; most kinds never replace it.
        gate: shared with the generations that the state came from, or goes to.
    """

    __slots__ = ("gate", "target")

    def __init__(self, target: Any) -> None:
        self.target: Any = target
        # Replaced at most once, by a `GatedTransfer`, before any other thread knows this object.
        self.gate = ExportGate()


class StateRef:
    """A reference to one generation's state, with the lease that calls through it carry.

    A kind's handle keeps it in the attribute `_ref`, where `GatedTransfer.commit` reads it.
    """

    __slots__ = ("__weakref__", "_methods", "lease", "state")

    def __init__(self, state: GatedState, lease: Lease | RevocableLease) -> None:
        self.state: Final = state
        self.lease: Final = lease
        self._methods: Final[dict[str, Any]] = {}
        # The first reference has the state, until a transfer commits.
        if state.gate.current is None:
            state.gate.current = weakref.ref(self)

    def method(self, name: str) -> Any:
        """Return a method of this generation's own object, carrying its lease, past the gate."""
        try:
            return self._methods[name]
        except KeyError:
            method = carry(getattr(self.state.target, name), self.lease)
            return self._methods.setdefault(name, method)

    @contextmanager
    def inside(self) -> Generator[StateRef]:
        """Pass the gate in a thread; waits while the gate is closed.

        Yields:
            The reference that has the state now: call its methods.
        """
        admission = self.state.gate.enter()
        try:
            yield self.current()
        finally:
            admission.gate.leave(admission)

    def current(self) -> StateRef:
        """Return the reference that has the state, for a call that is inside the gate.

        The thread that moves the state is an exception: it gets this very reference. So an old
        generation's `export_state` reaches the old generation of a plugin that it requires, and a
        new one's `import_state` the new generation, which has its state by then.
        """
        gate = self.state.gate
        ref = gate.current() if gate.current is not None else None
        return ref if ref is not None and not gate.is_moving_here() else self


class GatedTransfer:
    """Moves state while the gate in front of it is closed; a `Handover`.

    Args:
        old: the state to move from.
        new: the state to move to; it gets the gate of the old one.
        take: returns the state of the old object.
        give: passes that state to the new object.

    Attributes:
        gate: the change closes it before `run`, and opens it after `commit` or `roll_back`.
        is_given_up: whether the change was rolled back. Written before the gate is opened, by the
            thread that took the change over; read by the thread that may still be in `run`.
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
        # Here and not in `commit`: the `init` of a plugin that requires the new one runs next, may
        # call it, and must be led to the object that has the state.
        new.gate = old.gate
        self._steps: tuple[Callable[[], Any], Callable[[Any], object]] | None = (take, give)
        self.is_given_up = False

    def run(self) -> None:
        """Take the state from the old object and give it to the new one.

        Does nothing, or only takes, if the change was rolled back meanwhile.
        """
        steps = self._steps  # read once: `roll_back` may clear it from another thread
        if steps is None:
            return
        take, give = steps
        state = take()
        if not self.is_given_up:
            give(state)

    def commit(self, offered: Any) -> None:
        """Lead calls to the new object from now on.

        Args:
            offered: the handle that the new epoch offers.
        """
        self.gate.current = weakref.ref(state_ref_of(offered))
        self._steps = None  # the two functions hold both objects, and may refer to this transfer

    def roll_back(self) -> None:
        """Leave calls with the old object."""
        self.is_given_up = True
        self._steps = None


def state_ref_of(handle: Any) -> StateRef:
    """Return the reference inside a handle of a gated kind."""
    ref: StateRef = vars(handle)["_ref"]
    return ref
