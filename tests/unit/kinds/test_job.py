"""The options of a job's marker."""

import pytest

from epochal.kinds import job
from epochal.kinds.job import Schedule, read_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("10m", 600.0), ("6 h", 21600.0), ("1.5d", 129600.0), (2, 2.0)],
)
def test_durations(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 weeks", "-5s", "0s", True, 0, float("inf"), None, "99999999d", 1e-9]
)
def test_an_invalid_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        read_duration(text)


@pytest.mark.parametrize("options", [{}, {"every": "5s", "cron": "* * * * *"}, {"evry": "5s"}])
def test_a_job_takes_exactly_one_schedule(options):
    with pytest.raises(TypeError, match="every"):
        job(**options)


def test_an_invalid_time_is_refused():
    with pytest.raises(ValueError, match="expected one such as"):
        job(at="soon")


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_a_time_at_the_end_of_the_calendar_is_refused(at):
    with pytest.raises(ValueError, match="expected a year from 1970 to 8999"):
        job(at=at)


def test_different_schedules_have_different_texts():
    assert str(Schedule(every_s=1_000_001.0)) == "every 1000001 s"
    assert str(Schedule(every_s=0.02)) == "every 0.02 s"
    assert str(Schedule(every_s=86400.0 * 30)) == "every 2592000 s"
