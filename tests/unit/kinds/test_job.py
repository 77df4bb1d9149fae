"""What a job's marker understands."""

import pytest

from epochal.kinds import job
from epochal.kinds.job import read_cron, read_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("10m", 600.0), ("6 h", 21600.0), ("1.5d", 129600.0), (2, 2.0)],
)
def test_durations(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 weeks", "-5s", "0s", True, 0, float("inf"), None, "99999999d", 1e-9]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        read_duration(text)


@pytest.mark.parametrize(
    ("cron", "weekdays"),
    [
        ("0 6 * * *", "*"),
        ("0 6 * * 0", "sun"),
        ("0 6 * * 7", "sun"),
        ("0 6 * * 1-5", "mon,tue,wed,thu,fri"),
        ("0 6 * * fri-mon", "sun,mon,fri,sat"),
        ("0 6 * * */2", "sun,tue,thu,sat"),
        ("0 6 * * MON,wed", "mon,wed"),
    ],
)
def test_weekdays_are_cron_s(cron, weekdays):
    assert read_cron(cron).split()[4] == weekdays


@pytest.mark.parametrize("cron", ["", "* * * *", "* * * * 8", "* * * * someday", "* * * * */0"])
def test_what_is_no_cron_expression_is_refused(cron):
    with pytest.raises(ValueError, match=r"no cron expression|no weekday"):
        read_cron(cron)


@pytest.mark.parametrize("options", [{}, {"every": "5s", "cron": "* * * * *"}, {"evry": "5s"}])
def test_a_job_takes_exactly_one_schedule(options):
    with pytest.raises(TypeError, match="every"):
        job(**options)


def test_a_time_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected one such as"):
        job(at="soon")
