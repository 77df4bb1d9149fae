"""Runs the jobs of a runtime's plugins by their schedules.

::

    with Jobs(runtime) as jobs:
        ...
        for status in jobs.status(): print(status)

Four parts, and this one has them work together. A `Line` is the truth about one job: where it
stands in its schedule. The `Timetable` is an alarm clock that knows names and times, never code and
never a schedule: a ring means "look at this line". `run_tick` looks the function up in the epoch
that is current then. `Positions` keeps where the lines stand. So a reload does not touch the
schedule, holds back nothing between ticks, and the tick that runs meanwhile ends on the code that
it began with. What a change adds, removes or reschedules is taken over from the runtime's events.

Ticks of one job never overlap: one that is due while the one before still runs is left out. A tick
that was missed because the process was away or busy is made up for once, if it is not older than
`grace_s`. One that failed is tried again after a while, until it succeeds or the next one takes its
place. All that is left out is counted (`skipped`), and told in a `TicksSkipped` event.

Who reads, who writes
---------------------

``_lines`` and what is in them, ``_closed`` and what is known of positions are read and written
under ``_lock``. The runtime's epoch is read under it too, so that nobody takes over an older one
after a newer. Ticks run outside it, and so does everything of the plugins'. The timetable and the
positions have locks of their own, which are taken under ours, never the other way round: neither
calls us while it holds one. ``_inside`` has an entry for each thread that is in a tick, written by
that thread.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.tracebacks import format_error
from epochal.errors import ForkedRuntimeError, HostError, UnknownExportError
from epochal.events import ChangeCommitted, Event, EventsMissed
from epochal.jobs.clock_monitor import Clock, Drift, Pulse
from epochal.jobs.events import Telling
from epochal.jobs.job_state import LOOK_S, Line, Run
from epochal.jobs.ownership import claim
from epochal.jobs.positions import Positions
from epochal.jobs.retry import Breaker, RetryPolicy
from epochal.jobs.run import Outcome, run_tick
from epochal.jobs.status import JobStatus, status_of
from epochal.jobs.timer import Timetable
from epochal.jobs.triggers import grid_of
from epochal.kinds.job import Schedule, job

if TYPE_CHECKING:
    from types import TracebackType

    from epochal.runtime import Runtime

_SET_S: Final = 1.0
"""A clock that differs by more from one that is never set was set; by less, it is slewed."""
_BUSY_BEATS: Final = 2
_BROKEN_S: Final = 60.0
"""Seconds after which a job is tried again that failed by a fault of ours."""


class Jobs:
    """Runs the jobs of a runtime's plugins, from now until it is closed; a context manager.

    There is one for each runtime. A job whose schedule cannot be kept, and a file of positions that
    cannot be used, are told by events and stop nothing.

    Args:
        runtime: whose plugins' jobs. If it has a store, positions in schedules are kept there, and
            survive a restart.
        workers: how many jobs run at once.
        patience: how failures are dealt with; None for `RetryPolicy()`.
        grace_s: seconds by which a tick may be late and is still made up for; may be infinite.

    Raises:
        HostError: the runtime's jobs are run already.
        ValueError: `workers` or `grace_s` is none.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        workers: int = 8,
        patience: RetryPolicy | None = None,
        grace_s: float = 3600.0,
    ) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers is {workers!r}; expected a whole number, at least 1")
        if not isinstance(grace_s, (int, float)) or not grace_s >= 0:
            raise ValueError(f"grace_s is {grace_s!r}; expected seconds, at least 0")
        self._runtime: Final = runtime
        self._workers: Final = workers
        self._patience: Final = patience or RetryPolicy()
        self._grace_s: Final = grace_s
        self._tell: Final = Telling(runtime.events)
        self._clock: Final = Clock()
        self._drift: Final = Drift(self._clock)
        self._context: Final = copy_context()
        self._pid: Final = os.getpid()
        self._lock: Final = threading.Lock()
        self._ended: Final = threading.Condition(self._lock)
        self._lines: Final[dict[str, Line]] = {}
        self._inside: Final[set[int]] = set()
        self._busy_beats = 0  # in a row, at which jobs were due and no worker was free
        self._closed = False
        with ExitStack() as undo:
            self._unclaim: Final = claim(runtime, "jobs", f"the jobs of {runtime!r} are run")
            undo.callback(self._unclaim)
            folder = runtime.store_folder
            self._positions: Final = Positions(
                folder / "jobs.db" if folder is not None else None, self._tell.fault
            )
            undo.callback(self._positions.close)
            self._timetable: Final = Timetable(workers=workers, ring=self._ring)
            undo.callback(self._timetable.close)
            # First the subscription, then the look at what there is: nothing falls between the two.
            self._unsubscribe: Final = runtime.events.subscribe(self._follow)
            undo.callback(self._unsubscribe)
            self._take_over()
            self._pulse: Final = Pulse(self._beat)
            undo.pop_all()

    # --- what people ask ---------------------------------------------------------------------

    def status(self) -> list[JobStatus]:
        """How every job stands, by name.

        Raises:
            ForkedRuntimeError: in a forked child, which has none of the workers.
        """
        self._check_process()
        with self._lock:
            now = self._clock.now()
            lines = [line for _, line in sorted(self._lines.items()) if line.active]
            for line in lines:
                self._leave_out(line, now)
            return [status_of(line, now) for line in lines]

    def run_now(self, name: str) -> None:
        """Have a job run as soon as a worker is free; its schedule goes on as it was.

        It is left out if the job runs already; a tick that is due meanwhile comes after it. If it
        succeeds, failures before it are forgotten, as by a reload; if it fails, it is told, and not
        tried again.

        Raises:
            UnknownExportError: there is no such job.
            HostError: this is closed.
            ForkedRuntimeError: in a forked child.
        """
        self._check_process()
        with self._lock:
            if self._closed:
                raise HostError(f"job {name!r} cannot be run: this Jobs was closed")
            line = self._lines.get(name)
            if line is None or not line.active:
                known = sorted(n for n, one in self._lines.items() if one.active)
                raise UnknownExportError(job.name, name, known)
            self._timetable.put_now(name)

    def close(self, timeout: float | None = None) -> bool:
        """Begin no tick any more, and wait for those that run; doing so again does nothing.

        Args:
            timeout: seconds to wait for them; None for no limit.

        Returns:
            Whether they ended. (A tick is on a thread that the process waits for as it leaves. What
            still runs then keeps its end: where the job stands is written after it.)

        Raises:
            HostError: called by a tick, which would wait for itself.
            ForkedRuntimeError: in a forked child.
        """
        self._check_process()
        if threading.get_ident() in self._inside:
            raise HostError("a tick cannot close the Jobs that runs it: it would wait for itself")
        with self._lock:
            self._closed = True
            self._timetable.pause()
            is_quiet = self._ended.wait_for(self._is_quiet, timeout)
        self._unsubscribe()
        self._pulse.stop()
        self._timetable.close()
        if is_quiet:
            self._let_go(timeout)
        return is_quiet

    def _is_quiet(self) -> bool:
        return not any(line.run for line in self._lines.values())

    def _let_go(self, timeout: float | None) -> None:
        """Nothing runs and nothing will: by whoever was the last of `close` and the ticks."""
        self._positions.close(timeout)
        self._unclaim()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"these jobs run in process {self._pid}; this is its fork {os.getpid()}, "
                "which has none of its threads: make a new Runtime here, and a new Jobs"
            )

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
            self._take_over()

    def _take_over(self) -> None:
        """Schedule what is new, drop what is gone, leave alone what is the same."""
        with self._lock:
            if self._closed:
                return
            found = _jobs_of(self._runtime)
            for line in [line for name, line in self._lines.items() if name not in found]:
                line.active = False
                self._timetable.drop(line.name)
                self._forget(line)
            for name, (schedule, generation) in found.items():
                try:
                    self._take_over_one(name, schedule, generation)
                except Exception as error:  # noqa: BLE001  one that cannot be kept stops no other
                    self._refuse(name, schedule, generation, format_error(error))

    def _take_over_one(self, name: str, schedule: Schedule, generation: int) -> None:
        line = self._lines.get(name)
        if line is not None and line.schedule == schedule and line.grid is not None:
            is_moved = not line.active
            line.active = True
            if line.generation != generation:  # new code deserves a trial
                line.generation = generation
                is_moved |= self._forgive(line)
            if is_moved:  # of a thousand jobs, most are as they were
                self._arm(line)
            return
        grid = grid_of(schedule)
        now = self._clock.now()
        if line is None:
            line = Line(name, schedule, grid, Breaker(self._patience), generation)
        # Else the same job still: its counts go on, and its tick that runs is not overlapped.
        if line.grid is None:
            line.last_error = ""  # it can be kept now
        line.active, line.generation = True, generation
        line.breaker = Breaker(self._patience)
        line.begin_schedule(schedule, grid, now)
        if (known := self._positions.of(name, str(schedule))) is not None:
            line.go_on(known, now, max(self._patience.most_s, self._patience.rest_s))
        self._lines[name] = line
        self._arm(line)
        # Not only after a tick: who never lives until one would begin anew each time.
        self._positions.keep(name, line.position)

    def _refuse(self, name: str, schedule: Schedule, generation: int, error: str) -> None:
        """It is in the status, with what is wrong, and does not run."""
        line = self._lines.get(name)
        if line is None:
            line = Line(name, schedule, None, Breaker(self._patience), -1)
            self._lines[name] = line
        is_told = line.grid is None and line.generation == generation
        self._timetable.drop(name)
        line.schedule, line.grid, line.regular = schedule, None, None
        line.version += 1
        line.active, line.generation = True, generation
        line.last_error = error
        if not is_told:
            self._tell.refused(name, error)

    def _forgive(self, line: Line) -> bool:
        """Try again what failed, without the wait; returns whether there was one."""
        with self._tell.breaker(line):
            is_moved = line.forgive(self._clock.now())
        if is_moved:
            self._positions.keep(line.name, line.position)
        return is_moved

    def _forget(self, line: Line) -> None:
        """Its plugin is gone: so is it, once nothing of it runs. Its position is kept."""
        if not line.active and line.run is None:
            self._lines.pop(line.name, None)

    def _arm(self, line: Line) -> None:
        """Have it looked at when it is due; while it runs, its end sees to that."""
        at = line.next_at if line.run is None and not self._closed else None
        if at is None:
            self._timetable.drop(line.name)
        else:
            self._timetable.put(line.name, at)

    # --- ticks -------------------------------------------------------------------------------

    def _ring(self, name: str, by_hand: bool) -> None:
        """A look at a job: on a thread of the timetable's, which tells nobody what it raises."""
        try:
            if (begun := self._begin(name, by_hand)) is not None:
                self._run(*begun)
        except Exception as error:  # noqa: BLE001  ours: the job must go on, and somebody know
            self._broke(name, format_error(error))

    def _begin(self, name: str, by_hand: bool) -> tuple[Line, Run] | None:
        """Begin what is due, if it is."""
        with self._lock:
            line = self._lines.get(name)
            if line is None or not line.active or self._closed:
                return None  # removed, and the alarm was quicker than the news of it
            now = self._clock.now()
            if line.run is not None:  # its end sees to what is due
                if by_hand:
                    line.skipped += 1
                    self._tell.skipped(line, 1, "still running")
                return None
            run = line.begin_by_hand() if by_hand else self._take(line, now)
            if run is None:
                self._arm(line)
                return None
            self._inside.add(threading.get_ident())
            return line, run

    def _take(self, line: Line, now: float) -> Run | None:
        """Begin the tick that is due; None if it is not, or is too late."""
        if not line.is_due(now):
            return None
        taken = line.take(now, self._grace_s)
        self._tell.skipped(line, taken.left_out, "too late" if taken.run is None else "busy")
        if taken.run is None:
            self._positions.keep(line.name, line.position)
            return None
        with self._tell.breaker(line) as breaker:
            breaker.begin()
        return taken.run

    def _run(self, line: Line, run: Run) -> None:
        outcome: Outcome | None = None
        try:
            outcome = run_tick(self._runtime, line.name, self._context.copy())
        finally:
            self._inside.discard(threading.get_ident())
            if self._end(line, run, outcome):
                self._let_go(None)

    def _end(self, line: Line, run: Run, outcome: Outcome | None) -> bool:
        """Note how a run ended, and see to what comes next; returns whether it was the last."""
        with self._ended:
            now = self._clock.now()
            try:
                self._leave_out(line, now)
                if outcome is not None and outcome.generation > line.generation:
                    line.generation = outcome.generation  # quicker than the news of it
                    self._forgive(line)
                if outcome is None:
                    self._ran_nothing(line, run)
                elif outcome.error is None:
                    self._ended_well(line, run, outcome, now)
                else:
                    self._failed(line, run, outcome, outcome.error, now)
            finally:
                line.end()
                self._ended.notify_all()
            self._go_on(line, now, is_late=outcome is None)
            return self._closed and self._is_quiet()

    def _go_on(self, line: Line, now: float, *, is_late: bool) -> None:
        if not line.active:
            self._forget(line)
        elif is_late and line.is_due(now) and not self._closed:
            # The news of its removal is on the way; without any, it is tried again.
            self._timetable.put(line.name, now + LOOK_S)
        else:
            self._arm(line)

    def _ran_nothing(self, line: Line, run: Run) -> None:
        """It is as if the run had not begun."""
        if not run.by_hand:
            with self._tell.breaker(line) as breaker:
                breaker.gave_up()

    def _ended_well(self, line: Line, run: Run, outcome: Outcome, now: float) -> None:
        with self._tell.breaker(line):
            if line.succeed(run, now):
                self._positions.keep(line.name, line.position)
        self._tell.ended(line, outcome)

    def _failed(self, line: Line, run: Run, outcome: Outcome, error: str, now: float) -> None:
        # What replaced code does is not held against the code that replaced it.
        is_replaced = outcome.generation < line.generation
        with self._tell.breaker(line):
            wait_s = line.fail(run, now, error, is_replaced=is_replaced)
        if not run.by_hand and run.version == line.version:
            self._positions.keep(line.name, line.position)
        self._tell.failed(line, outcome.generation, error, wait_s, by_hand=run.by_hand)

    def _broke(self, name: str, error: str) -> None:
        """A fault of ours, and none of the job's."""
        with self._lock:
            line = self._lines.get(name)
            if line is None:
                return
            line.failures += 1
            line.last_error = error
            line.not_before = self._clock.now() + _BROKEN_S
            self._arm(line)
            self._tell.failed(line, line.generation, error, _BROKEN_S)

    # --- now and then ------------------------------------------------------------------------

    def _beat(self) -> None:
        try:
            self._look_around()
        except Exception as error:  # noqa: BLE001  ours: the next beat comes, and somebody knows
            self._tell.broke(format_error(error))

    def _look_around(self) -> None:
        """Was the clock set? Does a run outlast its interval? Is a worker free?"""
        set_by = self._drift.look()
        with self._lock:
            if self._closed:
                return
            now = self._clock.now()
            for line in self._lines.values():
                if set_by < -_SET_S:
                    line.rewind(now, -set_by)
                    if line.run is None:
                        self._arm(line)
                self._leave_out(line, now)
            self._look_for_workers(now)
        self._timetable.wake()

    def _look_for_workers(self, now: float) -> None:
        running = tuple(sorted(line.name for line in self._lines.values() if line.run))
        waiting = [line for line in self._lines.values() if line.is_due(now)]
        if not waiting or len(running) < self._workers:
            self._busy_beats = 0
            for line in waiting:
                self._arm(line)  # its ring may be lost: for want of a thread, say
            return
        self._busy_beats += 1
        if self._busy_beats == _BUSY_BEATS:  # once, until there is one again
            self._tell.busy(len(waiting), running)

    # --- inside ------------------------------------------------------------------------------

    def _leave_out(self, line: Line, now: float) -> None:
        """Count what passed while a run lasts."""
        self._tell.skipped(line, line.leave_out(now), "still running")

    def __repr__(self) -> str:
        return f"<{len(self._lines)} jobs of {self._runtime!r}>"


def _jobs_of(runtime: Runtime) -> dict[str, tuple[Schedule, int]]:
    """The schedule of each job, and the number of the generation that it is of."""
    epoch = runtime.epoch  # gone when this returns: what is asked for holds nothing
    found: dict[str, tuple[Schedule, int]] = {}
    for name in epoch[job]:
        export = epoch.export(job, name)
        found[name] = (export.options["schedule"], epoch.generations[export.plugin].number)
    return found
