"""Cron expressions over clock changes, in every zone, against plain arithmetic with dates.

A quick look at three years by default; `make test-long` looks at ten, and compares with two other
libraries on the days on which no clock changes.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from tests.sizes import IS_LONG, sized

from epochal.jobs.triggers import CronTrigger

YEARS = sized((2024, 2026), (2020, 2030))
DAY_S = 86400.0

FIXED = {
    # expression: which days, the times on each
    "0 0 * * *": (lambda day: True, [(0, 0)]),
    "30 0 * * *": (lambda day: True, [(0, 30)]),
    "0 0 * * sun": (lambda day: day.isoweekday() == 7, [(0, 0)]),
    "0 0 * * mon": (lambda day: day.isoweekday() == 1, [(0, 0)]),
    "0 0 1 * *": (lambda day: day.day == 1, [(0, 0)]),
    "15,45 0,1,2,23 * * *": (
        lambda day: True,
        [(hour, minute) for hour in (0, 1, 2, 23) for minute in (15, 45)],
    ),
    "5,20,35 2-3 * * *": (
        lambda day: True,
        [(hour, minute) for hour in (2, 3) for minute in (5, 20, 35)],
    ),
}


def changes(zone, begin, end):
    """The instants at which a zone's clock changes, to the second."""
    found = []
    for early, late in pairwise(range(int(begin), int(end), int(DAY_S))):
        if offset(zone, early) != offset(zone, late):
            while late - early > 1:
                middle = (early + late) // 2
                same = offset(zone, early) == offset(zone, middle)
                early, late = (middle, late) if same else (early, middle)
            found.append(late)
    return tuple(found)


def offset(zone, at):
    return datetime.fromtimestamp(at, zone).utcoffset()


@cache
def zones():
    """One zone for each history of changes in those years."""
    begin, end = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in YEARS)
    found = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        at = changes(zone, begin, end)
        history = (offset(zone, begin), *((when, offset(zone, when)) for when in at))
        found.setdefault(history, (name, at))
    return list(found.values())


def by_arithmetic(zone, expression, begin, end):
    """Every instant at which a fixed time of a matching day comes, from the dates alone."""
    matches, times = FIXED[expression]
    day, wanted = datetime.fromtimestamp(begin, zone).date() - timedelta(days=2), set()
    while day <= datetime.fromtimestamp(end, zone).date() + timedelta(days=2):
        if matches(day):
            for hour, minute in times:
                # The first pass of a repeated hour; in a gap, by the offset before it.
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                wanted.add(local.timestamp())
        day += timedelta(days=1)
    return sorted(at for at in wanted if begin < at <= end)


def by_trigger(expression, begin, end):
    trigger, at, found = CronTrigger(expression), begin, []
    while (at := trigger.after(at, at)) <= end:
        found.append(at)
    return found


def windows(at, expression):
    if not IS_LONG or len(FIXED[expression][1]) > 1:
        return [(when - 1.6 * DAY_S, when + 1.6 * DAY_S) for when in at]
    return [tuple(datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in YEARS)]


@pytest.mark.timeout(3600 if IS_LONG else 120)
@pytest.mark.parametrize("expression", FIXED)
def test_each_matching_time_of_each_day_comes_once_in_every_zone(monkeypatch, expression):
    if not available_timezones():
        pytest.skip("this system has no tz database")
    for name, at in zones()[:: sized(1, 4, 1)]:
        zone = ZoneInfo(name)
        monkeypatch.setattr("epochal.jobs.triggers.LOCAL", zone)
        for begin, end in windows(at, expression):
            wanted = by_arithmetic(zone, expression, begin, end)
            assert by_trigger(expression, begin, end) == wanted, (name, begin)
            trigger = CronTrigger(expression)
            for begun in (when + 60 * minutes for when in at for minutes in (-1, 0, 10, 40, 70)):
                if begin < begun < end - 1.2 * DAY_S and wanted and wanted[-1] > begun:
                    following = next(tick for tick in wanted if tick > begun)
                    assert trigger.first(begun) == following, (name, begun)


@pytest.mark.timeout(3600 if IS_LONG else 120)
@pytest.mark.parametrize(
    ("expression", "minutes", "hours"),
    [
        ("0 * * * *", {0}, set(range(24))),
        ("*/20 * * * *", {0, 20, 40}, set(range(24))),
        ("10 */2 * * *", {10}, set(range(0, 24, 2))),
    ],
)
def test_what_comes_every_so_many_hours_comes_in_both_passes(
    monkeypatch, expression, minutes, hours
):
    for name, at in zones()[:: sized(4, 4, 1)]:
        zone = ZoneInfo(name)
        monkeypatch.setattr("epochal.jobs.triggers.LOCAL", zone)
        for when in at:
            begin, end = when - 0.3 * DAY_S, when + 0.3 * DAY_S
            shown = {
                tick: datetime.fromtimestamp(tick, zone)
                for tick in range(int(begin // 60) * 60, int(end) + 60, 60)
            }
            wanted = [
                float(tick)
                for tick, local in shown.items()
                if begin < tick <= end and local.minute in minutes and local.hour in hours
            ]
            assert by_trigger(expression, begin, end) == wanted, (name, when)


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        # Zones that went over the date line: they left out a day, or had one twice.
        ("Pacific/Apia", date(2011, 12, 27), date(2012, 1, 3)),
        ("Pacific/Kwajalein", date(1993, 8, 19), date(1993, 8, 25)),
        ("America/Sao_Paulo", date(2018, 11, 1), date(2018, 11, 8)),
    ],
)
def test_a_zone_that_leaves_out_a_day_leaves_out_no_run(monkeypatch, name, begin, end):
    zone = ZoneInfo(name)
    monkeypatch.setattr("epochal.jobs.triggers.LOCAL", zone)
    first, last = (datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp() for d in (begin, end))
    for expression in FIXED:
        assert by_trigger(expression, first, last) == by_arithmetic(zone, expression, first, last)


@pytest.mark.skipif(not IS_LONG, reason="make test-long")
@pytest.mark.parametrize(
    "expression", [*FIXED, "*/20 * * * *", "10 4 1-7 * *", "0 6 * 2,9 tue-thu"]
)
def test_two_other_libraries_agree_where_no_clock_changes(monkeypatch, expression):
    cronsim = pytest.importorskip("cronsim")
    apscheduler = pytest.importorskip("apscheduler.triggers.cron")
    for name, at in zones()[::5]:
        zone = ZoneInfo(name)
        monkeypatch.setattr("epochal.jobs.triggers.LOCAL", zone)
        begin = datetime(2024, 1, 1, tzinfo=zone)
        near = sorted(at)
        theirs = apscheduler.CronTrigger.from_crontab(expression, zone)
        trigger, tick = CronTrigger(expression), begin.timestamp()
        others = cronsim.CronSim(expression, begin)
        for _ in range(400):
            tick = trigger.after(tick, tick)
            other = next(others).timestamp()
            while other < tick and any(abs(other - when) < 2 * DAY_S for when in near):
                other = next(others).timestamp()
            if any(abs(tick - when) < 2 * DAY_S for when in near):
                others = cronsim.CronSim(expression, datetime.fromtimestamp(tick, zone))
                continue
            assert tick == other, (name, tick)
            noon_before = datetime.fromtimestamp(tick - 1, zone)
            assert theirs.get_next_fire_time(None, noon_before).timestamp() == tick, (name, tick)
