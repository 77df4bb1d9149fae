"""The state of one job: its place in its schedule, and the delay after failures.

Two times are the whole truth. `next_due` is the earliest tick of the schedule that is not done: it
moves on when a tick succeeds or is left out, and stays when one fails. `retry_at` delays that
tick after failures. The job runs next at the later of the two. So a failed tick is owed until it
succeeds or the next one takes its place, and clearing `retry_at` (new code was loaded, a run by
hand succeeded) moves no schedule.

A tick that is due during the previous run is left out, unless it is the only one: a one-shot waits.
A run by hand is not a tick. It changes neither time, and a tick that is due during it comes after
it.

No clock, no lock, no thread: `Jobs` calls every method with the time, under its own lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from epochal.jobs.positions import NEVER_S, Position

if TYPE_CHECKING:
    from epochal._core.sync.retry import Breaker
    from epochal.jobs.triggers import Trigger
    from epochal.kinds.job import Schedule

RECHECK_S: Final = 1.0
"""Seconds until the next try of a job that was due without its function."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run in progress.

    Attributes:
        by_hand: whether `Jobs.run_now` asked for it; otherwise it is a tick.
        version: the job's `version` at the start: the result of a run under an old schedule does
            not count for a new one.
    """

    by_hand: bool
    version: int


@dataclass(slots=True)
class JobState:
    """One job.

    Attributes:
        name: full name, `plugin.name`.
        schedule: from the job's marker.
        trigger: computes the schedule's ticks; None if the schedule cannot be kept, and
            `last_error` has the reason.
        breaker: counts the failures in a row.
        generation: the number of the active generation.
        active: whether the plugin is. The state of a removed job stays until its run has ended.
        version: how often the schedule was changed.
        next_due: the earliest tick that is not done; None if there is none left.
        retry_at: failures delay the tick until then; infinite for until the next reload.
        is_done: a one-shot succeeded. Nothing else sets it.
        run: the run in progress.
        run_skipped: ticks that passed during that run and are counted in `skipped` already.
        ticks: runs that succeeded.
        failures: runs that failed.
        skipped: ticks that were left out.
        last_error: in one line; empty for none.
    """

    name: str
    schedule: Schedule
    trigger: Trigger | None
    breaker: Breaker
    generation: int
    active: bool = True
    version: int = 0
    next_due: float | None = None
    retry_at: float | None = None
    is_done: bool = False
    run: Run | None = None
    run_skipped: int = 0
    ticks: int = 0
    failures: int = 0
    skipped: int = 0
    last_error: str = field(default="", repr=False)

    @property
    def plugin(self) -> str:
        """The id of the job's plugin."""
        return self.name.partition(".")[0]

    # --- the place in the schedule -----------------------------------------------------------

    def set_schedule(self, schedule: Schedule, trigger: Trigger, now: float) -> None:
        """Begin this schedule now, in place of any earlier one."""
        self.version += 1
        self.schedule, self.trigger = schedule, trigger
        self.run_skipped = 0
        self.is_done, self.retry_at = False, None
        self.next_due = trigger.first(now)

    def restore(self, position: Position, now: float, longest_wait_s: float) -> None:
        """Continue from a stored position. Failures delay it by `longest_wait_s` at most."""
        assert self.trigger is not None
        self.is_done = position.is_done
        self.next_due = None
        if position.is_done or position.next_due is None:
            return
        self.next_due = self.trigger.restored(position.next_due, now)
        if position.retry_at is not None and position.retry_at < NEVER_S:
            # The clock may have been wrong when this was stored.
            self.retry_at = min(position.retry_at, now + longest_wait_s)

    @property
    def position(self) -> Position:
        """The part of the state that survives a restart."""
        return Position(str(self.schedule), self.next_due, self.retry_at, self.is_done)

    @property
    def next_at(self) -> float | None:
        """The time of the next run, unless one is in progress; None if there is none."""
        if not self.active or self.next_due is None:
            return None
        at = self.next_due if self.retry_at is None else max(self.next_due, self.retry_at)
        return at if at < NEVER_S else None

    def tick_after_run(self, now: float) -> float | None:
        """The first tick after the one that is running."""
        if not self.active or self.trigger is None or self.next_due is None:
            return None
        return self.trigger.after(self.next_due, now)

    def is_due(self, now: float) -> bool:
        """Whether the job should start now."""
        at = self.next_at
        return at is not None and at <= now and self.run is None

    # --- runs --------------------------------------------------------------------------------

    def start_by_hand(self) -> Run:
        """Start a run that is not a tick."""
        self.run = Run(by_hand=True, version=self.version)
        return self.run

    def start_tick(self, now: float, grace_s: float) -> tuple[Run | None, int]:
        """Start the tick that is due, or leave it out if it is later than `grace_s` allows.

        It stands for every tick that is due. Of these, the ticks that came during the delay after
        a failure were never to run; the ticks that came while no worker was free are left out.

        Returns:
            The run, or None if the tick was too late; and how many ticks were left out.
        """
        assert self.trigger is not None
        assert self.next_due is not None
        trigger, next_due = self.trigger, self.next_due
        delayed_to = max(next_due, next_due if self.retry_at is None else self.retry_at)
        skipped = trigger.passed(next_due, now) - trigger.passed(next_due, delayed_to)
        latest = trigger.latest(next_due, now)
        if now - max(latest, delayed_to) > grace_s:
            self.skipped += skipped + 1
            # Not `is_done`: a one-shot that was too late may still run with a longer grace.
            self.next_due = trigger.after(next_due, now)
            self.retry_at = None
            return None, skipped + 1
        self.skipped += skipped
        self.next_due = latest
        self.run = Run(by_hand=False, version=self.version)
        return self.run, skipped

    def count_skipped(self, now: float) -> int:
        """Count the ticks that passed during this run, and return those not counted before."""
        if self.run is None or self.run.by_hand or self.trigger is None or self.next_due is None:
            return 0
        if self.run.version != self.version:
            return 0
        new = self.trigger.passed(self.next_due, now) - self.run_skipped
        if new <= 0:  # the clock was set back, or the bound of a cron expression is reached
            return 0
        self.run_skipped += new
        self.skipped += new
        return new

    def succeed(self, run: Run, now: float) -> bool:
        """Record that a run succeeded.

        Returns:
            Whether the position changed.
        """
        self.ticks += 1
        if run.version != self.version or self.next_due is None or self.trigger is None:
            return False
        if run.by_hand:
            return self._succeed_by_hand(now)
        self.breaker.record_success()
        self.retry_at = None
        self.next_due = self.trigger.after(self.next_due, now)
        self.is_done = self.next_due is None
        return True

    def _succeed_by_hand(self, now: float) -> bool:
        """The job works again: an owed retry is not needed any more, but a one-shot's tick is."""
        assert self.trigger is not None
        assert self.next_due is not None
        if not self.reset_failures(now):
            return False
        following = self.trigger.after(self.next_due, now)
        if self.next_due <= now and following is not None:
            self.next_due = following
        return True

    def fail(self, run: Run, now: float, error: str, *, is_replaced: bool) -> float:
        """Record that a run failed.

        Args:
            run: the run.
            now: the time.
            error: in one line.
            is_replaced: whether the code that ran is; its failure does not delay the new code.

        Returns:
            Seconds until the retry.
        """
        self.failures += 1
        self.last_error = error
        if run.by_hand or run.version != self.version:
            return 0.0
        wait_s = 0.0 if is_replaced else self.breaker.record_failure()
        self.retry_at = now + wait_s
        if self.next_due is not None and self.trigger is not None:
            # The owed tick is the latest: earlier ones were superseded during the run.
            self.next_due = self.trigger.latest(self.next_due, now)
        return wait_s

    def end_run(self) -> None:
        """The run is over, with any result."""
        self.run = None
        self.run_skipped = 0

    def reset_failures(self, now: float) -> bool:
        """Retry a failed tick without the wait; returns whether there was anything to reset.

        The schedule stays. An owed tick becomes due now, not at its own time in the past, which the
        grace might call too late.
        """
        if not self.breaker.failures and self.retry_at is None:
            return False
        self.breaker.record_success()
        is_owed = self.next_due is not None and self.next_due <= now
        self.retry_at = now if is_owed else None
        return True

    def rewind(self, now: float, by: float) -> None:
        """The clock was set back by `by` seconds, to `now`."""
        if self.trigger is not None and self.next_due is not None:
            self.next_due = self.trigger.rewound(self.next_due, now, by)
        if self.retry_at is not None:
            self.retry_at -= by
