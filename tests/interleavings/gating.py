"""Programs over gates: calls enter and leave while a change closes the gates.

All of `_core/use/gate.py` is stepped through. An admission ends by its death when the frame that
holds it ends.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from epochal._core.use import gate as gates
from epochal._core.use.gate import Admission, Gate, GateClosure
from tests.interleavings.exploring import Program, every, replaced, sampled

if TYPE_CHECKING:
    from collections.abc import Callable

GATE: Final = ("_core/use/gate.py", "interleavings/gating.py")


# --- a call and a hand-over -----------------------------------------------------------------------


def open_gate() -> SimpleNamespace:
    return SimpleNamespace(gate=Gate(), inside=0, seen=[], ended=[])


def calling(state: Any) -> None:
    admission = state.gate.enter()
    state.inside += 1
    state.inside -= 1
    state.gate.leave(admission)
    state.ended.append(1)


def dropping(state: Any) -> None:
    """A call that is interrupted between two instructions: its frame ends without `leave`."""
    interrupted(state)
    state.ended.append(1)


def interrupted(state: Any) -> None:
    admission = state.gate.enter()
    state.inside += 1
    state.inside -= 1
    assert admission


def transferring(state: Any) -> None:
    closing, begun = GateClosure([state.gate]), time.monotonic()
    assert closing.close(None), (closing.is_sealed, closing.is_over)
    # Virtual time passes only where every thread waits: then nothing has woken the closing.
    assert time.monotonic() - begun < gates._LOOK_S
    state.seen.append(state.inside)
    state.seen.append(state.inside)
    closing.open()
    state.ended.append(1)


def no_call_was_inside(state: Any) -> None:
    assert state.seen == [0, 0], state.seen
    assert len(state.ended) == 2, state
    assert not state.gate.inside(), state.gate._admissions


def check_first(self: Gate, loop: Any) -> Admission:
    """Tests whether the gate is closed before it announces the admission."""
    admission = Admission(self, loop)
    if self._closing is not None:
        return admission
    ref = gates._AdmissionRef(admission, gates._on_death)
    ref.gate = self
    admission.key = id(ref)
    self._admissions[admission.key] = ref
    admission.is_admitted = True
    return admission


def forget_silently(ref: Any) -> None:
    ref.gate._admissions.pop(id(ref), None)


# --- calls that cross -----------------------------------------------------------------------------


def two_gates() -> SimpleNamespace:
    return SimpleNamespace(gates=(Gate(), Gate()), ended=[])


def crossing(first: int) -> Callable[[Any], None]:
    def cross(state: Any) -> None:
        outer = state.gates[first].enter()
        inner = state.gates[1 - first].enter()
        state.gates[1 - first].leave(inner)
        state.gates[first].leave(outer)
        state.ended.append(1)

    return cross


def closing_both(state: Any) -> None:
    closing = GateClosure(state.gates)
    assert closing.close(None), (closing.is_sealed, closing.is_over)
    assert not any(admission.is_admitted for gate in state.gates for admission in gate.inside())
    closing.open()
    state.ended.append(1)


def all_ended(state: Any) -> None:
    assert len(state.ended) == 3, state


def comes_from_inside_one_gate(self: GateClosure, trail: Any) -> bool:
    admission = trail.admission() if trail is not None else None
    return admission is not None and admission.gate is self._gates[0]


PROGRAMS = (
    Program(
        "gate-call-against-closing",
        "services: no call is inside while state moves, and a waiting call is admitted afterwards",
        "a call tests whether the gate is closed before it announces its admission",
        open_gate,
        (calling, transferring),
        no_call_was_inside,
        replaced(Gate, "_try_enter", check_first),
        ci=every(1, at_least=100),
        soak=every(2, at_least=2000),
        where=GATE,
    ),
    Program(
        "gate-dropped-admission-against-closing",
        "services: an interrupted call counts as left, wherever it was interrupted",
        "the death of an admission does not wake the closing",
        open_gate,
        (dropping, transferring),
        no_call_was_inside,
        replaced(gates, "_on_death", forget_silently),
        ci=every(1, at_least=100),
        soak=every(2, at_least=2000),
        where=GATE,
    ),
    Program(
        "gates-crossed-against-closing",
        "services: calls that enter two gates in opposite order end, even while both are closed",
        "a call inside the second gate waits at the first, while the closing waits for that call",
        two_gates,
        (crossing(0), crossing(1), closing_both),
        all_ended,
        replaced(GateClosure, "_comes_from_inside", comes_from_inside_one_gate),
        ci=sampled(300, preemptions=2),
        soak=sampled(3000, preemptions=3),
        where=GATE,
    ),
)
