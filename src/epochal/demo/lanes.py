"""Lanes: who runs queries, and what became of them.

A lane is one thread or task that asks questions until it is told to stop. It notes everything about
its own operations and nothing about others', so it needs no lock: each field has one writer, the
lane's own thread, and readers (the screen, the report) that see a count or the next one.

Nothing is retried and no error is passed over: whatever a query raises is counted as what it is.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Final

from epochal.demo.checks import Absence, Claim, Comparison, stamp_of
from epochal.demo.witness import UsedTooLateError
from epochal.errors import FunctionError, QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import pyarrow as pa

    from epochal.demo.questions import Question
    from epochal.runtime import Runtime
    from epochal.sql import Result

_MISSING: Final = "no function "


class Phase(Enum):
    """What goes on while an operation runs."""

    # Plugins stay as they are: how fast queries are when nothing changes.
    QUIET = "quiet"
    # Plugins are changed all the time.
    CHANGES = "changes"
    # Every change is made and drained; what still runs ends.
    CLOSING = "closing"


class Stage:
    """What all lanes share.

    Attributes:
        rt: the runtime whose plugins are changed.
        phase: written by the director, read by every lane when an operation begins.
        over: set when lanes shall end.
    """

    __slots__ = ("over", "phase", "rt")

    def __init__(self, rt: Runtime) -> None:
        self.rt: Final = rt
        self.phase = Phase.QUIET
        self.over: Final = threading.Event()


class Lane:
    """One worker's operations.

    Args:
        name: of the thread or task, for people.
        stage: what all lanes share.
        timed: whether its queries' times count; not where the reader takes its time.

    Attributes:
        name: as given.
        epoch: number of the epoch that the running query was planned in; None between queries.
        operations: queries that ended, whichever way (but see `absences`).
        flights: rows whose stamps were compared.
        overtaken: queries that ended, whole, when the epoch that they ran on was replaced already.
        failed: queries that raised.
        mixed: queries whose rows disagree about who computed them.
        used_after_shutdown: queries in which a generation was used after its shutdown.
        took_ms: how long each query took, by phase.
        claims: which stamps were seen in which epoch.
        absences: queries that were told that a function does not exist; `Absence.is_rightful` says
            whether that was so.
        faults: the last few things that went wrong, in words.
    """

    __slots__ = (
        "_stage",
        "_timed",
        "absences",
        "claims",
        "epoch",
        "failed",
        "faults",
        "flights",
        "mixed",
        "name",
        "operations",
        "overtaken",
        "took_ms",
        "used_after_shutdown",
    )

    def __init__(self, name: str, stage: Stage, *, timed: bool = True) -> None:
        self._stage: Final = stage
        self._timed: Final = timed
        self.name: Final = name
        self.epoch: int | None = None
        self.operations = 0
        self.flights = 0
        self.overtaken = 0
        self.failed = 0
        self.mixed = 0
        self.used_after_shutdown = 0
        self.took_ms: Final[Mapping[Phase, list[float]]] = {phase: [] for phase in Phase}
        self.claims: Final[set[Claim]] = set()
        self.absences: Final[list[Absence]] = []
        self.faults: Final[deque[str]] = deque(maxlen=5)

    def attempt(self, question: Question) -> Attempt:
        """One operation, in a `with` block in which its query is run."""
        return Attempt(self, self._stage, question)

    def missed(self, absence: Absence) -> None:
        """Note a function that was said not to exist."""
        self.absences.append(absence)

    def broke(self, error: Exception) -> None:
        """Count an operation that raised."""
        self.operations += 1
        self.failed += 1
        if _used_too_late(error):
            self.used_after_shutdown += 1
        self.faults.append(f"{self.name}: {type(error).__name__}: {error}")

    def ended(self, phase: Phase, took_ms: float, seen: Comparison, claim: Claim) -> None:
        """Count an operation that gave a result."""
        self.operations += 1
        self.flights += seen.flights
        if self._timed:
            self.took_ms[phase].append(took_ms)
        self.claims.add(claim)
        self.overtaken += claim[0] != self._stage.rt.epoch.number
        if seen.faults:
            self.mixed += 1
            self.faults.append(f"{self.name}: {seen.faults[0]}")


class Attempt:
    """One operation while it runs: give it the result, then each batch.

    As a context manager it turns whatever happens in its block into counts of its lane. Only what
    is not an `Exception` (cancellation, Ctrl-C) passes.
    """

    __slots__ = (
        "_earliest",
        "_epoch",
        "_lane",
        "_phase",
        "_question",
        "_seen",
        "_stage",
        "_started",
    )

    def __init__(self, lane: Lane, stage: Stage, question: Question) -> None:
        self._lane: Final = lane
        self._stage: Final = stage
        self._question: Final = question
        self._seen = Comparison({})
        self._epoch = 0

    def planned(self, result: Result) -> None:
        """The query was planned: from now on it must stick to what it says here."""
        self._epoch = result.epoch.number
        self._seen = Comparison({one.plugin: stamp_of(one) for one in result.provenance})
        self._lane.epoch = self._epoch

    def got(self, batch: pa.RecordBatch) -> None:
        """Compare a batch's stamps."""
        self._seen.add(batch)

    def __enter__(self) -> Attempt:
        self._phase = self._stage.phase
        self._earliest = self._stage.rt.epoch.number
        self._started = perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        lane, took_ms = self._lane, (perf_counter() - self._started) * 1000.0
        lane.epoch = None
        if error is None:
            claim = (self._epoch, frozenset(self._seen.promised.items()))
            lane.ended(self._phase, took_ms, self._seen, claim)
        elif isinstance(error, QueryError) and str(error).startswith(_MISSING):
            latest = self._stage.rt.epoch.number
            lane.missed(Absence(self._earliest, latest, self._question.plugins, str(error)))
        elif isinstance(error, Exception):
            lane.broke(error)
        return isinstance(error, Exception)


def _used_too_late(error: Exception) -> bool:
    return isinstance(error, FunctionError) and isinstance(error.__cause__, UsedTooLateError)
