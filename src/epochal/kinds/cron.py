"""Cron expressions: five fields, checked without the library that schedules them.

A plugin may be loaded where no scheduler is installed, and a schedule that is accepted there must
be schedulable everywhere. So this module alone decides which expressions are valid: numbers, names
of months and weekdays, ranges, steps and lists. cronsim takes all of these, and more
(`tests/property/test_cron.py` compares the two).

The meaning is Vixie cron's. A day of the month and a day of the week that are both restricted match
if *either* does; a field that begins with `*` is not restricted, and then both must match. Weekdays
0 and 7 are Sunday. An expression that no day fulfils (30 February) is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NUMBER: Final = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields.

    Attributes:
        name: for errors.
        first: the least number.
        last: the greatest number.
        names: of the numbers from `first` on; empty for no names.
        is_round: whether a range may wrap around, as fri-mon does.
    """

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()
    is_round: bool = False

    def read(self, text: str) -> set[int]:
        """The numbers that the field's text stands for."""
        return {number for part in text.split(",") for number in self._part(part)}

    def _part(self, part: str) -> range:
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = self.first, self.last - self.is_round  # 7 is 0 once more
        else:
            begin = self._number(first, part)
            to_the_end = self.last - self.is_round
            end = self._number(last, part) if dash else (to_the_end if slash else begin)
        if end < begin and self.is_round:
            end += len(self.names)
        if end < begin:
            raise self._wrong(part)
        return range(begin, end + 1, self._step(step, end - begin, part) if slash else 1)

    def _number(self, text: str, part: str) -> int:
        if text in self.names:
            return self.first + self.names.index(text)
        if not _NUMBER.fullmatch(text) or not self.first <= int(text) <= self.last:
            raise self._wrong(part)
        return int(text)

    def _step(self, text: str, span: int, part: str) -> int:
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= span:
            raise self._wrong(part)
        return int(text)

    def _wrong(self, part: str) -> ValueError:
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return ValueError(
            f"{part!r} is no {self.name}; expected *, {self.first} to {self.last}{names}, "
            f"a range ({self.first}-{self.last}), a step within it (*/2), or a list of these"
        )


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _DAYS, is_round=True),
)


def read_cron(text: str) -> str:
    """Check and normalize a cron expression.

    Returns:
        The expression in lower case, with months as numbers and weekdays as names.

    Raises:
        ValueError: it is invalid (the message names the field and what was expected), or there is
            no such day.
    """
    written = text.lower().split() if isinstance(text, str) else []
    if len(written) != len(_FIELDS):
        expected = " ".join(field.name for field in _FIELDS)
        raise ValueError(f"{text!r} is no cron expression; expected five fields: {expected}")
    try:
        _, _, days, months, weekdays = (
            field.read(part) for field, part in zip(_FIELDS, written, strict=True)
        )
    except ValueError as error:
        raise ValueError(f"{text!r} is no cron expression: {error}") from None
    is_either = not written[2].startswith("*") and not written[4].startswith("*")
    if not is_either and not any(day <= _LONGEST[m - 1] for day in days for m in months):
        raise ValueError(f"{text!r} never comes: there is no such day in any of its months")
    if any(name in written[3] for name in _MONTHS):
        written[3] = ",".join(str(month) for month in sorted(months))
    if written[2].startswith("*"):
        written[4] = _weekday_names(weekdays, every="*")
    elif is_either:
        written[4] = _weekday_names(weekdays)
    else:  # the weekday's star stays: it means that the day must match too
        written[4] = ",".join(
            part if part.startswith("*") else _weekday_names(_FIELDS[4].read(part))
            for part in written[4].split(",")
        )
    return " ".join(written)


def _weekday_names(numbers: set[int], *, every: str = "") -> str:
    """The names of the weekdays; `every`, if that is given, for all seven."""
    days = sorted({day % len(_DAYS) for day in numbers})
    return every if every and len(days) == len(_DAYS) else ",".join(_DAYS[day] for day in days)


def is_at_fixed_hours(cron: str) -> bool:
    """Whether an expression from `read_cron` has fixed hours, not every hour or every so many."""
    hours = cron.split()[1]
    return "*" not in hours and len(_FIELDS[1].read(hours)) <= _FIELDS[1].last
