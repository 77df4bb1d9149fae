"""One job: where it stands in its schedule, and what its failures hold back.

Two times are the whole truth. `regular` is the earliest tick of the schedule that is not done yet:
it goes on when a tick has ended well or was left out, and stays where it is when one fails.
`not_before` holds that back, after failures. The job runs next at the later of the two. So a tick
that failed is owed until it succeeds or the next one takes its place, and whatever clears
`not_before` (new code, somebody's success by hand) moves no schedule.

A tick that is due while the one before still runs is left out, unless there is no other: a one-shot
waits. A run by hand is no tick. It touches neither of the two times; a tick that is due meanwhile
comes after it.

No clock, no lock, no thread: `Jobs` calls all of this with the time, under its lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from epochal.jobs.positions import Position

if TYPE_CHECKING:
    from epochal.jobs.retry import Breaker
    from epochal.jobs.triggers import Grid
    from epochal.kinds.job import Schedule

NEVER_S: Final = 253_370_764_800.0
"""The year 9999: a calendar has no later times, and who waits until then waits for a reload."""
LOOK_S: Final = 1.0
"""Seconds after which a job is looked at again that was due and could not run."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way.

    Attributes:
        by_hand: whether it is no tick of the schedule.
        version: of the line's schedule, as it began: the end of a run under an old one says nothing
            about a new one.
    """

    by_hand: bool
    version: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a tick that was due.

    Attributes:
        run: the run that it began; None where it was too late for one.
        left_out: how many ticks were left out with that.
    """

    run: Run | None
    left_out: int


@dataclass(slots=True)
class Line:
    """One job.

    Attributes:
        name: `plugin.name`.
        schedule: its schedule.
        grid: the times of that; None where it cannot be kept, and `last_error` says why.
        breaker: counts its failures.
        generation: of the code that serves.
        active: whether its plugin is. A line that runs is kept until that has ended.
        version: how often the schedule was changed.
        regular: the earliest tick that is not done; None if there is none any more.
        not_before: what failures hold it back to; infinite for until a reload.
        is_done: it is a one-shot, and has succeeded. Nothing else makes it so.
        run: the run under way.
        counted: ticks that passed while that ran, and are counted already.
    """

    name: str
    schedule: Schedule
    grid: Grid | None
    breaker: Breaker
    generation: int
    active: bool = True
    version: int = 0
    regular: float | None = None
    not_before: float | None = None
    is_done: bool = False
    run: Run | None = None
    counted: int = 0
    ticks: int = 0
    failures: int = 0
    skipped: int = 0
    last_error: str = field(default="", repr=False)

    # --- where it stands ---------------------------------------------------------------------

    def begin_schedule(self, schedule: Schedule, grid: Grid, now: float) -> None:
        """Have a schedule from now on, in place of whatever it had."""
        self.version += 1
        self.schedule, self.grid = schedule, grid
        self.counted = 0
        self.is_done, self.not_before = False, None
        self.regular = grid.first(now)

    def go_on(self, position: Position, now: float, most_s: float) -> None:
        """Take up a position that was kept; failures held it back by `most_s` at most."""
        assert self.grid is not None
        self.is_done = position.is_done
        self.regular = None
        if position.is_done or position.regular is None:
            return
        self.regular = self.grid.restored(position.regular, now)
        if position.not_before is not None and position.not_before < NEVER_S:
            self.not_before = min(position.not_before, now + most_s)

    @property
    def position(self) -> Position:
        """What to keep of it."""
        return Position(str(self.schedule), self.regular, self.not_before, self.is_done)

    @property
    def next_at(self) -> float | None:
        """When it runs next, if it does not run now; None if it does not."""
        if not self.active or self.regular is None:
            return None
        at = self.regular if self.not_before is None else max(self.regular, self.not_before)
        return at if at < NEVER_S else None

    def following(self, now: float) -> float | None:
        """The first tick after the one that runs."""
        if not self.active or self.grid is None or self.regular is None:
            return None
        return self.grid.after(self.regular, now)

    def is_due(self, now: float) -> bool:
        """Whether it should run."""
        at = self.next_at
        return at is not None and at <= now and self.run is None

    # --- what happens to it ------------------------------------------------------------------

    def begin_by_hand(self) -> Run:
        """Begin a run that is no tick."""
        self.run = Run(by_hand=True, version=self.version)
        return self.run

    def take(self, now: float, grace_s: float) -> Taken:
        """Begin the tick that is due, or leave it out if it is too late.

        It stands for all that were due by now: those that failures held back, which were never to
        run, and those that came while no worker was free, which are left out.
        """
        assert self.grid is not None
        assert self.regular is not None
        grid, regular = self.grid, self.regular
        held = max(regular, regular if self.not_before is None else self.not_before)
        left_out = grid.passed(regular, now) - grid.passed(regular, held)
        latest = grid.latest(regular, now)
        if now - max(latest, held) > grace_s:
            self.skipped += left_out + 1
            self.regular = grid.after(regular, now)
            self.not_before = None
            return Taken(None, left_out + 1)
        self.skipped += left_out
        self.regular = latest
        self.run = Run(by_hand=False, version=self.version)
        return Taken(self.run, left_out)

    def leave_out(self, now: float) -> int:
        """Count the ticks that passed while the one before ran; those that were not counted yet."""
        if self.run is None or self.run.by_hand or self.grid is None or self.regular is None:
            return 0
        if self.run.version != self.version:
            return 0
        new = self.grid.passed(self.regular, now) - self.counted
        if new <= 0:  # the clock was set back, or cron's bound is reached
            return 0
        self.counted += new
        self.skipped += new
        return new

    def succeed(self, run: Run, now: float) -> bool:
        """A run ended well.

        Returns:
            Whether that moved its position.
        """
        self.ticks += 1
        if run.version != self.version or self.regular is None or self.grid is None:
            return False
        if run.by_hand:
            return self._succeed_by_hand(now)
        self.breaker.succeeded()
        self.not_before = None
        self.regular = self.grid.after(self.regular, now)
        self.is_done = self.regular is None
        return True

    def _succeed_by_hand(self, now: float) -> bool:
        """It works again. A retry that was owed is not needed any more; a one-shot's is."""
        assert self.grid is not None
        assert self.regular is not None
        if not self.forgive(now):
            return False
        following = self.grid.after(self.regular, now)
        if self.regular <= now and following is not None:
            self.regular = following
        return True

    def fail(self, run: Run, now: float, error: str, *, is_replaced: bool) -> float:
        """A run failed.

        Args:
            run: it.
            now: the time.
            error: of it, in one line.
            is_replaced: whether its code is: then that is not held against the new code.

        Returns:
            Seconds for which it is held back.
        """
        self.failures += 1
        self.last_error = error
        if run.by_hand or run.version != self.version:
            return 0.0
        wait_s = 0.0 if is_replaced else self.breaker.failed()
        self.not_before = now + wait_s
        if self.regular is not None and self.grid is not None:
            self.regular = self.grid.latest(self.regular, now)
        return wait_s

    def end(self) -> None:
        """The run is over, in whatever way."""
        self.run = None
        self.counted = 0

    def forgive(self, now: float) -> bool:
        """Try again what failed, without the wait; returns whether there was one.

        The schedule stays as it is. What is owed becomes due now, and not in the past: for the
        grace it would be too late.
        """
        if not self.breaker.failures and self.not_before is None:
            return False
        self.breaker.succeeded()
        is_owed = self.regular is not None and self.regular <= now
        self.not_before = now if is_owed else None
        return True

    def rewind(self, now: float, by: float) -> None:
        """The clock was set back by so many seconds, to `now`."""
        if self.grid is not None and self.regular is not None:
            self.regular = self.grid.rewound(self.regular, now, by)
        if self.not_before is not None:
            self.not_before -= by
