"""One run of the demonstration, from the first plugin to the report.

A quiet phase without changes, then the changes. Threads and tasks ask their questions throughout;
one more task reads a long result slowly, so that an old epoch is always in use. The main thread's
event loop holds all tasks.
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
from epochal.demo.checks import History, Lane, Phase, Stage
from epochal.demo.data import load_airports, load_flights
from epochal.demo.memory import MemoryTrack
from epochal.demo.questions import EVERY_FLIGHT, SHORT
from epochal.demo.releases import OPENING, Deployer, releases
from epochal.demo.report import Report
from epochal.demo.screen import SAMPLES_PER_S, Board
from epochal.demo.witness import living
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from epochal import Cutover
    from epochal.demo.questions import Question

_SLOW_BATCH_S: Final = 0.06


@dataclass(frozen=True, slots=True)
class Settings:
    """The size of a run."""

    seconds: float = 20.0  # in which plugins are changed
    reloads: int = 60  # changes that are published in that time
    quiet: float = 5.0  # seconds without changes before
    threads: int = 3  # threads that query
    tasks: int = 3  # tasks that query


class Demonstration:
    """One run; its board shows its state meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._rt: Final = Runtime()
        self._db: Final = Database(self._rt)
        self._stage: Final = Stage(self._rt)
        threads, tasks = range(1, settings.threads + 1), range(1, settings.tasks + 1)
        self._threads: Final = [Lane(f"thread {n}", self._stage) for n in threads]
        self._tasks: Final = [Lane(f"task {n}", self._stage) for n in tasks]
        self._reader: Final = Lane("reader", self._stage)
        self._lanes: Final = [*self._threads, *self._tasks, self._reader]
        self.board: Final = Board(self._stage, self._lanes, settings.reloads)
        self._deployer: Final = Deployer(self._rt)
        self._memory: Final = MemoryTrack()

    async def run(self, on_sample: Callable[[], object]) -> Report:
        """Run it all; every query has ended and every plugin is removed by then, also if it raises.

        Args:
            on_sample: called ten times a second, and once at the end.
        """
        self._db.register("flights", load_flights())
        self._db.register("airports", load_airports())
        self._rt.events.subscribe(self.board.on_event)
        self._rt.events.subscribe(self._memory.on_event)
        try:
            change = self._rt.change()
            OPENING.record(change, ())
            opening = await change.run_async()
            async with self._load(on_sample):
                await asyncio.sleep(self._settings.quiet)
                self._stage.phase = Phase.CHANGES
                started = monotonic()
                planned = list(releases(self._settings.reloads))
                await self._deployer.run(planned, self._settings.seconds)
                seconds = monotonic() - started
                self._stage.phase = Phase.CLOSING
        finally:
            # Also stops running queries: no thread of the engine may run plugin code when the
            # process exits.
            await asyncio.to_thread(self._db.close)
            closing = await self._rt.aclose()
        self.board.sample()
        on_sample()
        cutovers = (opening, *self._deployer.committed, closing)
        return self._report([cutover for cutover in cutovers if cutover], seconds)

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
        for question, month in self._until_over(questions):
            with lane.operation(question) as operation:
                result = self._db.query(question.sql, {"month": month})
                operation.planned(result)
                for batch in result:
                    operation.seen.add(batch)

    async def _aquery(
        self, lane: Lane, questions: Iterable[Question], *, pause_s: float = 0.0
    ) -> None:
        for question, month in self._until_over(questions):
            with lane.operation(question) as operation:
                result = await self._db.aquery(question.sql, {"month": month})
                operation.planned(result)
                async for batch in result:
                    operation.seen.add(batch)
                    if pause_s:
                        await asyncio.sleep(0.0 if self._stage.over.is_set() else pause_s)

    def _until_over(self, questions: Iterable[Question]) -> Iterator[tuple[Question, int]]:
        """Each question with the next month, until the end."""
        pairs = zip(questions, cycle(range(1, 13)), strict=False)
        return takewhile(lambda _: not self._stage.over.is_set(), pairs)

    def _report(self, cutovers: Sequence[Cutover], seconds: float) -> Report:
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
            **{name: board.total(name) for name in counts},
            mixed=board.total("mixed") + len(untrue),
            away=len(absences) - len(missing),
            missing=len(missing),
            reloads=len(made),
            refused=self._deployer.refused,
            cutover_ms=[cutover.cutover_ms for cutover in made],
            quiet_ms=[ms for lane in timed for ms in lane.took_ms[Phase.QUIET]],
            reload_ms=[ms for lane in timed for ms in lane.took_ms[Phase.CHANGES]],
            wakeup_us=[swap.wakeup_us for swap in old if swap.wakeup_us is not None],
            reclaimed=sum(swap.reclaimed for swap in old),
            leaked=max(len(leaks), sum(not swap.reclaimed for swap in old), len(living)),
            rss_growth_mib=self._memory.growth_mib(Phase.QUIET, Phase.CHANGES),
            faults=[*self._deployer.faults, *faults, *leaks, *map(str, missing), *map(str, untrue)],
        )


def _from(start: int) -> Iterator[Question]:
    """The short questions without end; each lane starts with another one."""
    return islice(cycle(SHORT), start, None)
