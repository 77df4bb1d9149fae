"""Programs over gates: calls that go in and out while a change closes them.

All of `_core/use/gate.py` is stepped through. A visit that ends by dying is let go by the end of
the frame that holds it.
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
    visit = at.gate.enter()
    at.inside += 1
    at.inside -= 1
    at.gate.leave(visit)
    at.ended.append(1)


def dropping(at: Any) -> None:
    """A call that is interrupted between two instructions: its frame ends, and says nothing."""
    interrupted(at)
    at.ended.append(1)


def interrupted(at: Any) -> None:
    visit = at.gate.enter()
    at.inside += 1
    at.inside -= 1
    assert visit


def moving(at: Any) -> None:
    closing = GateClosure([at.gate])
    assert closing.close(None), (closing.is_sealed, closing.is_over)
    at.seen.append(at.inside)
    at.seen.append(at.inside)
    closing.open()
    at.ended.append(1)


def nobody_was_inside(at: Any) -> None:
    assert at.seen == [0, 0], at.seen
    assert len(at.ended) == 2, at
    assert not at.gate.inside(), at.gate._visits


def look_first(self: Gate, loop: Any) -> Admission:
    """Looks whether the gate is closed before it says that it comes."""
    visit = Admission(self, loop)
    if self._closing is not None:
        return visit
    mark = gates._Mark(visit, gates._gone)
    mark.gate = self
    visit.key = id(mark)
    self._visits[visit.key] = mark
    visit.is_admitted = True
    return visit


def stay_asleep(mark: Any) -> None:
    mark.gate._visits.pop(id(mark), None)


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
    assert not any(visit.is_admitted for gate in at.gates for visit in gate.inside())
    closing.open()
    at.ended.append(1)


def all_ended(at: Any) -> None:
    assert len(at.ended) == 3, at


def from_inside_one_only(self: GateClosure, trail: Any) -> bool:
    visit = trail.visit() if trail is not None else None
    return visit is not None and visit.gate is self._gates[0]


PROGRAMS = (
    Program(
        "gate-call-against-closing",
        "services: nobody is inside while state moves, and whoever comes is let in again",
        "a call looks whether the gate is closed before it says that it comes",
        open_gate,
        (calling, moving),
        nobody_was_inside,
        replaced(Gate, "_try_enter", look_first),
        ci=every(1, at_least=100),
        soak=every(2, at_least=2000),
        where=GATE,
    ),
    Program(
        "gate-dropped-visit-against-closing",
        "services: a call that is interrupted anywhere has left",
        "nobody is woken by a visit that dies",
        open_gate,
        (dropping, moving),
        nobody_was_inside,
        replaced(gates, "_gone", stay_asleep),
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
        replaced(GateClosure, "_comes_from_inside", from_inside_one_only),
        ci=sampled(300, preemptions=2),
        soak=sampled(3000, preemptions=3),
        where=GATE,
    ),
)
