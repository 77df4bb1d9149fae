"""Cron expressions: five fields, checked without the library that keeps them.

A plugin is linked where there may be no scheduler, and what is accepted then is kept for ever. So
what an expression may say is decided here and nowhere else, and it is less than schedulers take:
numbers, names of months and weekdays, ranges, steps and lists. All of it the scheduler takes too
(`tests/property/test_cron.py` compares the two).

Weekdays are cron's: 0 and 7 are Sunday. Schedulers disagree about these numbers, so what comes out
has names. An expression that no day fulfils (30 February) is refused.
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
    """What one of the five may say.

    Attributes:
        name: for people.
        first: the least number.
        last: the greatest.
        names: of the numbers from `first` on; empty where there are none.
        is_round: whether a range may go over the end, as fri-mon does.
    """

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()
    is_round: bool = False

    def read(self, text: str) -> set[int]:
        """The numbers that a field stands for."""
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
    """Check a cron expression.

    Returns:
        The same, in small letters, with months as numbers and weekdays as names.

    Raises:
        ValueError: it is none, or there is no such day; says which field, and what was expected.
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
    if not any(day <= _LONGEST[month - 1] for day in days for month in months):
        raise ValueError(f"{text!r} never comes: there is no such day in any of its months")
    if any(name in written[3] for name in _MONTHS):
        written[3] = ",".join(str(month) for month in sorted(months))
    if written[4] != "*":
        found = sorted({day % len(_DAYS) for day in weekdays})
        every_day = len(found) == len(_DAYS)
        written[4] = "*" if every_day else ",".join(_DAYS[day] for day in found)
    return " ".join(written)


def is_at_fixed_hours(cron: str) -> bool:
    """Whether an expression that `read_cron` gave says hours, and not any or every so many."""
    hours = cron.split()[1]
    return "*" not in hours and len(_FIELDS[1].read(hours)) <= _FIELDS[1].last
