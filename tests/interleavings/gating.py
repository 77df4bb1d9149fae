"""Programs over gates: calls that go in and out while a change closes them.

All of `_core/use/gate.py` is stepped through. An admission that ends by dying
is released by the end of the frame that holds it.
"""

from __future__ import annotations

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


def calling(at: Any) -> None:
    admission = at.gate.enter()
    at.inside += 1
    at.inside -= 1
    at.gate.leave(admission)
    at.ended.append(1)


def dropping(at: Any) -> None:
    """A call that is interrupted between two instructions: its frame ends without a report."""
    interrupted(at)
    at.ended.append(1)


def interrupted(at: Any) -> None:
    admission = at.gate.enter()
    at.inside += 1
    at.inside -= 1
    assert admission


def moving(at: Any) -> None:
    closing = GateClosure([at.gate])
    assert closing.close(None), (closing.is_sealed, closing.is_over)
    at.seen.append(at.inside)
    at.seen.append(at.inside)
    closing.open()
    at.ended.append(1)


def no_call_was_inside(at: Any) -> None:
    assert at.seen == [0, 0], at.seen
    assert len(at.ended) == 2, at
    assert not at.gate.inside(), at.gate._admissions


def look_first(self: Gate, loop: Any) -> Admission:
    """Looks whether the gate is closed before it announces the call."""
    admission = Admission(self, loop)
    if self._closing is not None:
        return admission
    ref = gates._AdmissionRef(admission, gates._on_death)
    ref.gate = self
    admission.key = id(ref)
    self._admissions[admission.key] = ref
    admission.is_admitted = True
    return admission


def stay_asleep(ref: Any) -> None:
    ref.gate._admissions.pop(id(ref), None)


# --- calls that cross -----------------------------------------------------------------------------


def two_gates() -> SimpleNamespace:
    return SimpleNamespace(gates=(Gate(), Gate()), ended=[])


def crossing(first: int) -> Callable[[Any], None]:
    def cross(at: Any) -> None:
        outer = at.gates[first].enter()
        inner = at.gates[1 - first].enter()
        at.gates[1 - first].leave(inner)
        at.gates[first].leave(outer)
        at.ended.append(1)

    return cross


def closing_both(at: Any) -> None:
    closing = GateClosure(at.gates)
    assert closing.close(None), (closing.is_sealed, closing.is_over)
    assert not any(admission.is_admitted for gate in at.gates for admission in gate.inside())
    closing.open()
    at.ended.append(1)


def all_ended(at: Any) -> None:
    assert len(at.ended) == 3, at


def comes_from_inside_one_gate(self: GateClosure, trail: Any) -> bool:
    admission = trail.admission() if trail is not None else None
    return admission is not None and admission.gate is self._gates[0]


PROGRAMS = (
    Program(
        "gate-call-against-closing",
        "services: no call is inside while state moves, and a waiting call is admitted again",
        "a call looks whether the gate is closed before it announces itself",
        open_gate,
        (calling, moving),
        no_call_was_inside,
        replaced(Gate, "_try_enter", look_first),
        ci=every(1, at_least=100),
        soak=every(2, at_least=2000),
        where=GATE,
    ),
    Program(
        "gate-dropped-admission-against-closing",
        "services: a call that is interrupted anywhere has left",
        "the death of an admission wakes no closing",
        open_gate,
        (dropping, moving),
        no_call_was_inside,
        replaced(gates, "_on_death", stay_asleep),
        ci=every(1, at_least=100),
        soak=every(2, at_least=2000),
        where=GATE,
    ),
    Program(
        "gates-crossed-against-closing",
        "services: calls that cross each other's gates end, whenever both are closed",
        "one of the two waits where it is waited for",
        two_gates,
        (crossing(0), crossing(1), closing_both),
        all_ended,
        replaced(GateClosure, "_comes_from_inside", comes_from_inside_one_gate),
        ci=sampled(300, preemptions=2),
        soak=sampled(3000, preemptions=3),
        where=GATE,
    ),
)
