"""One run of the demonstration, from the first plugin to the report.

A quiet phase, in which nothing changes, then the changes. Threads and tasks ask their questions
throughout; one more task reads a long result slowly, so that there is always somebody on an old
epoch. The main thread's event loop holds all tasks.
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

from epochal.demo.board import SAMPLES_PER_S, Board
from epochal.demo.checks import History
from epochal.demo.data import load_airports, load_flights
from epochal.demo.deploy import Deployer
from epochal.demo.lanes import Lane, Phase, Stage
from epochal.demo.memory import MemoryTrack
from epochal.demo.questions import EVERY_FLIGHT, SHORT
from epochal.demo.releases import OPENING, releases
from epochal.demo.report import Report
from epochal.demo.witness import living
from epochal.events import GenerationLeaked
from epochal.runtime import Runtime
from epochal.sql import Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from epochal.demo.questions import Question
    from epochal.events import Event
    from epochal.report import Cutover

_SLOW_BATCH_S: Final = 0.06


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is to be.

    Attributes:
        seconds: how long plugins are changed.
        reloads: how many changes are published in that time.
        quiet: seconds before, in which nothing changes.
        threads: how many threads ask.
        tasks: how many tasks ask.
    """

    seconds: float = 20.0
    reloads: int = 60
    quiet: float = 5.0
    threads: int = 3
    tasks: int = 3


class Demonstration:
    """One run, which can be watched through its board.

    Attributes:
        board: what can be seen of it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._rt: Final = Runtime()
        self._db: Final = Database(self._rt)
        self._stage: Final = Stage(self._rt)
        self._threads: Final = self._lanes("thread", settings.threads)
        self._tasks: Final = self._lanes("task", settings.tasks)
        self._reader: Final = Lane("reader", self._stage, timed=False)
        lanes = [*self._threads, *self._tasks, self._reader]
        self.board: Final = Board(self._stage, lanes, settings.reloads)
        self._deployer: Final = Deployer(self._rt)
        self._memory: Final = MemoryTrack()
        self._leaked: Final[set[tuple[str, int]]] = set()
        self._leaks: Final[list[str]] = []

    def _lanes(self, name: str, number: int) -> list[Lane]:
        return [Lane(f"{name} {index}", self._stage) for index in range(1, number + 1)]

    async def run(self, on_sample: Callable[[], object]) -> Report:
        """Run it all.

        Args:
            on_sample: called ten times a second, and once when all is over.

        Returns:
            The figures. Every query has ended and every generation is removed by then, also where
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
            seconds = await self._measure(on_sample)
        finally:
            # Also stops whatever still runs: no thread of the engine may run plugin code when the
            # process leaves.
            await asyncio.to_thread(self._db.close)
            closing = await self._rt.aclose()
        on_sample()  # how it ended
        cutovers += [*self._deployer.committed, *([closing] if closing else [])]
        return self._report(cutovers, seconds)

    # --- the phases --------------------------------------------------------------------------

    async def _measure(self, on_sample: Callable[[], object]) -> float:
        """Both phases, under load; returns the length of the second, in seconds."""
        async with self._load(), self._sampling(on_sample):
            await asyncio.sleep(self._settings.quiet)
            self._stage.phase = Phase.CHANGES
            started = monotonic()
            await self._deployer.run(list(releases(self._settings.reloads)), self._settings.seconds)
            seconds = monotonic() - started
            self._stage.phase = Phase.CLOSING
        return seconds

    @asynccontextmanager
    async def _load(self) -> AsyncGenerator[None, None]:
        """Queries from threads and tasks, for as long as the block runs."""
        threads = [
            threading.Thread(target=self._work, args=(lane, start), name=lane.name)
            for start, lane in enumerate(self._threads)
        ]
        for thread in threads:
            thread.start()
        tasks = [
            asyncio.create_task(self._awork(lane, start)) for start, lane in enumerate(self._tasks)
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
    async def _sampling(self, on_sample: Callable[[], object]) -> AsyncGenerator[None, None]:
        """Samples the board ten times a second, for as long as the block runs."""

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

    # --- who asks ----------------------------------------------------------------------------

    def _work(self, lane: Lane, start: int) -> None:
        for question, month in self._questions(start):
            with lane.attempt(question) as attempt:
                result = self._db.query(question.sql, question.params(month))
                attempt.planned(result)
                for batch in result:
                    attempt.got(batch)

    async def _awork(self, lane: Lane, start: int) -> None:
        for question, month in self._questions(start):
            with lane.attempt(question) as attempt:
                result = await self._db.aquery(question.sql, question.params(month))
                attempt.planned(result)
                async for batch in result:
                    attempt.got(batch)

    async def _read_slowly(self) -> None:
        """A long result, as somebody reads it who writes it to a file far away."""
        while not self._stage.over.is_set():
            with self._reader.attempt(EVERY_FLIGHT) as attempt:
                result = await self._db.aquery(EVERY_FLIGHT.sql, EVERY_FLIGHT.params(2))
                attempt.planned(result)
                async for batch in result:
                    attempt.got(batch)
                    await asyncio.sleep(0.0 if self._stage.over.is_set() else _SLOW_BATCH_S)

    def _questions(self, start: int) -> Iterator[tuple[Question, int]]:
        """Questions until the end, each worker beginning with another."""
        months = cycle(range(1, 13))
        for question in islice(cycle(SHORT), start, None):
            if self._stage.over.is_set():
                return
            yield question, next(months)

    # --- the end -----------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if isinstance(event, GenerationLeaked):
            self._leaked.add((event.plugin, event.generation))
            self._leaks.extend(
                f"{event.plugin}#{event.generation} leaked: {leak}" for leak in event.leaks
            )

    def _report(self, cutovers: Sequence[Cutover], seconds: float) -> Report:
        history, board = History(cutovers), self.board
        absences = [absence for lane in board.lanes for absence in lane.absences]
        missing = [absence for absence in absences if not absence.is_rightful(history.epochs)]
        untrue = [
            claim for lane in board.lanes for claim in lane.claims if not history.is_true(claim)
        ]
        old = [swap for cutover in cutovers for swap in cutover.swaps if swap.old is not None]
        made = self._deployer.committed
        leaked = max(len(self._leaked), sum(not swap.reclaimed for swap in old), _alive())
        return Report(
            seconds=seconds,
            operations=board.total("operations"),
            flights=board.total("flights"),
            overtaken=board.total("overtaken"),
            away=len(absences) - len(missing),
            failed=board.total("failed"),
            mixed=board.total("mixed") + len(untrue),
            used_after_shutdown=board.total("used_after_shutdown"),
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
            faults=[*self._deployer.faults, *self._faults(), *map(str, missing), *map(str, untrue)],
        )

    def _took(self, phase: Phase) -> list[float]:
        return list(chain.from_iterable(lane.took_ms[phase] for lane in self.board.lanes))

    def _faults(self) -> Iterator[str]:
        return chain(chain.from_iterable(lane.faults for lane in self.board.lanes), self._leaks)


def _alive() -> int:
    """Generations whose witness is alive although everything is removed."""
    gc.collect()
    return len(living)
