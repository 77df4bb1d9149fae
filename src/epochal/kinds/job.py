"""Jobs: functions that run by a schedule, in the background.

::

    @job(every="5s")                       # "250ms", "5s", "10m", "6h", "1d", or seconds
    def sweep() -> None: ...

    @job(cron="30 6 * * mon-fri")          # minute hour day month weekday, in local time
    def report() -> None: ...

    @job(at="2027-01-01T00:00:00")         # once
    async def celebrate() -> None: ...

Of a cron expression that has a day and a weekday, both must be met.

`epochal.jobs.Jobs` runs them. A tick reads the epoch once, as it begins: one that runs while its
plugin is reloaded ends on the old code, and holds back the shutdown of that; the next runs the new
code. A schedule belongs to the job's name, not to its code: a reload that leaves it as it is does
not touch it, so no tick is lost and none comes twice. A changed schedule starts anew.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from epochal._core.kind import Export, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 36_525 * 86400.0
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_STRIDES: Final = {stride: stride for stride in range(1, 8)}
_FIELDS: Final = ("minute", "hour", "day", "month", "day_of_week")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job runs; one of the three is set.

    Attributes:
        every_s: seconds from tick to tick.
        cron: five fields; weekdays by name.
        at: the one time.
    """

    every_s: float | None = None
    cron: str | None = None
    at: datetime | None = None

    @property
    def is_once(self) -> bool:
        """Whether there is one tick only."""
        return self.at is not None

    def __str__(self) -> str:
        if self.every_s is not None:
            return f"every {self.every_s:g} s"
        return f"cron {self.cron}" if self.cron is not None else f"at {self.at}"


def read_duration(text: float | str) -> float:
    """Seconds of `"5s"`, `"250ms"`, `"10m"`, `"6h"`, `"1d"`, or of a number of seconds.

    Raises:
        ValueError: it is none of these, or not between a millisecond and a century.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        seconds = float(text)
    elif isinstance(text, str) and (found := _DURATION.fullmatch(text.strip())):
        seconds = float(found[1]) * _UNITS[found[2]]
    else:
        raise ValueError(f"{text!r} is no duration; expected '250ms', '5s', '10m', '6h' or '1d'")
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ValueError(
            f"{text!r} is no duration between two ticks; expected a millisecond to a century"
        )
    return seconds


def read_cron(text: str) -> str:
    """Check that a cron expression has five fields; weekdays become names.

    Numbers of weekdays are cron's (0 and 7 are Sunday). Schedulers disagree about these, so what
    comes out has none.

    Raises:
        ValueError: it has not, or a weekday is none.
    """
    fields = text.split() if isinstance(text, str) else []
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{text!r} is no cron expression; expected five fields: {' '.join(_FIELDS)}"
        )
    days = sorted({day for part in fields[4].lower().split(",") for day in _weekdays(part)})
    fields[4] = "*" if len(days) == len(_DAYS) else ",".join(_DAYS[day] for day in days)
    return " ".join(fields)


def _weekdays(part: str) -> list[int]:
    span, _, step = part.partition("/")
    first, dash, last = ("0", "-", "6") if span == "*" else span.partition("-")
    try:
        begin = _weekday(first)
        end = _weekday(last) if dash else (6 if step else begin)
        stride = _STRIDES[int(step) if step else 1]
    except (ValueError, KeyError):
        raise ValueError(
            f"{part!r} is no weekday; expected names ({', '.join(_DAYS)}) or 0 to 7, "
            "ranges (mon-fri) and steps (*/2)"
        ) from None
    if end < begin:  # fri-mon, and 5-7
        end += 7
    return [day % 7 for day in range(begin, end + 1, stride)]


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    number = int(text)
    if not 0 <= number <= len(_DAYS):
        raise ValueError
    return number % 7


class Job(Kind[Callable[[], Any]]):
    """The kind of jobs; its one instance is `epochal.kinds.job`."""

    __slots__ = ()

    def options(
        self,
        *,
        every: float | str | None = None,
        cron: str | None = None,
        at: datetime | str | None = None,
        **unknown: Any,
    ) -> Mapping[str, Any]:
        """What the marker takes: exactly one of three.

        Args:
            every: seconds from tick to tick, or a text such as `"5s"`.
            cron: five fields: minute hour day month weekday.
            at: the one time; without a zone it is local time.
            **unknown: refused.

        Raises:
            TypeError: an option that is not known, or not exactly one.
            ValueError: it cannot be read.
        """
        if unknown:
            raise TypeError(
                f"job does not know the options {sorted(unknown)}; "
                "it takes every, cron or at, and name"
            )
        if sum(one is not None for one in (every, cron, at)) != 1:
            raise TypeError("a job takes exactly one of every=, cron= and at=")
        if every is not None:
            return {"schedule": Schedule(every_s=read_duration(every))}
        if cron is not None:
            return {"schedule": Schedule(cron=read_cron(cron))}
        return {"schedule": Schedule(at=_read_time(at))}

    def validate(self, export: Export) -> None:
        """Ask for a function that is called without arguments, and a schedule that can be kept.

        Raises:
            TypeError: it is none.
            ValueError: the cron expression is none.
        """
        super().validate(export)
        if "schedule" not in export.options:
            raise TypeError("it says no schedule; mark it as @job(every=…), (cron=…) or (at=…)")
        try:
            inspect.signature(export.target).bind()
        except TypeError as error:
            raise TypeError(f"it is called without arguments, and {error}") from None
        if inspect.isgeneratorfunction(export.target) or inspect.isasyncgenfunction(export.target):
            raise TypeError("it is a generator, which calling does not run")
        _check_cron(export.options["schedule"].cron)


def _check_cron(cron: str | None) -> None:
    """Have the scheduler read it, where there is one: what it cannot keep is refused now."""
    # Whoever runs jobs has imported it (`epochal.jobs`); a kind needs no library.
    scheduler = sys.modules.get("apscheduler.triggers.cron")
    if cron is None or scheduler is None:
        return
    try:
        scheduler.CronTrigger.from_crontab(cron)
    except ValueError as error:
        raise ValueError(f"cron {cron!r}: {error}") from None


def _read_time(at: datetime | str | None) -> datetime:
    if isinstance(at, datetime):
        return at
    try:
        return datetime.fromisoformat(str(at))
    except ValueError:
        raise ValueError(f"{at!r} is no time; expected one such as 2027-01-01T06:30:00") from None


job: Final = Job("job", "a function that runs by a schedule")
