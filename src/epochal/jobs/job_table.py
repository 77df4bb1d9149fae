"""The states of a runtime's jobs, and the timers and stored positions that follow from them.

Every change of a `JobState` is made here, together with its consequences: the job's timer is set,
its position is stored, and an event is emitted.

No lock and no thread: `Jobs` calls every method under its own lock. `emit` only puts events on
queues, and the timer and the positions never call back under their locks, so all of them may be
called under ours; that way the order of events is the order of what happened.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from epochal._core.sync.retry import Breaker, RetryPolicy
from epochal.errors import format_error
from epochal.jobs.events import (
    BreakerMoved,
    JobRefused,
    TickEnded,
    TickFailed,
    TicksSkipped,
    WorkersBusy,
)
from epochal.jobs.job_state import RECHECK_S, JobState, Run
from epochal.jobs.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from epochal.events import Event
    from epochal.jobs.clock_monitor import Clock
    from epochal.jobs.positions import Positions
    from epochal.jobs.run import Outcome
    from epochal.jobs.timer import JobTimer
    from epochal.kinds.job import Schedule

_SET_S: Final = 1.0
"""A clock that differs by more from the monotonic one was set; by less, it is slewed."""
BUSY_BEATS: Final = 2
"""Heartbeats without a free worker, after which that is reported."""
_BROKEN_S: Final = 60.0
"""Seconds until the retry of a job that failed by a fault of ours."""


class JobTable:
    """The states of the jobs, by full name.

    Args:
        emit: puts an event on the runtime's event stream.
        clock: gives the time.
        timer: gets one timer for each job.
        positions: store the jobs' places in their schedules.
        retry: how long to wait after failures.
        grace_s: seconds by which a tick may be late and still runs.

    Attributes:
        jobs: the states, those of removed jobs with a run in progress included.
        closed: no timer is set any more.
    """

    def __init__(
        self,
        emit: Callable[[Event], object],
        clock: Clock,
        timer: JobTimer,
        positions: Positions,
        retry: RetryPolicy,
        grace_s: float,
    ) -> None:
        self._emit: Final = emit
        self._clock: Final = clock
        self._timer: Final = timer
        self._positions: Final = positions
        self._retry: Final = retry
        self._grace_s: Final = grace_s
        self._busy_beats = 0  # in a row, with jobs due and no worker free
        self.jobs: Final[dict[str, JobState]] = {}
        self.closed = False

    @property
    def active(self) -> dict[str, JobState]:
        """The states of the jobs of active plugins, sorted by name."""
        return {name: state for name, state in sorted(self.jobs.items()) if state.active}

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the jobs with a run in progress, sorted."""
        return tuple(sorted(name for name, state in self.jobs.items() if state.run))

    # --- the jobs of an epoch ----------------------------------------------------------------

    def update(self, current: Mapping[str, tuple[Schedule, int]]) -> None:
        """Schedule new jobs and drop removed ones; the others stay as they are.

        Args:
            current: the schedule of each job, and the number of its plugin's generation.
        """
        for state in [state for name, state in self.jobs.items() if name not in current]:
            state.active = False
            self._timer.cancel(state.name)
            self._drop_if_removed(state)
        for name, (schedule, generation) in current.items():
            try:
                self._update_job(name, schedule, generation)
            except Exception as error:  # noqa: BLE001  one bad schedule stops no other job
                self._refuse(name, schedule, generation, format_error(error))

    def _update_job(self, name: str, schedule: Schedule, generation: int) -> None:
        state = self.jobs.get(name)
        if state is not None and state.schedule == schedule and state.trigger is not None:
            is_moved = not state.active
            state.active = True
            if state.generation != generation:  # new code deserves a trial
                state.generation = generation
                is_moved |= self._reset_failures(state)
            if is_moved:  # most of a thousand jobs are not
                self._set_timer(state)
            return
        trigger = trigger_of(schedule)
        now = self._clock.now()
        if state is None:
            state = JobState(name, schedule, trigger, Breaker(self._retry), generation)
        # Else it stays the same job: its counts go on, and its run in progress is not overlapped.
        if state.trigger is None:
            state.last_error = ""  # the reason why it did not run
        state.active, state.generation = True, generation
        state.breaker = Breaker(self._retry)
        state.set_schedule(schedule, trigger, now)
        if (position := self._positions.get(name, str(schedule))) is not None:
            state.restore(position, now, max(self._retry.most_s, self._retry.rest_s))
        self.jobs[name] = state
        self._set_timer(state)
        # Also before the first tick: a process that never lives that long would begin anew forever.
        self._positions.put(name, state.position)

    def _refuse(self, name: str, schedule: Schedule, generation: int, error: str) -> None:
        """List the job in the status with its error, and do not run it."""
        state = self.jobs.get(name)
        if state is None:
            state = JobState(name, schedule, None, Breaker(self._retry), -1)
            self.jobs[name] = state
        is_reported = state.trigger is None and state.generation == generation
        self._timer.cancel(name)
        state.schedule, state.trigger, state.next_due = schedule, None, None
        state.version += 1
        state.active, state.generation = True, generation
        state.last_error = error
        if not is_reported:
            self._emit(JobRefused(plugin=state.plugin, job=name, error=error))

    def _reset_failures(self, state: JobState) -> bool:
        """Retry a failed tick without the wait; returns whether there was anything to reset."""
        with self._reporting_breaker(state):
            is_moved = state.reset_failures(self._clock.now())
        if is_moved:
            self._positions.put(state.name, state.position)
        return is_moved

    def _drop_if_removed(self, state: JobState) -> None:
        """Drop a removed job's state once its run has ended. Its position stays stored."""
        if not state.active and state.run is None:
            self.jobs.pop(state.name, None)

    def _set_timer(self, state: JobState) -> None:
        """Set the job's timer to its next run. The end of a run in progress calls this again."""
        at = state.next_at if state.run is None and not self.closed else None
        if at is None:
            self._timer.cancel(state.name)
        else:
            self._timer.set(state.name, at)

    # --- runs --------------------------------------------------------------------------------

    def start(self, name: str, *, by_hand: bool) -> tuple[JobState, Run] | None:
        """Start a run of a job, if one is due or `by_hand` asks for it."""
        state = self.jobs.get(name)
        if state is None or not state.active or self.closed:
            return None  # the timer expired just before it was cancelled
        if state.run is not None:  # its end sets the timer
            if by_hand:
                state.skipped += 1
                self._emit_skipped(state, 1, "still running")
            return None
        run = state.start_by_hand() if by_hand else self._start_tick(state)
        if run is None:
            self._set_timer(state)
            return None
        return state, run

    def _start_tick(self, state: JobState) -> Run | None:
        """Start the tick that is due; None if there is none, or it is too late."""
        now = self._clock.now()
        if not state.is_due(now):
            return None
        run, skipped = state.start_tick(now, self._grace_s)
        self._emit_skipped(state, skipped, "too late" if run is None else "busy")
        if run is None:
            self._positions.put(state.name, state.position)
            return None
        with self._reporting_breaker(state) as breaker:
            breaker.begin()
        return run

    def finish(self, state: JobState, run: Run, outcome: Outcome | None) -> None:
        """Record the result of a run, and set the timer for the next."""
        now = self._clock.now()
        try:
            self.count_skipped(state, now)
            if outcome is not None and outcome.generation > state.generation:
                # The run was faster than the event of the change that loaded its code.
                state.generation = outcome.generation
                self._reset_failures(state)
            if outcome is None:
                self._record_nothing(state, run)
            elif outcome.error is None:
                self._record_success(state, run, outcome, now)
            else:
                self._record_failure(state, run, outcome, outcome.error, now)
        finally:
            state.end_run()
        if not state.active:
            self._drop_if_removed(state)
        elif outcome is None and state.is_due(now) and not self.closed:
            # The event of the job's removal is on its way; without one, try again.
            self._timer.set(state.name, now + RECHECK_S)
        else:
            self._set_timer(state)

    def _record_nothing(self, state: JobState, run: Run) -> None:
        """The function was not there: as if the run had not begun."""
        if not run.by_hand:
            with self._reporting_breaker(state) as breaker:
                breaker.cancel()

    def _record_success(self, state: JobState, run: Run, outcome: Outcome, now: float) -> None:
        with self._reporting_breaker(state):
            if state.succeed(run, now):
                # Also if the plugin was removed meanwhile: a one-shot must not run again.
                self._positions.put(state.name, state.position)
        ended = TickEnded(
            plugin=state.plugin,
            generation=outcome.generation,
            job=state.name,
            took_ms=outcome.took_ms,
        )
        self._emit(ended)

    def _record_failure(
        self, state: JobState, run: Run, outcome: Outcome, error: str, now: float
    ) -> None:
        # A failure of replaced code does not delay the code that replaced it.
        is_replaced = outcome.generation < state.generation
        with self._reporting_breaker(state):
            wait_s = state.fail(run, now, error, is_replaced=is_replaced)
        if not run.by_hand and run.version == state.version:
            self._positions.put(state.name, state.position)
        self._emit_failed(state, outcome.generation, error, wait_s, by_hand=run.by_hand)

    def record_fault(self, name: str, error: str) -> None:
        """Delay the job after a fault of ours, for which its breaker is not to blame."""
        state = self.jobs.get(name)
        if state is None:
            return
        state.failures += 1
        state.last_error = error
        state.retry_at = self._clock.now() + _BROKEN_S
        self._set_timer(state)
        self._emit_failed(state, state.generation, error, _BROKEN_S)

    # --- the heartbeat -----------------------------------------------------------------------

    def check(self, set_by_s: float, workers: int) -> None:
        """Correct for a clock that was set back; count skipped ticks; set lost timers again.

        Args:
            set_by_s: by how much the clock was set since the last call.
            workers: how many there are.
        """
        now = self._clock.now()
        for state in self.jobs.values():
            if set_by_s < -_SET_S:
                state.rewind(now, -set_by_s)
                if state.run is None:
                    self._set_timer(state)
            self.count_skipped(state, now)
        running = self.running
        waiting = [state for state in self.jobs.values() if state.is_due(now)]
        if not waiting or len(running) < workers:
            self._busy_beats = 0
            for state in waiting:
                self._set_timer(state)  # its call may be lost: there was no thread for it
            return
        self._busy_beats += 1
        if self._busy_beats == BUSY_BEATS:  # once, until a worker is free again
            self._emit(WorkersBusy(waiting=len(waiting), running=running))

    # --- events ------------------------------------------------------------------------------

    def count_skipped(self, state: JobState, now: float) -> None:
        """Count and report the ticks that passed during the run in progress."""
        self._emit_skipped(state, state.count_skipped(now), "still running")

    def _emit_skipped(self, state: JobState, count: int, reason: str) -> None:
        if count:
            name = state.name
            self._emit(TicksSkipped(plugin=state.plugin, job=name, count=count, reason=reason))

    def _emit_failed(
        self, state: JobState, generation: int, error: str, wait_s: float, *, by_hand: bool = False
    ) -> None:
        failed = TickFailed(
            plugin=state.plugin,
            generation=generation,
            job=state.name,
            error=error,
            failures=state.breaker.failures,
            wait_s=wait_s,
            by_hand=by_hand,
        )
        self._emit(failed)

    @contextmanager
    def _reporting_breaker(self, state: JobState) -> Generator[Breaker]:
        """Emit a `BreakerMoved` if the block changes the state of the job's breaker."""
        breaker = state.breaker
        before = breaker.state
        yield breaker
        if breaker.state is not before:
            moved = breaker.state.value
            self._emit(BreakerMoved(plugin=state.plugin, job=state.name, state=moved))
