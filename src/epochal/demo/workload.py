"""One run of the demonstration, from the first plugin to the report.

A quiet phase without changes, then the changes, and at last some changes without queries. Threads
and tasks ask their questions until then; one more task reads a long result slowly, so that an old
epoch is always in use. The main thread's event loop holds all tasks.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice, repeat, takewhile
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal import Runtime
from epochal.demo.checks import History, Lane, Phase, Scene
from epochal.demo.data import load_airports, load_flights
from epochal.demo.memory import MemoryTrack
from epochal.demo.questions import EVERY_FLIGHT, SHORT
from epochal.demo.releases import OPENING, WASM_VERSION, Deployer, releases, source
from epochal.demo.report import Report
from epochal.demo.screen import SAMPLES_PER_S, Board
from epochal.demo.witness import living
from epochal.events import ChangeFinished
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping

    from epochal import Cutover
    from epochal.demo.questions import Question
    from epochal.events import Event

_SLOW_BATCH_S: Final = 0.06
_DAYS: Final = [{"month": month, "day": day} for day in range(1, 29) for month in range(1, 13)]
_IDLE: Final = ("1.1.0", "1.0.0") * 3
"""The versions of the plugin `delay` that are published while no query runs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The size of a run."""

    seconds: float = 20.0  # in which plugins are changed
    reloads: int = 60  # changes that are published in that time
    quiet: float = 4.0  # seconds without changes before
    threads: int = 3  # threads that query
    tasks: int = 3  # tasks that query


class Demonstration:
    """One run; its board shows its state meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._rt: Final = Runtime()
        self._db: Final = Database(self._rt)
        self._stage: Final = Scene(self._rt)
        threads, tasks = range(1, settings.threads + 1), range(1, settings.tasks + 1)
        self._threads: Final = [Lane(f"thread {n}", self._stage) for n in threads]
        self._tasks: Final = [Lane(f"task {n}", self._stage) for n in tasks]
        self._reader: Final = Lane("reader", self._stage)
        self._lanes: Final = [*self._threads, *self._tasks, self._reader]
        self.board: Final = Board(self._stage, self._lanes, settings.reloads)
        self._deployer: Final = Deployer(self._rt)
        self._memory: Final = MemoryTrack()
        self._finished: Final[list[Cutover]] = []  # appended by the subscription's thread
        self._idle: list[Cutover] = []
        self._began = self._ended = 0.0  # the changes; seconds of `time.monotonic`
        self._is_finished = False

    def read(self, on_progress: Callable[[float], object]) -> None:
        """Read the flights and the airports.

        Args:
            on_progress: called with the part that is read, from 0 to 1.

        Raises:
            DataMissingError, MissingDependencyError: a part of the demonstration is not installed.
        """
        source("geo", WASM_VERSION)  # before all: it needs wasmtime, whose memory is no growth
        self._db.register("flights", load_flights(on_progress))
        self._db.register("airports", load_airports())

    async def run(self, on_sample: Callable[[], object]) -> None:
        """Run it all; every query has ended and every plugin is removed by then, also if it raises.

        Args:
            on_sample: called ten times a second, and once at the end.
        """
        for take in (self.board.on_event, self._memory.on_event, self._on_event):
            self._rt.events.subscribe(take)
        try:
            change = self._rt.change()
            OPENING.record(change, ())
            await change.run_async()
            async with self._load(on_sample):
                await asyncio.sleep(self._settings.quiet)
                self._stage.phase = Phase.CHANGES
                self._began = monotonic()
                planned = list(releases(self._settings.reloads))
                await self._deployer.run(planned, self._settings.seconds)
                self._ended = monotonic()
                self._stage.phase = Phase.CLOSING
            for version in _IDLE:
                self._idle.append(await self._rt.areload("delay", source("delay", version)))
            self._is_finished = True
        finally:
            # Also stops running queries: no thread of the engine may run plugin code when the
            # process exits. Closing the runtime delivers every event.
            await asyncio.to_thread(self._db.close)
            await self._rt.aclose()
            self.board.sample()
            on_sample()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ChangeFinished):
            self._finished.append(event.cutover)

    @asynccontextmanager
    async def _load(self, on_sample: Callable[[], object]) -> AsyncGenerator[None]:
        """Queries from threads and tasks, and samples, for as long as the block runs."""
        threads = [
            threading.Thread(target=self._query, args=(lane, _from(start)), name=lane.name)
            for start, lane in enumerate(self._threads)
        ]
        for thread in threads:
            thread.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                for start, lane in enumerate(self._tasks):
                    tasks.create_task(self._aquery(lane, _from(start)))
                # As slow as a program that writes a long result to a distant file.
                slowly = self._aquery(self._reader, repeat(EVERY_FLIGHT), pause_s=_SLOW_BATCH_S)
                tasks.create_task(slowly)
                tasks.create_task(self._sample(on_sample))
                yield
                self._stage.over.set()  # before the group waits for its tasks: it ends them
        finally:
            self._stage.over.set()
            for thread in threads:
                await asyncio.to_thread(thread.join)

    async def _sample(self, on_sample: Callable[[], object]) -> None:
        while not self._stage.over.is_set():
            self.board.sample()
            self._memory.read(self._stage.phase)
            on_sample()
            await asyncio.sleep(1.0 / SAMPLES_PER_S)

    def _query(self, lane: Lane, questions: Iterable[Question]) -> None:
        for question, day in self._until_over(questions):
            with lane.operation(question) as operation:
                result = self._db.query(question.sql, day)
                operation.planned(result)
                for batch in result:
                    operation.seen.add(batch)

    async def _aquery(
        self, lane: Lane, questions: Iterable[Question], *, pause_s: float = 0.0
    ) -> None:
        for question, day in self._until_over(questions):
            with lane.operation(question) as operation:
                result = await self._db.aquery(question.sql, day)
                operation.planned(result)
                async for batch in result:
                    operation.seen.add(batch)
                    if pause_s:
                        await asyncio.sleep(0.0 if self._stage.over.is_set() else pause_s)

    def _until_over(
        self, questions: Iterable[Question]
    ) -> Iterator[tuple[Question, Mapping[str, int]]]:
        """Each question with the next day, until the end."""
        pairs = zip(questions, cycle(_DAYS), strict=False)
        return takewhile(lambda _: not self._stage.over.is_set(), pairs)

    def report(self) -> Report:
        """The figures of the run that has ended, or was interrupted."""
        cutovers = tuple(self._finished)
        seconds = (self._ended or monotonic()) - self._began if self._began else 0.0
        history, board, lanes = History(cutovers), self.board, self._lanes
        timed = [*self._threads, *self._tasks]
        absences = [absence for lane in lanes for absence in lane.absences]
        missing = [absence for absence in absences if not absence.is_rightful(history.epochs)]
        untrue = [claim for lane in lanes for claim in lane.claims if not history.is_true(claim)]
        old = [swap for cutover in cutovers for swap in cutover.swaps if swap.old is not None]
        made = self._deployer.committed
        gc.collect()  # a witness that lives on keeps its generation's memory
        leaks = self._memory.leaks.values()
        faults = [fault for lane in lanes for fault in lane.faults]
        counts = ("operations", "flights", "overtaken", "failed", "used_after_shutdown")
        return Report(
            seconds=seconds,
            finished=self._is_finished,
            **{name: board.total(name) for name in counts},
            mixed=board.total("mixed") + len(untrue),
            away=len(absences) - len(missing),
            missing=len(missing),
            reloads=len(made),
            refused=self._deployer.refused,
            cutover_ms=[cutover.cutover_ms for cutover in made],
            idle_cutover_ms=[cutover.cutover_ms for cutover in self._idle],
            quiet_ms=[ms for lane in timed for ms in lane.took_ms[Phase.QUIET]],
            reload_ms=[ms for lane in timed for ms in lane.took_ms[Phase.CHANGES]],
            python_ms=[ms for lane in timed for ms in lane.lengths_ms[False]],
            wasm_ms=[ms for lane in timed for ms in lane.lengths_ms[True]],
            wakeup_us=[swap.wakeup_us for swap in old if swap.wakeup_us is not None],
            reclaimed=sum(swap.reclaimed for swap in old),
            leaked=max(len(leaks), sum(not swap.reclaimed for swap in old), len(living)),
            rss_growth_mib=self._memory.growth_mib(Phase.QUIET, Phase.CHANGES),
            faults=[*self._deployer.faults, *faults, *leaks, *map(str, missing), *map(str, untrue)],
        )


def _from(start: int) -> Iterator[Question]:
    """The short questions without end; each lane starts with another one."""
    return islice(cycle(SHORT), start, None)
