"""How queries are counted, check their own results, and are checked against history.

Two independent witnesses are compared. The *rows* carry stamps, put there by the generations that
computed them. The *provenance* of the result lists the generations that the SQL host planned with.
An operation is mixed if any row disagrees with the provenance, or any generation was linked to
another than the one that SQL called (`Comparison`).

Afterwards a third witness is heard: the reports of the changes list the versions of each epoch.
Every claim "in epoch 7 I saw geo 1.2.0#3" must agree with them (`History`), and a function may be
missing only while its plugin was.

The fields of a `Lane` are written by its own thread, without a lock; the screen and the report see
a count or the next one. Nothing is retried and no error is passed over.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeAlias

import pyarrow.compute as pc

from epochal.demo.questions import LENGTHS
from epochal.demo.releases import is_wasm
from epochal.demo.witness import UsedTooLateError
from epochal.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Mapping

    import pyarrow as pa

    from epochal import Runtime
    from epochal.demo.questions import Question
    from epochal.report import Cutover, Version
    from epochal.sql import Provenance, Result

_MISSING: Final = "no function "
_STAMP: Final = "by_"
_VIA: Final = "_via_"
_SMALLEST_GAP: Final = 1e-9  # both sides do the same arithmetic: even rounding is the same

Claim: TypeAlias = "tuple[int, frozenset[tuple[str, str]]]"
"""An epoch's number, and the stamps (plugin, `version#generation`) that an operation saw in it."""


def stamp_of(version: Version | Provenance) -> str:
    """The stamp that the witness of this generation puts on its rows."""
    return f"{version.version}#{version.generation}"


class Comparison:
    """One result, compared batch by batch with its provenance."""

    def __init__(self, promised: Mapping[str, str]) -> None:
        self.promised: Final = promised  # plugin -> the stamp that every row must bear
        self.flights = 0  # whose stamps were compared
        self.faults: list[str] = []  # the disagreements, in words; empty for a whole result

    def add(self, batch: pa.RecordBatch) -> None:
        """Compare every row of a batch."""
        for column in batch.schema.names:
            if column.startswith(_STAMP):
                name = column.removeprefix(_STAMP).replace(_VIA, " through ")
                promised = self.promised.get(name.split()[0])
                self.faults += [
                    f"rows of {name} are by {stamp}, planned was {promised}"
                    for stamp in pc.unique(batch.column(column)).to_pylist()
                    if stamp != promised
                ]
        if "gap" in batch.schema.names:
            widest = pc.max(batch.column("gap")).as_py()
            if widest is not None and widest > _SMALLEST_GAP:
                self.faults.append(f"geo and SQL convert by different units: {widest:g} apart")
        self.flights += pc.sum(batch.column("flights")).as_py() or 0


@dataclass(frozen=True, slots=True)
class Absence:
    """A query that failed because a function does not exist."""

    earliest: int  # number of the current epoch just before it was planned
    latest: int  # number of the current epoch just after it was refused
    plugins: frozenset[str]  # that it calls
    message: str

    @property
    def epochs(self) -> range:
        """The numbers of the epochs that it may have been planned in."""
        return range(self.earliest, self.latest + 1)

    def is_rightful(self, epochs: Mapping[int, Collection[str]]) -> bool:
        """Whether the function's plugin was absent in one of them; `epochs`: plugins of each."""
        return any(
            f"{plugin}." in self.message and plugin not in epochs[number]
            for number in self.epochs
            for plugin in self.plugins
        )


class History:
    """The generations of each epoch, from the reports of all changes of a runtime."""

    def __init__(self, cutovers: Iterable[Cutover]) -> None:
        # Number of an epoch -> plugin -> stamp.
        self.epochs: Final[dict[int, dict[str, str]]] = {0: {}}
        for cutover in sorted(cutovers, key=lambda cutover: cutover.epoch_after):
            plugins = dict(self.epochs[cutover.epoch_before])
            for swap in cutover.swaps:
                plugins.pop(swap.plugin, None)
                if swap.new is not None:
                    plugins[swap.plugin] = stamp_of(swap.new)
            self.epochs[cutover.epoch_after] = plugins

    def is_true(self, claim: Claim) -> bool:
        """Whether an epoch had the stamps that an operation saw in it."""
        number, stamps = claim
        return stamps <= frozenset(self.epochs.get(number, {}).items())


class Phase(Enum):
    """The phase of a run, as the screen calls it."""

    QUIET = "first, nothing changes"
    CHANGES = "plugins change"
    CLOSING = "everything is removed"


@dataclass
class Scene:
    """The state that all lanes share; the run writes `phase`, an operation that begins reads it."""

    rt: Runtime
    phase: Phase = Phase.QUIET
    over: threading.Event = field(default_factory=threading.Event)


@dataclass
class Lane:
    """One thread's or task's operations.

    The counts are `operations` (ended in any way except `absences`), `flights` (rows whose stamps
    were compared), `overtaken` (ended whole on an epoch that had been replaced), `failed` (raised),
    `mixed` (rows disagree about the generation that computed them) and `used_after_shutdown`.

    `lengths_ms` are the times of the queries about lengths while plugins change, apart for those
    whose `geo` was WebAssembly.
    """

    name: str
    stage: Scene
    epoch: int | None = None  # that its last query was planned in; None before the first
    counts: Counter[str] = field(default_factory=Counter)
    took_ms: dict[Phase, list[float]] = field(default_factory=lambda: {p: [] for p in Phase})
    lengths_ms: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    claims: set[Claim] = field(default_factory=set)
    absences: list[Absence] = field(default_factory=list)  # queries without their function
    faults: deque[str] = field(default_factory=lambda: deque(maxlen=5))  # the last few, in words

    @property
    def wrong(self) -> int:
        """Queries that failed or saw a mix of versions."""
        return self.counts["failed"] + self.counts["mixed"]

    @contextmanager
    def operation(self, question: Question) -> Generator[CheckedQuery]:
        """Run one query in the block, and count how it ends.

        Only exceptions that are not an `Exception` (cancellation, Ctrl-C) leave the block.
        """
        operation, rt = CheckedQuery(self), self.stage.rt
        phase, earliest, started = self.stage.phase, rt.epoch.number, perf_counter()
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
            took_ms = (perf_counter() - started) * 1000.0
            self.took_ms[phase].append(took_ms)
            if phase is Phase.CHANGES and question.plugins == LENGTHS:
                self.lengths_ms[is_wasm(seen.promised["geo"])].append(took_ms)
            self.claims.add((epoch, frozenset(seen.promised.items())))
            if seen.faults:
                self.counts.update(mixed=1)
                self.faults.append(f"{self.name}: {seen.faults[0]}")


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
