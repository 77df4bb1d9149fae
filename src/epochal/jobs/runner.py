"""Runs the jobs of a runtime's plugins by their schedules.

::

    with Jobs(runtime) as jobs:
        ...
        for status in jobs.status(): print(status)

The timetable knows names, never code: what it calls is `_tick` with a job's name, and the tick
looks the function up in the epoch that is current then. So a reload does not touch the schedule,
holds back nothing between ticks, and the tick that runs meanwhile ends on the code that it began
with. What a change adds, removes or reschedules is taken over from the runtime's events.

Ticks of one job never overlap: a tick that is due while the one before still runs is left out, and
counted (`skipped`). A tick that was missed because the process was away or busy is made up for
once, if it is not older than `grace_s`.

Who reads, who writes
---------------------

``_lines`` and what is in them, and ``_running``, are read and written under ``_lock``; ticks run
outside it, and so does everything of the plugin's. The timetable has locks of its own and is called
under ours, never the other way round: it calls `_tick` on threads of its own, without a lock.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Final

from epochal._core.blame import said
from epochal._core.events import (
    BreakerMoved,
    ChangeCommitted,
    Event,
    EventsMissed,
    TickEnded,
    TickFailed,
)
from epochal.errors import EpochalError, HostError
from epochal.jobs.breaker import Breaker, Circuit, Patience
from epochal.jobs.positions import Positions
from epochal.jobs.timetable import Timetable, Trigger, first_time, trigger_of
from epochal.kinds.job import Schedule, job

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from epochal._core.epoch import Epoch
    from epochal.runtime import Runtime


_MOST_COUNTED: Final = 1000
"""Ticks that were left out at once and are counted: after a long absence it may be any number."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job stands.

    Attributes:
        name: its full name, `plugin.name`.
        schedule: in words.
        next_at: when it runs next; None where it does not.
        running: whether a tick is under way.
        ticks: that ended well, since this `Jobs` began.
        failures: that failed, since then.
        failures_in_row: since the last that ended well, or the last reload.
        skipped: left out: due while the one before ran, or while the machine was too busy for more
            than one of several, or missed for longer than the grace.
        circuit: whether failures hold it back.
        last_error: of the last failure, in one line; empty for none.
    """

    name: str
    schedule: str
    next_at: datetime | None
    running: bool
    ticks: int
    failures: int
    failures_in_row: int
    skipped: int
    circuit: Circuit
    last_error: str


@dataclass(slots=True)
class _Line:
    """One job's schedule and its counts; `due` is the next tick that has not come yet."""

    name: str
    schedule: Schedule
    trigger: Trigger
    breaker: Breaker
    generation: int
    due: datetime | None = None
    running: int = 0
    ticks: int = 0
    failures: int = 0
    skipped: int = 0
    last_error: str = field(default="", repr=False)


class Jobs:
    """Runs the jobs of a runtime's plugins, from now until it is closed; a context manager.

    Args:
        runtime: whose plugins' jobs. If it has a store, positions in schedules are kept there, and
            survive a restart.
        workers: how many jobs run at once.
        patience: how failures are dealt with; None for `Patience()`.
        grace_s: seconds by which a tick may be late and is still made up for.

    Raises:
        StoreWriteError: positions cannot be kept.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        workers: int = 8,
        patience: Patience | None = None,
        grace_s: float = 3600.0,
    ) -> None:
        self._runtime: Final = runtime
        self._patience: Final = patience or Patience()
        self._lock: Final = threading.Lock()
        self._ended: Final = threading.Condition(self._lock)
        self._lines: Final[dict[str, _Line]] = {}
        self._running = 0
        self._closed = False
        folder = runtime.store_folder
        self._positions: Final = Positions(folder / "jobs.db" if folder is not None else None)
        self._timetable: Final = Timetable(
            workers=workers,
            grace_s=grace_s,
            tick=self._tick,
            missed=self._missed,
            came=self._came,
        )
        with ExitStack() as opened:
            opened.callback(self._timetable.close)
            # First the subscription, then the look at what there is: nothing falls between the two.
            opened.callback(runtime.events.subscribe(self._follow))
            self._take_over(runtime.epoch)
            self._opened: Final = opened.pop_all()

    # --- what people ask ---------------------------------------------------------------------

    def status(self) -> list[JobStatus]:
        """How every job stands, by name."""
        with self._lock:
            return [self._status(line) for _, line in sorted(self._lines.items())]

    def run_now(self, name: str) -> None:
        """Have a job run as soon as a worker is free; its schedule goes on as it was.

        Raises:
            HostError: there is no such job.
        """
        with self._lock:
            if name not in self._lines:
                known = ", ".join(sorted(self._lines)) or "none"
                raise HostError(f"there is no job {name!r}; jobs: {known}")
            self._timetable.put_now(name)

    def close(self, timeout: float | None = None) -> bool:
        """Begin no tick any more, and wait for those that run; doing so again does nothing.

        Args:
            timeout: seconds to wait for them; None for no limit.

        Returns:
            Whether they ended. (A tick is on a thread that the process waits for as it leaves.)
        """
        with self._lock:
            self._closed = True
            self._timetable.pause()
            is_quiet = self._ended.wait_for(lambda: not self._running, timeout)
        self._opened.close()
        return is_quiet

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- following the runtime ---------------------------------------------------------------

    def _follow(self, event: Event) -> None:
        if isinstance(event, (ChangeCommitted, EventsMissed)):
            self._take_over(self._runtime.epoch)

    def _take_over(self, epoch: Epoch) -> None:
        """Schedule what is new, drop what is gone, leave alone what is the same."""
        found = {name: epoch.export(job, name) for name in epoch[job]}
        numbers = {plugin: g.number for plugin, g in epoch.generations.items()}
        del epoch
        with self._lock:
            if self._closed:
                return
            for name in self._lines.keys() - found.keys():
                del self._lines[name]
                self._timetable.drop(name)
            failures: list[EpochalError] = []
            for name, export in found.items():
                try:
                    self._take_over_one(name, export.options["schedule"], numbers[export.plugin])
                except EpochalError as error:
                    failures.append(error)
        if failures:  # the others run
            raise failures[0]

    def _take_over_one(self, name: str, schedule: Schedule, generation: int) -> None:
        line = self._lines.get(name)
        if line is not None and line.schedule == schedule:
            if line.generation != generation:  # new code deserves a trial at its regular time
                line.generation = generation
                self._forgive(line)
            return
        try:
            trigger = trigger_of(schedule)
        except ValueError as error:  # a plugin from before this module was imported
            raise HostError(f"job {name} has a schedule that cannot be kept: {error}") from error
        known, at = self._positions.read(name, str(schedule))
        breaker = Breaker(self._patience)
        if line is None:
            line = self._lines[name] = _Line(name, schedule, trigger, breaker, generation)
        else:  # the same job still: its counts go on, and its tick that runs is not overlapped
            line.schedule, line.trigger = schedule, trigger
            line.breaker, line.generation = breaker, generation
        if not known:
            self._schedule(line, first_time(line.trigger))
            # Not only after a tick: who never lives until one would begin anew each time.
            self._keep(line, line.due)
        elif at is None:
            self._timetable.drop(name)
        else:
            self._schedule(line, datetime.fromtimestamp(at, UTC))

    def _forgive(self, line: _Line) -> None:
        if not line.breaker.failures:
            return
        with self._breaker(line) as breaker:
            breaker.succeeded()
        at = None if line.schedule.is_once else first_time(line.trigger)
        self._schedule(line, at or _now())
        self._keep(line, line.due)

    def _schedule(self, line: _Line, at: datetime | None) -> None:
        if at is None:
            self._timetable.drop(line.name)
            return
        line.due = at
        self._timetable.put(line.name, line.trigger, at)

    # --- ticks -------------------------------------------------------------------------------

    def _tick(self, name: str, by_hand: bool) -> None:
        """One run of a job; on a thread of the scheduler's."""
        line = self._begin(name, by_hand)
        if line is None:
            return
        plugin = name.partition(".")[0]
        started = perf_counter()
        error: BaseException | None = None
        generation = -1
        try:
            with self._runtime.operation(f"job {name}") as epoch:
                generation = epoch.generations[plugin].number if plugin in epoch.generations else -1
                function = epoch[job].get(name)
                del epoch
                if function is not None:
                    _run(function)
        except BaseException as raised:  # noqa: BLE001  the plugin's own: told, and tried again
            # Not the error itself: its traceback would hold the plugin in use.
            error, told = raised, said(raised)
            error.__traceback__ = None
        finally:
            function = None
        took_ms = (perf_counter() - started) * 1000.0
        if error is None:
            self._ended_well(line, plugin, generation, took_ms)
        else:
            self._failed(line, plugin, generation, told)

    def _begin(self, name: str, by_hand: bool) -> _Line | None:
        with self._lock:
            line = self._lines.get(name)
            if line is None or self._closed:
                return None  # removed, and the scheduler was quicker than the news of it
            if line.running:
                # By hand, or a one-shot that is tried again: the scheduler counts its own only.
                line.skipped += 1
                return None
            line.running += 1
            self._running += 1
            if not by_hand:
                with self._breaker(line) as breaker:
                    breaker.begin()
            return line

    def _ended_well(self, line: _Line, plugin: str, generation: int, took_ms: float) -> None:
        with self._ends(line):
            line.ticks += 1
            with self._breaker(line) as breaker:
                breaker.succeeded()
            self._keep(line, self._timetable.next_at(line.name))
        self._runtime.events.emit(
            TickEnded(plugin=plugin, generation=generation, job=line.name, took_ms=took_ms)
        )

    def _failed(self, line: _Line, plugin: str, generation: int, told: str) -> None:
        with self._ends(line):
            line.failures += 1
            line.last_error = told
            # What replaced code does is not held against the code that replaced it.
            is_replaced = 0 <= generation < line.generation
            with self._breaker(line) as breaker:
                wait_s = 0.0 if is_replaced else breaker.failed()
            again = _now() + timedelta(seconds=wait_s)
            regular = self._timetable.next_at(line.name)
            at = again if regular is None else max(regular, again)
            if self._lines.get(line.name) is line and not self._closed:
                self._schedule(line, at)
            self._keep(line, at)
            failures = line.breaker.failures
        self._runtime.events.emit(
            TickFailed(
                plugin=plugin,
                generation=generation,
                job=line.name,
                error=told,
                failures=failures,
                wait_s=wait_s,
            )
        )

    @contextmanager
    def _ends(self, line: _Line) -> Generator[None]:
        """Around the end of a tick, with the lock."""
        with self._ended:
            line.running -= 1
            try:
                yield
            finally:
                self._running -= 1
                self._ended.notify_all()

    def _missed(self, name: str) -> None:
        """A tick was later than the grace."""
        with self._lock:
            if (line := self._lines.get(name)) is not None:
                line.skipped += 1

    def _came(self, name: str, at: datetime, left_out: bool) -> None:
        """A tick came, alone for all that were due by then; or the one before still runs."""
        with self._lock:
            line = self._lines.get(name)
            if line is None:
                return
            line.skipped += left_out
            steps = 0
            while line.due is not None and line.due <= at and steps < _MOST_COUNTED:
                line.due = line.trigger.get_next_fire_time(line.due, line.due)
                steps += 1
            line.skipped += max(0, steps - 1)

    # --- inside ------------------------------------------------------------------------------

    def _keep(self, line: _Line, at: datetime | None) -> None:
        if self._lines.get(line.name) is not line:
            return  # removed meanwhile
        try:
            self._positions.write(
                line.name, str(line.schedule), at.timestamp() if at is not None else None
            )
        except EpochalError as error:
            line.last_error = said(error)

    @contextmanager
    def _breaker(self, line: _Line) -> Generator[Breaker]:
        """Around what may move a job's breaker: tells of it if it did."""
        breaker = line.breaker
        before = breaker.state
        yield breaker
        if breaker.state is not before:
            plugin = line.name.partition(".")[0]
            state = breaker.state.value
            self._runtime.events.emit(BreakerMoved(plugin=plugin, job=line.name, state=state))

    def _status(self, line: _Line) -> JobStatus:
        return JobStatus(
            name=line.name,
            schedule=str(line.schedule),
            next_at=self._timetable.next_at(line.name),
            running=bool(line.running),
            ticks=line.ticks,
            failures=line.failures,
            failures_in_row=line.breaker.failures,
            skipped=line.skipped,
            circuit=line.breaker.state,
            last_error=line.last_error,
        )

    def __repr__(self) -> str:
        return f"<{len(self._lines)} jobs of {self._runtime!r}>"


def _run(function: object) -> None:
    """Call it; what it awaits runs in an event loop of this tick's own."""
    result = function()  # type: ignore[operator]  # the kind has checked it
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _now() -> datetime:
    return datetime.now(UTC)
