"""The ticks of schedules: arithmetic, and a calendar."""

import os
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal.jobs.triggers import (
    CronTrigger,
    DateTrigger,
    IntervalTrigger,
    LocalZone,
    trigger_of,
)
from epochal.kinds.cron import read_cron
from epochal.kinds.job import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
DAY_S = 86400.0


@pytest.fixture
def berlin(monkeypatch):
    """Local time is Berlin's."""
    monkeypatch.setattr("epochal.jobs.triggers.LOCAL", BERLIN)


def at(*when):
    return datetime(*when, tzinfo=BERLIN).timestamp()


def ticks(trigger, begin, number):
    texts = []
    for _ in range(number):
        begin = trigger.after(begin, begin)
        texts.append(f"{datetime.fromtimestamp(begin, BERLIN):%d %H:%M %Z}")
    return texts


@given(
    every=st.floats(0.001, 1e7),
    tick=st.floats(1e9, 2e9),
    away=st.floats(0, 1e8),
)
def test_intervals_are_arithmetic(every, tick, away):
    trigger, now = IntervalTrigger(every), tick + away
    following, latest = trigger.after(tick, now), trigger.latest(tick, now)
    slack = 1e-5 * every + 1e-5
    assert now < following <= now + every + slack
    assert now - every - slack <= latest <= now + slack
    assert abs(tick + trigger.passed(tick, now) * every - latest) <= slack
    assert trigger.after(tick, tick - away) == tick + every
    assert trigger.passed(tick, tick - 1.0) == 0


def test_a_restored_interval_is_near_and_in_phase():
    trigger = IntervalTrigger(10.0)
    assert trigger.restored(107.0, 100.0) == 107.0
    assert trigger.restored(50.0, 100.0) == 50.0
    assert 100.0 < trigger.restored(1_000_007.0, 100.0) < 120.0
    assert trigger.restored(1_000_007.0, 100.0) % 10 == 7.0
    assert trigger.rewound(107.0, 40.0, 60.0) == 47.0


def test_autumn_has_fixed_hours_once_and_every_hour_twice(berlin):
    eve = at(2026, 10, 24, 12)
    fixed = ["25 02:30 CEST", "26 02:30 CET"]
    assert ticks(CronTrigger("30 2 * * *"), eve, 2) == fixed
    half_hours = ["25 02:00 CEST", *fixed[:1], "26 02:00 CET"]
    assert ticks(CronTrigger("0,30 2 * * *"), eve, 3) == half_hours
    assert ticks(CronTrigger("0 * * * *"), at(2026, 10, 25, 0, 30), 4) == [
        "25 01:00 CEST",
        "25 02:00 CEST",
        "25 02:00 CET",
        "25 03:00 CET",
    ]


def test_autumn_repeats_no_fixed_hour_for_a_process_that_starts_in_its_second_pass(berlin):
    second_pass = at(2026, 10, 25, 1) + 2 * 3600 + 300.0  # 02:05 CET
    assert ticks(CronTrigger("30 2 * * *"), second_pass, 1) == ["26 02:30 CET"]
    assert ticks(CronTrigger("*/30 * * * *"), second_pass, 2) == ["25 02:30 CET", "25 03:00 CET"]


def test_spring_leaves_out_no_day(berlin):
    begin = at(2026, 3, 28, 12)
    assert ticks(CronTrigger("30 2 * * *"), begin, 2) == ["29 03:30 CEST", "30 02:30 CEST"]


def test_spring_has_every_hour_that_there_is(berlin):
    begin = at(2026, 3, 29, 0, 30)
    hours = ["29 01:00 CET", "29 03:00 CEST", "29 04:00 CEST"]
    assert ticks(CronTrigger("0 * * * *"), begin, 3) == hours
    assert ticks(CronTrigger("0 0-23 * * *"), begin, 3) == hours


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        # Both are restricted: either matches. June 2026 begins on a Monday.
        ("0 6 13 * fri", ["05", "12", "13", "19", "26"]),
        ("0 6 1-3 * wed", ["01", "02", "03", "10", "17"]),
        # One is not, or begins with a star: both match.
        ("0 6 13 * *", ["13"]),
        ("0 6 * * fri", ["05", "12", "19", "26"]),
        ("0 6 */10 * mon", ["01"]),
        ("0 6 1-7 * */2", ["02", "04", "06", "07"]),
        ("0 6 1-7 * */2,mon", ["01", "02", "04", "06", "07"]),
        # Restricted to all of them is restricted.
        ("0 6 28 * 0-6", ["01", "02", "03"]),
    ],
)
def test_a_day_and_a_weekday_match_as_in_vixie_cron(berlin, cron, days):
    trigger, tick, june = CronTrigger(read_cron(cron)), at(2026, 5, 31, 12), []
    for _ in days:
        tick = trigger.after(tick, tick)
        june.append(f"{datetime.fromtimestamp(tick, BERLIN):%d}")
    assert june == days


@pytest.mark.parametrize(
    ("cron", "latest"),
    [
        ("* * * * *", (2026, 6, 15, 12, 0)),
        ("0 * * * *", (2026, 6, 15, 12, 0)),
        ("* 3 * * *", (2026, 6, 15, 3, 59)),
        ("0 6 * * mon", (2026, 6, 15, 6, 0)),
        ("0 6 1 1 *", (2026, 1, 1, 6, 0)),
        ("0 0 29 2 *", (2024, 2, 29, 0, 0)),
    ],
)
def test_the_latest_tick_of_the_calendar_is_searched_from_now_backwards(berlin, cron, latest):
    trigger, now = CronTrigger(cron), at(2026, 6, 15, 12, 0, 30)
    assert trigger.latest(at(2010, 1, 1), now) == at(*latest)
    assert trigger.latest(now + 5.0, now) == now + 5.0
    assert trigger.passed(at(2010, 1, 1), now) <= 100


def test_cron_counts_passed_ticks(berlin):
    trigger = CronTrigger("0 6 * * *")
    tick = at(2026, 6, 1, 6)
    assert trigger.passed(tick, tick) == 0
    assert trigger.passed(tick, tick + 3 * DAY_S) == 3
    assert trigger.after(tick, tick) == tick + DAY_S


def test_cron_follows_a_clock_that_was_set_back(berlin):
    now = at(2026, 6, 1, 6)
    fixed, hourly = CronTrigger("0 6 * * *"), CronTrigger("0 * * * *")
    assert fixed.rewound(now + DAY_S, now - 60.0, 90.0) == now + DAY_S
    assert fixed.rewound(now + DAY_S, now - 5 * 3600.0, 5 * 3600.0) == now
    assert hourly.rewound(now + 3600.0, now - 60.0, 90.0) == now
    assert fixed.restored(now + DAY_S, now - 60.0) == now


def test_an_expression_that_cronsim_refuses_cannot_be_scheduled():
    with pytest.raises(ValueError, match=r"'0 6 99 .* cannot be scheduled: Bad day"):
        CronTrigger("0 6 99 * *")


@pytest.fixture
def system_in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system's zone cannot be changed")
@pytest.mark.skipif("TZ" in os.environ, reason="the fixture would not restore it")
def test_the_local_zone_is_the_systems(system_in_berlin):
    zone = LocalZone()
    for when in (
        at(2026, 1, 1),
        at(2026, 7, 1),
        *(at(2026, 3, 29, 1, 30) + half * 1800 for half in range(4)),
        *(at(2026, 10, 25, 1, 30) + half * 1800 for half in range(6)),
    ):
        here, there = datetime.fromtimestamp(when, zone), datetime.fromtimestamp(when, BERLIN)
        assert (here.replace(tzinfo=None), here.fold) == (there.replace(tzinfo=None), there.fold)
        assert (here.utcoffset(), here.tzname()) == (there.utcoffset(), there.tzname())
        assert here.timestamp() == when
    gap = datetime(2026, 3, 29, 2, 30)
    assert gap.replace(tzinfo=zone).timestamp() == gap.replace(tzinfo=BERLIN).timestamp()


def test_a_one_shot_has_one_tick():
    when = datetime(2027, 1, 1, tzinfo=UTC)
    trigger = trigger_of(Schedule(at=when))
    assert isinstance(trigger, DateTrigger)
    first = trigger.first(0.0)
    assert first == when.timestamp()
    assert trigger.after(first, 0.0) is None
    later = (when + timedelta(days=9)).timestamp()
    assert (trigger.passed(first, later), trigger.latest(first, later)) == (0, first)
    assert trigger.restored(first, later) == trigger.rewound(first, later, 5.0) == first


def test_an_empty_schedule_has_no_trigger():
    with pytest.raises(ValueError, match="says no time"):
        trigger_of(Schedule())
