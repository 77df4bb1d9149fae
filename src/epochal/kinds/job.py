"""Jobs: functions that run by a schedule, in the background.

::

    @job(every="5s")                       # "250ms", "5s", "10m", "6h", "1d", or seconds
    def sweep() -> None: ...

    @job(cron="30 6 * * mon-fri")          # minute hour day month weekday, in local time
    def report() -> None: ...

    @job(at="2027-01-01T00:00:00")         # once
    async def celebrate() -> None: ...

A cron expression that restricts both the day and the weekday runs on either (`0 6 13 * fri`: on
each 13th and on each Friday), as Vixie cron does. An expression with fixed hours runs once at each,
also on the day that has one of them twice, when clocks are set back; one that runs every hour, or
every so many hours, runs in both.

`epochal.jobs.Jobs` runs them. A tick reads the epoch once, as it begins: a tick that runs while its
plugin is reloaded ends on the old code, which is shut down after it; the next tick runs the new
code. A schedule belongs to the job's name, not to its code: a reload that leaves the schedule as it
is does not touch it, so no tick is lost or doubled. A changed schedule starts anew.

Schedules are checked here, without any library, so that a schedule that is accepted in one process
can run in every other.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Kind
from epochal.kinds.cron import read_cron
from epochal.kinds.toolkit.call_checks import is_generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epochal.kinds.marker_types import JobMarker

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 36_525 * 86400.0
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_YEARS: Final = range(1970, 9000)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job runs; one of the three is set.

    Attributes:
        every_s: seconds from tick to tick.
        cron: five fields, as `read_cron` returns them.
        at: the time of the single tick.
    """

    every_s: float | None = None
    cron: str | None = None
    at: datetime | None = None

    def __str__(self) -> str:
        if self.every_s is not None:
            # With all digits: the job's position is stored under this text.
            return f"every {self.every_s:.15g} s"
        return f"cron {self.cron}" if self.cron is not None else f"at {self.at}"


def read_duration(text: float | str) -> float:
    """Return the seconds of `"5s"`, `"250ms"`, `"10m"`, `"6h"`, `"1d"`, or a number of seconds.

    Raises:
        ValueError: it is none of these, or not between a millisecond and a century.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        seconds = float(text)
    elif isinstance(text, str) and (match := _DURATION.fullmatch(text.strip())):
        seconds = float(match[1]) * _UNITS[match[2]]
    else:
        raise ValueError(f"{text!r} is not a duration; expected '250ms', '5s', '10m', '6h' or '1d'")
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ValueError(
            f"{text!r} is not a duration between two ticks; expected a millisecond to a century"
        )
    return seconds


class JobKind(Kind[Callable[[], Any]]):
    """The kind of jobs; its one instance is `epochal.kinds.job`."""

    __slots__ = ()

    is_local = True  # It would tick in every process.

    if TYPE_CHECKING:
        __call__: JobMarker  # type: ignore[assignment]  # overloads

    def options(
        self,
        *,
        every: float | str | None = None,
        cron: str | None = None,
        at: datetime | str | None = None,
        **unknown: Any,
    ) -> Mapping[str, Any]:
        """Check the marker's options: exactly one of three.

        Args:
            every: seconds from tick to tick, or a text such as `"5s"`.
            cron: five fields: minute hour day month weekday.
            at: the time of the single tick; local time if it has no zone.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option, or there is not exactly one.
            ValueError: the schedule is not valid.
        """
        if unknown:
            raise TypeError(
                f"job does not know the options {sorted(unknown)}; "
                "it takes every, cron or at, and name"
            )
        if sum(given is not None for given in (every, cron, at)) != 1:
            raise TypeError("a job takes exactly one of every=, cron= and at=")
        if every is not None:
            return {"schedule": Schedule(every_s=read_duration(every))}
        if cron is not None:
            return {"schedule": Schedule(cron=read_cron(cron))}
        return {"schedule": Schedule(at=_read_time(at))}

    def validate(self, export: Export) -> None:
        """Require a function that is called without arguments, and a schedule.

        Raises:
            TypeError: the export is no such function, or has no schedule.
        """
        super().validate(export)
        if "schedule" not in export.options:
            raise TypeError("it has no schedule; mark it as @job(every=…), (cron=…) or (at=…)")
        try:
            inspect.signature(export.target).bind()
        except TypeError as error:
            raise TypeError(f"it is called without arguments, but {error}") from None
        if is_generator(export.target):
            raise TypeError("it is a generator: calling it runs none of its code")


def _read_time(at: datetime | str | None) -> datetime:
    try:
        time = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    except ValueError:
        raise ValueError(
            f"{at!r} is not a time; expected one such as 2027-01-01T06:30:00"
        ) from None
    if time.year not in _YEARS:  # near the first and last year, a zone leads out of the calendar
        raise ValueError(
            f"{at!r} is not a time for a job; expected a year from {_YEARS[0]} to {_YEARS[-1]}"
        )
    return time


job: Final = JobKind("job", "a function that runs by a schedule")
