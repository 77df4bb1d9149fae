"""One soak: workers run operations while a changer runs changes, then their counts are summed."""

import asyncio
import random
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from tests.soak import world
from tests.soak.changes import Changer, achange_until, change_until
from tests.soak.findings import Findings
from tests.soak.operations import OPERATIONS, Worker, work, work_async

from epochal import Runtime
from epochal.demo.memory import resident_mib
from epochal.events import ChangeCommitted, ChangeFinished, GenerationLeaked

MODES = ("threads", "asyncio", "mixed")
THREADS = {"threads": 4, "asyncio": 0, "mixed": 2}
TASKS = {"threads": 0, "asyncio": 50, "mixed": 25}
# A tenth of the interpreter's default: more switches mean more interleavings, and with it the
# changer's thread is not starved by the workers.
_SWITCH_S = 0.0005
_END_S = 60.0


@dataclass(frozen=True)
class Goal:
    """When a soak ends: once all three minimums are reached, or at the limit.

    Attributes:
        operations: the least number of operations.
        reloads: the least number of reloads.
        seconds: the least duration.
        limit_s: the duration after which it ends in any case.
    """

    operations: int
    reloads: int
    seconds: float = 0.0
    limit_s: float = float("inf")

    def is_reached(self, operations, reloads, seconds):
        enough = operations >= self.operations and reloads >= self.reloads
        return (enough and seconds >= self.seconds) or seconds >= self.limit_s


class Soak:
    """A runtime under load.

    Args:
        mode: where operations run: in `threads`, in `asyncio` tasks (one of which runs the
            changes), or `mixed`.
        seed: the seed of every random choice.
        goal: when to end.
        operations: the operations that the workers draw from.
        changer: the class of the changer.
        report: called with a line about the progress every ten seconds.
    """

    def __init__(
        self, mode, seed, goal, *, operations=OPERATIONS, changer=Changer, report=lambda line: None
    ):
        self.findings = Findings(mode, seed)
        self._goal = goal
        self._operations = operations
        self._report = report
        self._stop = threading.Event()
        self._events = Counter()  # written by the subscription's thread
        world.LEDGER.__init__()
        self._rt = Runtime(drain_timeout=5.0)
        # The callback refers to the counts alone: through `self` it would hold the workers, and so
        # the generations that they stored.
        events = self._events
        self._rt.events.subscribe(lambda event: events.update([type(event)]))
        floor, rng = [0], random.Random(seed)
        self._changer = changer(self._rt, floor, rng)
        with self._rt.change() as change:
            self._changer.load_all(change)
        count = THREADS[mode] + TASKS[mode]
        self._workers = [Worker(self._rt, floor, random.Random(rng.random())) for _ in range(count)]

    def run(self):
        """Run until the goal is reached; returns the findings."""
        started = monotonic()
        resident = resident_mib() or 0.0
        threads = self._threads()
        with _switching_often():
            for thread in threads:
                thread.start()
            self._supervise(started)
            for thread in threads:
                thread.join(_END_S)
        stuck = [thread.name for thread in threads if thread.is_alive()]
        self.findings.examples += [f"did not end: {name}" for name in stuck]
        self.findings.failed += len(stuck)
        self._close()
        self.findings.seconds = monotonic() - started
        self.findings.rss_growth_mib = (resident_mib() or 0.0) - resident
        return self.findings

    def _threads(self):
        mode = self.findings.mode
        operators = self._workers[: THREADS[mode]]
        tasks = self._workers[THREADS[mode] :]
        jobs = [lambda w=worker: work(w, self._stop, self._operations) for worker in operators]
        if tasks:
            jobs.append(lambda: asyncio.run(self._loop(tasks)))
        if mode != "asyncio":
            jobs.append(lambda: change_until(self._changer, self._stop))
        return [threading.Thread(target=job, name=f"soak {n}") for n, job in enumerate(jobs)]

    async def _loop(self, workers):
        async with asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(work_async(worker, self._stop, self._operations))
            if self.findings.mode == "asyncio":
                tasks.create_task(achange_until(self._changer, self._stop))

    def _supervise(self, started):
        reports = 0
        while True:
            seconds = monotonic() - started
            operations = sum(worker.tally.operations for worker in self._workers)
            if self._goal.is_reached(operations, self._changer.reloads, seconds):
                break
            if seconds // 10 > reports:
                reports = seconds // 10
                self._report(
                    f"{self.findings.mode}: {seconds:.0f} s, {operations:,} operations, "
                    f"{self._changer.reloads:,} reloads"
                )
            self._stop.wait(0.1)
        self._stop.set()

    def _close(self):
        """Sum the counts, and close the runtime, which must end every generation."""
        findings = self.findings
        for worker in self._workers:
            findings.add(worker.tally)
        self._workers.clear()
        findings.reloads, findings.refused = self._changer.reloads, self._changer.refused
        # The close also ends the subscription, so its counts are complete below.
        cutover = self._rt.close(drain_timeout=_END_S)
        findings.examples += self._changer.faults + [f"held: {line}" for line in cutover.holders]
        findings.failed += len(self._changer.faults)
        findings.leaked = self._events[GenerationLeaked]
        begun, ended = world.LEDGER.begun, world.LEDGER.ended
        findings.undrained = len(begun.keys() - ended.keys())
        findings.shutdowns = sum(count != 1 for count in (*begun.values(), *ended.values()))
        findings.undrained += self._events[ChangeCommitted] - self._events[ChangeFinished]


@contextmanager
def _switching_often():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
