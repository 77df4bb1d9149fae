"""The ticks of a schedule: the next one, how many have passed, the last one.

An interval's ticks are arithmetic, however long the process was away: for a job that ran every
100 ms and was away for a month, the 26 million missed ticks are one division. A cron expression's
ticks come from cronsim, one at a time.

Times are seconds since the Unix epoch. A trigger has no position: each question brings a tick of
the schedule, which is also the phase, and asks for the ticks after it. So a position can be stored,
moved and restored, and the schedule goes on from there.

cronsim answers "the next time that matches" for one cron expression, by Debian cron's rule for a
day of the month *or* a day of the week. It is asked without a zone: what the clock's changes mean
is decided here, because we differ for one case: in spring a job for 02:30 runs at 03:30, one hour
after 01:30 as on every day, not at 03:00.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from math import ceil, floor, inf
from typing import TYPE_CHECKING, Final, Protocol

from cronsim import CronSim, CronSimError

from epochal.kinds.cron import is_at_fixed_hours

if TYPE_CHECKING:
    from epochal.kinds.job import Schedule

_MOST_COUNTED: Final = 100
"""Passed ticks of a cron expression are counted up to here: each costs 60 to 330 µs."""
_SHORT_JUMP_S: Final = 3 * 3600.0
"""A clock that goes back by more was wrong before. After a shorter jump, the ticks done in that
time stay done (the rule of Debian's cron)."""
_MINUTE_S: Final = 60.0
_DAY_S: Final = 86400.0
_LONGEST_GAP_S: Final = 25 * 3600.0
"""A zone that goes over the date line leaves out a day."""
_NO_FURTHER: Final = "the calendar has no further day for it"


class LocalZone(tzinfo):
    """The system's time zone, by the C library's rules: the standard library has no name for it.

    (`datetime.astimezone()` gives a fixed offset, without the changes in spring and autumn.)
    """

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """The local offset from UTC; `fold` tells the two passes of a repeated hour apart."""
        if dt is None:
            return None
        # By `timestamp`, which has PEP 495's rule for a time that the clocks skip in every version
        # of Python; `astimezone` has another from 3.13 on.
        naive = dt.replace(tzinfo=None, microsecond=0)
        return timedelta(seconds=naive.replace(tzinfo=UTC).timestamp() - naive.timestamp())

    def dst(self, dt: datetime | None) -> None:
        """Not known, and not needed."""

    def tzname(self, dt: datetime | None) -> str | None:
        """Such as `CET`."""
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        """The local time of an instant, with its `fold`."""
        local = datetime.fromtimestamp(dt.replace(tzinfo=UTC).timestamp())
        return local.replace(tzinfo=self)


LOCAL: tzinfo = LocalZone()


class Trigger(Protocol):
    """The ticks of one schedule."""

    def first(self, now: float) -> float:
        """The first tick of a schedule that begins now; a one-shot's may be in the past."""
        ...

    def after(self, tick: float, now: float) -> float | None:
        """The first tick later than both; None if there is none."""
        ...

    def passed(self, tick: float, now: float) -> int:
        """The number of ticks after `tick`, up to `now`; of a cron expression at most 100."""
        ...

    def latest(self, tick: float, now: float) -> float:
        """The last tick up to `now`; `tick` if that is later."""
        ...

    def restored(self, tick: float, now: float) -> float:
        """A stored tick, corrected: the clock may have been wrong when it was stored."""
        ...

    def rewound(self, tick: float, now: float, by: float) -> float:
        """The tick to go on with after the clock was set back by `by` seconds, to `now`."""
        ...


class IntervalTrigger:
    """Ticks at a fixed distance."""

    __slots__ = ("_step",)

    def __init__(self, every_s: float) -> None:
        self._step: Final = every_s

    def first(self, now: float) -> float:
        """One step from now."""
        return now + self._step

    def after(self, tick: float, now: float) -> float:
        """A whole number of steps after `tick`."""
        following = tick + (max(0, floor((now - tick) / self._step)) + 1) * self._step
        while following <= now:  # rounding
            following += self._step
        return following

    def passed(self, tick: float, now: float) -> int:
        """Computed by one division."""
        return max(0, floor((now - tick) / self._step))

    def latest(self, tick: float, now: float) -> float:
        """A whole number of steps after `tick`."""
        return tick + self.passed(tick, now) * self._step

    def restored(self, tick: float, now: float) -> float:
        """In phase, less than two steps from now: a bound of one would depend on rounding."""
        return tick - max(0, floor((tick - now) / self._step) - 1) * self._step

    def rewound(self, tick: float, now: float, by: float) -> float:
        """As far from now as before: an interval measures the time between two ticks."""
        return self.restored(tick - by, now)


class CronTrigger:
    """Ticks at times of the calendar, in local time.

    In autumn, when clocks are set back, one hour comes twice. An expression with fixed hours runs
    in the first pass only; one for every hour, or every so many hours, runs in both. In spring, a
    fixed time that the clock jumps over comes as much after the jump as it would have been.

    Raises:
        ValueError: cronsim does not accept the expression.
    """

    __slots__ = ("_expression", "_is_fixed")

    def __init__(self, cron: str) -> None:
        self._expression: Final = cron
        self._is_fixed: Final = is_at_fixed_hours(cron)
        try:
            CronSim(self._expression, datetime(2026, 1, 1))
        except CronSimError as error:
            raise ValueError(f"{cron!r} cannot be scheduled: {error}") from None

    def first(self, now: float) -> float:
        """The calendar's next."""
        return self._after(now)

    def after(self, tick: float, now: float) -> float:
        """The calendar's next."""
        return self._after(max(tick, now))

    def passed(self, tick: float, now: float) -> int:
        """Counted one by one, so at most a hundred."""
        count = 0
        while count < _MOST_COUNTED and (tick := self._after(tick)) <= now:
            count += 1
        return count

    def latest(self, tick: float, now: float) -> float:
        """Searched backwards from now in growing steps, then by bisection: about thirty looks."""
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
        """At most the calendar's next: a tick that comes twice is better than none."""
        return min(tick, self._after(now))

    def rewound(self, tick: float, now: float, by: float) -> float:
        """The calendar's next; but a small correction of the clock repeats no fixed hour."""
        return tick if self._is_fixed and by <= _SHORT_JUMP_S else self.restored(tick, now)

    def _after(self, at: float) -> float:
        return self._fixed_after(at) if self._is_fixed else self._every_after(at)

    def _every_after(self, at: float) -> float:
        """Between two changes of the clock the wall goes on evenly; so one stretch at a time."""
        begin, wall = at, _on_the_wall(floor(at))
        while True:
            offset = _offset_s(begin)
            tick = self._next(wall).replace(tzinfo=UTC).timestamp() - offset
            change = _change_of_clock(begin, tick, offset)
            if change is None:
                return tick
            # The moment of the change itself may be a tick.
            begin, wall = change, _on_the_wall(change) - timedelta(seconds=1)

    def _next(self, wall: datetime) -> datetime:
        tick: datetime | None = next(CronSim(self._expression, wall), None)
        if tick is None:
            raise ValueError(_NO_FURTHER)
        return tick

    def _fixed_after(self, at: float) -> float:
        """By the clock on the wall: each time once a day, and no gap in spring."""
        # A time in spring's gap gets the offset before it, so it comes up to a gap's length after
        # the jump, when the wall shows times that are later by so much: there it is looked for.
        gap = _offset_s(at) - _offset_s(at - _LONGEST_GAP_S)
        wall = _on_the_wall(floor(at)) - timedelta(seconds=max(gap, 0.0))
        following, shown = inf, wall  # the best so far, and what the wall shows then
        for tick in CronSim(self._expression, wall):
            if following < inf and tick >= shown:
                return following
            # The first pass of a repeated hour.
            timestamp = tick.replace(tzinfo=LOCAL, fold=0).timestamp()
            # Times of the first pass are in the past if `at` is in the second.
            if at < timestamp < following:
                following, shown = timestamp, _on_the_wall(timestamp)
                if shown == tick:  # outside of a gap: no other is earlier
                    return following
        if following == inf:
            raise ValueError(_NO_FURTHER)
        return following


def _on_the_wall(at: float) -> datetime:
    return datetime.fromtimestamp(at, LOCAL).replace(tzinfo=None, fold=0)


def _offset_s(at: float) -> float:
    offset = datetime.fromtimestamp(at, LOCAL).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _change_of_clock(begin: float, end: float, offset: float) -> float | None:
    """The first second in which the offset is another; None if there is none up to the end."""
    early = begin
    while early < end:
        late = min(early + _DAY_S, end)
        if _offset_s(late) != offset:
            early, late = floor(early), ceil(late)
            while late - early > 1:
                middle = (early + late) // 2
                early, late = (middle, late) if _offset_s(middle) == offset else (early, middle)
            return float(late)
        early = late
    return None


class DateTrigger:
    """One tick, which never moves."""

    __slots__ = ("_at",)

    def __init__(self, at: datetime) -> None:
        self._at: Final = at.timestamp()  # a time without a zone is local

    def first(self, now: float) -> float:
        """The one tick."""
        del now
        return self._at

    def after(self, tick: float, now: float) -> None:
        """Always None."""
        del tick, now

    def passed(self, tick: float, now: float) -> int:
        """Always 0."""
        del tick, now
        return 0

    def latest(self, tick: float, now: float) -> float:
        """The one tick."""
        del now
        return tick

    restored = latest

    def rewound(self, tick: float, now: float, by: float) -> float:
        """The one tick."""
        del now, by
        return tick


def trigger_of(schedule: Schedule) -> Trigger:
    """The trigger that computes the ticks of a schedule.

    Raises:
        ValueError: the schedule is empty, or its cron expression is invalid.
    """
    if schedule.every_s is not None:
        return IntervalTrigger(schedule.every_s)
    if schedule.cron is not None:
        return CronTrigger(schedule.cron)
    if schedule.at is None:
        raise ValueError(f"{schedule!r} says no time")
    return DateTrigger(schedule.at)
