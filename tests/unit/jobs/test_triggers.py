"""The ticks of schedules: arithmetic, and a calendar."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal.jobs.triggers import Cron, Every, Once, grid_of
from epochal.kinds.job import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
DAY_S = 86400.0


@pytest.fixture
def berlin(monkeypatch):
    """Has this place's clocks be Berlin's."""
    monkeypatch.setattr("apscheduler.triggers.cron.get_localzone", lambda: BERLIN)


def at(*when):
    return datetime(*when, tzinfo=BERLIN).timestamp()


def ticks(grid, begin, number):
    found = []
    for _ in range(number):
        begin = grid.after(begin, begin)
        found.append(f"{datetime.fromtimestamp(begin, BERLIN):%d %H:%M %Z}")
    return found


@given(
    every=st.floats(0.001, 1e7),
    tick=st.floats(1e9, 2e9),
    away=st.floats(0, 1e8),
)
def test_intervals_are_arithmetic(every, tick, away):
    grid, now = Every(every), tick + away
    following, latest = grid.after(tick, now), grid.latest(tick, now)
    slack = 1e-5 * every + 1e-5
    assert now < following <= now + every + slack
    assert now - every - slack <= latest <= now + slack
    assert abs(tick + grid.passed(tick, now) * every - latest) <= slack
    assert grid.after(tick, tick - away) == tick + every
    assert grid.passed(tick, tick - 1.0) == 0


def test_a_kept_interval_is_near_and_in_phase():
    grid = Every(10.0)
    assert grid.restored(107.0, 100.0) == 107.0
    assert grid.restored(50.0, 100.0) == 50.0
    assert 100.0 < grid.restored(1_000_007.0, 100.0) < 120.0
    assert grid.restored(1_000_007.0, 100.0) % 10 == 7.0
    assert grid.rewound(107.0, 40.0, 60.0) == 47.0


def test_autumn_has_fixed_hours_once_and_every_hour_twice(berlin):
    eve = at(2026, 10, 24, 12)
    fixed = ["25 02:30 CEST", "26 02:30 CET"]
    assert ticks(Cron("30 2 * * *"), eve, 2) == fixed
    assert ticks(Cron("0,30 2 * * *"), eve, 3) == ["25 02:00 CEST", *fixed[:1], "26 02:00 CET"]
    assert ticks(Cron("0 * * * *"), at(2026, 10, 25, 0, 30), 4) == [
        "25 01:00 CEST",
        "25 02:00 CEST",
        "25 02:00 CET",
        "25 03:00 CET",
    ]


def test_spring_leaves_out_no_day(berlin):
    assert ticks(Cron("30 2 * * *"), at(2026, 3, 28, 12), 2) == ["29 03:30 CEST", "30 02:30 CEST"]


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
def test_the_latest_of_the_calendar_is_found_from_now_backwards(berlin, cron, latest):
    grid, now = Cron(cron), at(2026, 6, 15, 12, 0, 30)
    assert grid.latest(at(2010, 1, 1), now) == at(*latest)
    assert grid.latest(now + 5.0, now) == now + 5.0
    assert grid.passed(at(2010, 1, 1), now) <= 100


def test_cron_counts_what_has_passed(berlin):
    grid = Cron("0 6 * * *")
    tick = at(2026, 6, 1, 6)
    assert grid.passed(tick, tick) == 0
    assert grid.passed(tick, tick + 3 * DAY_S) == 3
    assert grid.after(tick, tick) == tick + DAY_S


def test_cron_follows_a_clock_that_was_set_back(berlin):
    now = at(2026, 6, 1, 6)
    fixed, hourly = Cron("0 6 * * *"), Cron("0 * * * *")
    assert fixed.rewound(now + DAY_S, now - 60.0, 90.0) == now + DAY_S
    assert fixed.rewound(now + DAY_S, now - 5 * 3600.0, 5 * 3600.0) == now
    assert hourly.rewound(now + 3600.0, now - 60.0, 90.0) == now
    assert fixed.restored(now + DAY_S, now - 60.0) == now


def test_a_one_shot_has_one():
    when = datetime(2027, 1, 1, tzinfo=UTC)
    grid = grid_of(Schedule(at=when))
    assert isinstance(grid, Once)
    first = grid.first(0.0)
    assert first == when.timestamp()
    assert grid.after(first, 0.0) is None
    later = (when + timedelta(days=9)).timestamp()
    assert (grid.passed(first, later), grid.latest(first, later)) == (0, first)
    assert grid.restored(first, later) == grid.rewound(first, later, 5.0) == first


def test_a_schedule_that_says_nothing_is_none():
    with pytest.raises(ValueError, match="says no time"):
        grid_of(Schedule())
