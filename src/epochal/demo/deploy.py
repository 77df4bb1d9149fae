"""Changes plugins while others query: one release after another, at a steady pace.

A release waits until the one before is published, so that each finds what it was written for, but
not until the old generations have drained: those drains overlap, as they would in a service with
queries of any length. Half of the changes are made from a thread, half from the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from epochal.errors import EpochalError
from epochal.events import ChangeCommitted, ChangeFailed, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epochal.demo.releases import Release
    from epochal.report import Cutover
    from epochal.runtime import Runtime


class Deployer:
    """Makes changes and keeps their reports.

    Used by one event loop; `committed`, `refused` and `faults` only grow and may be read by
    anybody.

    Attributes:
        committed: the reports of the changes that were published and have drained.
        refused: how many releases were refused as they had to be.
        faults: releases that did not end as they had to, in words.
    """

    __slots__ = ("_decided", "_rt", "_running", "committed", "faults", "refused")

    def __init__(self, rt: Runtime) -> None:
        self._rt: Final = rt
        self._decided: Final[asyncio.Queue[None]] = asyncio.Queue()
        self._running: Final[list[asyncio.Task[None]]] = []
        self.committed: Final[list[Cutover]] = []
        self.refused = 0
        self.faults: Final[list[str]] = []

    async def run(self, releases: Sequence[Release], seconds: float) -> None:
        """Make all changes, evenly over so many seconds (or longer, if they take longer)."""
        loop = asyncio.get_running_loop()

        def on_event(event: Event) -> None:
            if isinstance(event, ChangeCommitted | ChangeFailed):
                loop.call_soon_threadsafe(self._decided.put_nowait, None)

        unsubscribe = self._rt.events.subscribe(on_event)
        try:
            started = loop.time()
            for number, release in enumerate(releases):
                # A pace, not a synchronisation: nothing depends on how long this takes.
                due = started + seconds * number / len(releases)
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._make(release, in_thread=number % 2 == 1)
            await asyncio.gather(*self._running)
        finally:
            await asyncio.to_thread(unsubscribe)

    async def _make(self, release: Release, *, in_thread: bool) -> None:
        """Begin a change and return when it is published or refused."""
        task = asyncio.create_task(self._settle(release, in_thread=in_thread))
        self._running.append(task)
        # Each change is told of exactly once, as committed or as failed; one that could not even
        # begin is told of by its task alone.
        decided = asyncio.create_task(self._decided.get())
        await asyncio.wait({task, decided}, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and task.exception() is not None:
            decided.cancel()
            await task
        await decided

    async def _settle(self, release: Release, *, in_thread: bool) -> None:
        change = self._rt.change()
        release.record(change)
        wanted = release.refusal
        try:
            cutover = await (asyncio.to_thread(change.run) if in_thread else change.run_async())
        except EpochalError as error:
            if wanted is not None and isinstance(error, wanted):
                self.refused += 1
            else:
                self.faults.append(f"a release failed: {type(error).__name__}: {error}")
            return
        if wanted is not None:
            self.faults.append(f"a release that had to be refused was published: {cutover.plugins}")
        self.committed.append(cutover)
