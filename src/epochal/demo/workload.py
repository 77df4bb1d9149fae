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
from itertools import chain, cycle, islice
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal import Runtime
from epochal.demo.board import SAMPLES_PER_S, Board
from epochal.demo.checks import History
from epochal.demo.data import load_airports, load_flights
from epochal.demo.lanes import Lane, Phase, Stage
from epochal.demo.memory import MemoryTrack
from epochal.demo.questions import EVERY_FLIGHT, SHORT
from epochal.demo.releases import OPENING, Deployer, releases
from epochal.demo.report import Report
from epochal.demo.witness import living
from epochal.events import GenerationLeaked
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from epochal import Cutover
    from epochal.demo.questions import Question
    from epochal.events import Event

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
        self._threads: Final = [
            Lane(f"thread {n + 1}", self._stage) for n in range(settings.threads)
        ]
        self._tasks: Final = [Lane(f"task {n + 1}", self._stage) for n in range(settings.tasks)]
        self._reader: Final = Lane("reader", self._stage, timed=False)
        self._lanes: Final = [*self._threads, *self._tasks, self._reader]
        self.board: Final = Board(self._stage, self._lanes, settings.reloads)
        self._deployer: Final = Deployer(self._rt)
        self._memory: Final = MemoryTrack()
        self._leaks: Final[dict[str, str]] = {}  # generation -> the path that keeps it

    async def run(self, on_sample: Callable[[], object]) -> Report:
        """Run it all.

        Args:
            on_sample: called ten times a second, and once at the end.

        Returns:
            The figures. Every query has ended and every generation is removed by then, also when
            this raises.
        """
        self._db.register("flights", load_flights())
        self._db.register("airports", load_airports())
        self._rt.events.subscribe(self.board.on_event)
        self._rt.events.subscribe(self._on_event)
        cutovers: list[Cutover] = []
        try:
            change = self._rt.change()
            OPENING.record(change)
            cutovers.append(await change.run_async())
            async with self._load(), self._sampling(on_sample):
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
        on_sample()
        cutovers += [*self._deployer.committed, *([closing] if closing else [])]
        return self._report(cutovers, seconds)

    @asynccontextmanager
    async def _load(self) -> AsyncGenerator[None]:
        """Queries from threads and tasks, for as long as the block runs."""
        threads = [
            threading.Thread(target=self._query, args=(lane, start), name=lane.name)
            for start, lane in enumerate(self._threads)
        ]
        for thread in threads:
            thread.start()
        tasks = [
            asyncio.create_task(self._aquery(lane, start)) for start, lane in enumerate(self._tasks)
        ]
        tasks.append(asyncio.create_task(self._read_slowly()))
        try:
            yield
        finally:
            self._stage.over.set()
            await asyncio.gather(*tasks)
            for thread in threads:
                await asyncio.to_thread(thread.join)

    @asynccontextmanager
    async def _sampling(self, on_sample: Callable[[], object]) -> AsyncGenerator[None]:
        """Samples of the board ten times a second, for as long as the block runs."""

        async def sample() -> None:
            while True:
                self.board.sample()
                self._memory.read(self._stage.phase)
                on_sample()
                await asyncio.sleep(1.0 / SAMPLES_PER_S)

        sampler = asyncio.create_task(sample())
        try:
            yield
        finally:
            sampler.cancel()
            await asyncio.wait([sampler])

    def _query(self, lane: Lane, start: int) -> None:
        for question, month in self._questions(start):
            with lane.operation(question) as operation:
                result = self._db.query(question.sql, question.params(month))
                operation.planned(result)
                for batch in result:
                    operation.seen.add(batch)

    async def _aquery(self, lane: Lane, start: int) -> None:
        for question, month in self._questions(start):
            await self._ask(lane, question, month)

    async def _read_slowly(self) -> None:
        """Read a long result as slowly as a program that writes it to a distant file."""
        while not self._stage.over.is_set():
            await self._ask(self._reader, EVERY_FLIGHT, 2, pause_s=_SLOW_BATCH_S)

    async def _ask(
        self, lane: Lane, question: Question, month: int, *, pause_s: float = 0.0
    ) -> None:
        with lane.operation(question) as operation:
            result = await self._db.aquery(question.sql, question.params(month))
            operation.planned(result)
            async for batch in result:
                operation.seen.add(batch)
                if pause_s:
                    await asyncio.sleep(0.0 if self._stage.over.is_set() else pause_s)

    def _questions(self, start: int) -> Iterator[tuple[Question, int]]:
        """Questions until the end; each lane starts with another one."""
        months = cycle(range(1, 13))
        for question in islice(cycle(SHORT), start, None):
            if self._stage.over.is_set():
                return
            yield question, next(months)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, GenerationLeaked):
            generation = f"{event.plugin}#{event.generation}"
            self._leaks[generation] = "; ".join(map(str, event.leaks))

    def _report(self, cutovers: Sequence[Cutover], seconds: float) -> Report:
        history, board, lanes = History(cutovers), self.board, self._lanes
        absences = [absence for lane in lanes for absence in lane.absences]
        missing = [absence for absence in absences if not absence.is_rightful(history.epochs)]
        untrue = [claim for lane in lanes for claim in lane.claims if not history.is_true(claim)]
        old = [swap for cutover in cutovers for swap in cutover.swaps if swap.old is not None]
        made = self._deployer.committed
        gc.collect()  # a witness that lives on keeps its generation's memory
        leaked = max(len(self._leaks), sum(not swap.reclaimed for swap in old), len(living))
        leaks = [f"{generation} leaked: {path}" for generation, path in self._leaks.items()]
        faults = chain.from_iterable(lane.faults for lane in lanes)
        return Report(
            seconds=seconds,
            **{
                name: board.total(name) for name in ("operations", "flights", "overtaken", "failed")
            },
            mixed=board.total("mixed") + len(untrue),
            used_after_shutdown=board.total("used_after_shutdown"),
            away=len(absences) - len(missing),
            missing=len(missing),
            reloads=len(made),
            refused=self._deployer.refused,
            cutover_ms=[cutover.cutover_ms for cutover in made],
            quiet_ms=self._took(Phase.QUIET),
            reload_ms=self._took(Phase.CHANGES),
            wakeup_us=[swap.wakeup_us for swap in old if swap.wakeup_us is not None],
            reclaimed=sum(swap.reclaimed for swap in old),
            leaked=leaked,
            rss_growth_mib=self._memory.growth_mib(Phase.QUIET, Phase.CHANGES),
            faults=[*self._deployer.faults, *faults, *leaks, *map(str, missing), *map(str, untrue)],
        )

    def _took(self, phase: Phase) -> list[float]:
        return list(chain.from_iterable(lane.took_ms[phase] for lane in self._lanes))
