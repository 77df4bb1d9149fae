"""Lanes: the threads and tasks that run queries, and the counts of what became of each query.

Each lane's own thread writes its fields and needs no lock; the screen and the report read, and see
a count or the next one. Nothing is retried and no error is passed over.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Final

from epochal.demo.checks import Absence, Claim, Comparison, stamp_of
from epochal.demo.witness import UsedTooLateError
from epochal.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Generator

    from epochal import Runtime
    from epochal.demo.questions import Question
    from epochal.sql import Result

_MISSING: Final = "no function "


class Phase(Enum):
    """The phase of a run, as the screen calls it."""

    QUIET = "first, nothing changes"
    CHANGES = "plugins change under load"
    CLOSING = "everything is removed"


class Stage:
    """The state that all lanes share: the runtime, the phase, and whether the run is over.

    The run writes `phase`; every lane reads it when an operation begins.
    """

    def __init__(self, rt: Runtime) -> None:
        self.rt: Final = rt
        self.phase = Phase.QUIET
        self.over: Final = threading.Event()


class Lane:
    """One thread's or task's operations.

    Attributes:
        epoch: number of the epoch that the running query was planned in; None between queries.
        counts: `operations` (ended in any way except `absences`), `flights` (rows whose stamps were
            compared), `overtaken` (ended whole on an epoch that had been replaced), `failed`
            (raised), `mixed` (rows disagree about the generation that computed them) and
            `used_after_shutdown`.
        took_ms: how long each query took, by phase; nothing if the lane is not `timed`.
        claims: the stamps seen in each epoch.
        absences: queries that failed because a function does not exist.
        faults: the last few faults, in words.
    """

    def __init__(self, name: str, stage: Stage, *, timed: bool = True) -> None:
        self.name: Final = name
        self._stage: Final = stage
        self._timed: Final = timed
        self.epoch: int | None = None
        self.counts: Final[Counter[str]] = Counter()
        self.took_ms: Final[dict[Phase, list[float]]] = {phase: [] for phase in Phase}
        self.claims: Final[set[Claim]] = set()
        self.absences: Final[list[Absence]] = []
        self.faults: Final[deque[str]] = deque(maxlen=5)

    @contextmanager
    def operation(self, question: Question) -> Generator[CheckedQuery]:
        """Run one query in the block, and count how it ends.

        Only exceptions that are not an `Exception` (cancellation, Ctrl-C) leave the block.
        """
        operation, rt = CheckedQuery(self), self._stage.rt
        phase, earliest, started = self._stage.phase, rt.epoch.number, perf_counter()
        try:
            yield operation
        except Exception as error:  # noqa: BLE001  a failed operation is a result of the run
            if isinstance(error, QueryError) and str(error).startswith(_MISSING):
                absence = Absence(earliest, rt.epoch.number, question.plugins, str(error))
                self.absences.append(absence)
                return
            late = isinstance(error.__cause__, UsedTooLateError)
            self.counts.update(operations=1, failed=1, used_after_shutdown=int(late))
            self.faults.append(f"{self.name}: {type(error).__name__}: {error}")
        else:
            seen, epoch = operation.seen, operation.epoch
            overtaken = int(epoch != rt.epoch.number)
            self.counts.update(operations=1, flights=seen.flights, overtaken=overtaken)
            if self._timed:
                self.took_ms[phase].append((perf_counter() - started) * 1000.0)
            self.claims.add((epoch, frozenset(seen.promised.items())))
            if seen.faults:
                self.counts.update(mixed=1)
                self.faults.append(f"{self.name}: {seen.faults[0]}")
        finally:
            self.epoch = None


class CheckedQuery:
    """One query while it runs: compares each batch with the provenance of the result."""

    def __init__(self, lane: Lane) -> None:
        self._lane: Final = lane
        self.epoch = 0
        self.seen = Comparison({})

    def planned(self, result: Result) -> None:
        """The query is planned: from now on its rows must agree with this provenance."""
        self.epoch = self._lane.epoch = result.epoch.number
        self.seen = Comparison({p.plugin: stamp_of(p) for p in result.provenance})
