"""The times that a schedule asks for: which is next, how many have passed, which was the last.

All of it is arithmetic, however long ago the last look was: a job that ran every 100 ms and was
away for a month is asked about 26 million ticks, and answers by a division. Cron's times come from
APScheduler, one look at a time.

Times are seconds since the Unix epoch. A grid knows no position: each question brings a tick of
the schedule, which is the phase too, and asks about what comes after it. So a position may be kept,
moved and given back, and the schedule goes on from there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import floor
from typing import TYPE_CHECKING, Final, Protocol

from apscheduler.triggers.cron import CronTrigger

from epochal.kinds.cron import is_at_fixed_hours

if TYPE_CHECKING:
    from epochal.kinds.job import Schedule

_MOST_COUNTED: Final = 100
"""Ticks of a cron expression that have passed and are counted: each costs 30 to 300 µs."""
_SHORT_JUMP_S: Final = 3 * 3600.0
"""Clocks that go back by more were wrong before; by less, what was done in that time stays done
(the rule of Debian's cron)."""
_MINUTE_S: Final = 60.0


class Grid(Protocol):
    """The ticks of one schedule."""

    def first(self, now: float) -> float:
        """The first tick of a schedule that begins now; that of a one-shot may have passed."""
        ...

    def after(self, tick: float, now: float) -> float | None:
        """The first tick after both; None if there is none."""
        ...

    def passed(self, tick: float, now: float) -> int:
        """How many there are after `tick` and until `now`; of cron's, 100 at most."""
        ...

    def latest(self, tick: float, now: float) -> float:
        """The last one until `now`, or `tick` if that is later."""
        ...

    def restored(self, tick: float, now: float) -> float:
        """A kept position, as far as it can be: the clock may have been wrong when it was kept."""
        ...

    def rewound(self, tick: float, now: float, by: float) -> float:
        """Where a position moves to when the clock was set back by so many seconds, to `now`."""
        ...


class Every:
    """Ticks at a fixed distance."""

    __slots__ = ("_step",)

    def __init__(self, every_s: float) -> None:
        self._step: Final = every_s

    def first(self, now: float) -> float:
        """One step from now."""
        return now + self._step

    def after(self, tick: float, now: float) -> float:
        """On the grid of `tick`."""
        following = tick + (max(0, floor((now - tick) / self._step)) + 1) * self._step
        while following <= now:  # rounding
            following += self._step
        return following

    def passed(self, tick: float, now: float) -> int:
        """A division."""
        return max(0, floor((now - tick) / self._step))

    def latest(self, tick: float, now: float) -> float:
        """On the grid of `tick`."""
        return tick + self.passed(tick, now) * self._step

    def restored(self, tick: float, now: float) -> float:
        """Less than two steps from now, in the same phase: one would be a question of rounding."""
        return tick - max(0, floor((tick - now) / self._step) - 1) * self._step

    def rewound(self, tick: float, now: float, by: float) -> float:
        """As far from now as before: what was measured is the time between two ticks."""
        return self.restored(tick - by, now)


class Cron:
    """Ticks at times of the calendar, in local time.

    Clocks that are set back in autumn have an hour twice. Who says an hour gets it once, the first
    time; who says every hour, or every so many, gets both.
    """

    __slots__ = ("_is_fixed", "_trigger")

    def __init__(self, cron: str) -> None:
        self._trigger: Final = CronTrigger.from_crontab(cron)
        self._is_fixed: Final = is_at_fixed_hours(cron)

    def first(self, now: float) -> float:
        """The next of the calendar."""
        return self._after(now)

    def after(self, tick: float, now: float) -> float:
        """The next of the calendar."""
        return self._after(max(tick, now))

    def passed(self, tick: float, now: float) -> int:
        """One by one, so not more than a hundred."""
        count = 0
        while count < _MOST_COUNTED and (tick := self._after(tick)) <= now:
            count += 1
        return count

    def latest(self, tick: float, now: float) -> float:
        """Found from now backwards, in growing steps, then by halves: about thirty looks."""
        back = _MINUTE_S
        while now - back > tick and self._after(now - back) > now:
            back *= 2
        early, late = max(tick, now - back), now
        if self._after(early) > now:
            return tick
        while late - early > _MINUTE_S / 2:
            middle = (early + late) / 2
            early, late = (middle, late) if self._after(middle) <= now else (early, middle)
        return self._after(early)

    def restored(self, tick: float, now: float) -> float:
        """No later than the calendar's next: rather twice than not at all."""
        return min(tick, self._after(now))

    def rewound(self, tick: float, now: float, by: float) -> float:
        """The calendar's next; but said hours do not come again because of a small correction."""
        return tick if self._is_fixed and by <= _SHORT_JUMP_S else self.restored(tick, now)

    def _after(self, at: float) -> float:
        begin = datetime.fromtimestamp(floor(at), UTC)
        zone = self._trigger.timezone
        while True:
            # Cron's ticks are whole minutes: the next whole second is after `at`, and before them.
            begin += timedelta(seconds=1)
            found: datetime | None = self._trigger.get_next_fire_time(None, begin.astimezone(zone))
            if found is None:
                raise ValueError("the calendar has no further day for it")
            begin = found.astimezone(UTC)
            if not (self._is_fixed and begin.astimezone(zone).fold):
                return begin.timestamp()


class Once:
    """One tick."""

    __slots__ = ("_at",)

    def __init__(self, at: datetime) -> None:
        self._at: Final = at.timestamp()  # a time without a zone is local

    def first(self, now: float) -> float:
        """The one."""
        del now
        return self._at

    def after(self, tick: float, now: float) -> None:
        """There is none."""
        del tick, now

    def passed(self, tick: float, now: float) -> int:
        """None."""
        del tick, now
        return 0

    def latest(self, tick: float, now: float) -> float:
        """The one."""
        del now
        return tick

    def restored(self, tick: float, now: float) -> float:
        """The one."""
        del now
        return tick

    def rewound(self, tick: float, now: float, by: float) -> float:
        """The one."""
        del now, by
        return tick


def grid_of(schedule: Schedule) -> Grid:
    """The ticks of a schedule.

    Raises:
        ValueError: it is one that the scheduler cannot keep.
    """
    if schedule.every_s is not None:
        return Every(schedule.every_s)
    if schedule.cron is not None:
        return Cron(schedule.cron)
    if schedule.at is None:
        raise ValueError(f"{schedule!r} says no time")
    return Once(schedule.at)
