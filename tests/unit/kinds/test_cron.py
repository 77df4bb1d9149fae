"""Cron expressions: an accepted one can be scheduled, and means what it means in cron."""

import pytest

from epochal.kinds.cron import is_at_fixed_hours, read_cron


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
        ("0 6 * * 0-7", "*"),
        ("0 6 * * 1-7", "*"),
        ("0 6 * * sun-7", "*"),
        ("0 6 * * 5-7", "sun,fri,sat"),
        ("0 6 * * 6-1", "sun,mon,sat"),
        # Beside a restricted day, a star and all seven days are not the same: see `read_cron`.
        ("0 6 13 * *", "*"),
        ("0 6 13 * */2", "*/2"),
        ("0 6 13 * */2,fri-mon", "*/2,sun,mon,fri,sat"),
        ("0 6 13 * 0-6", "sun,mon,tue,wed,thu,fri,sat"),
        ("0 6 */2 * 0-6", "*"),
    ],
)
def test_weekdays_are_numbered_as_in_cron(cron, weekdays):
    assert read_cron(cron).split()[4] == weekdays


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "expected five fields: minute hour day month weekday"),
        ("* * * *", "expected five fields"),
        (5, "expected five fields"),
        ("@daily", "expected five fields"),
        ("61 * * * *", "'61' is no minute; expected .*0 to 59"),
        ("* 24 * * *", "'24' is no hour; expected .*0 to 23"),
        ("* * 0 * *", "'0' is no day; expected .*1 to 31"),
        ("* * * 13 *", "'13' is no month; expected .*1 to 12 or jan to dec"),
        ("* * * foo *", "'foo' is no month"),
        ("* * * * 8", "'8' is no weekday; expected .*0 to 7 or sun to sat"),
        ("* * * * someday", "'someday' is no weekday"),
        ("* * * * */0", "'.*/0' is no weekday"),
        ("*/60 * * * *", "is no minute; .* a step within it"),
        ("5-3 * * * *", "'5-3' is no minute"),
        ("+5 * * * *", "is no minute"),
        ("1, * * * *", "'' is no minute"),
        ("* * last * *", "'last' is no day"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 feb,apr *", "never comes"),
    ],
)
def test_an_invalid_expression_is_refused_with_its_field(cron, message):
    with pytest.raises(ValueError, match=message):
        read_cron(cron)


def test_the_29th_of_february_is_a_day():
    assert read_cron("0 0 29 2 *") == "0 0 29 2 *"


def test_a_weekday_makes_up_for_a_day_that_never_comes():
    assert read_cron("0 0 30 2 mon") == "0 0 30 2 mon"
    with pytest.raises(ValueError, match="never comes"):
        read_cron("0 0 30 2 */2")


def test_months_have_names():
    assert read_cron("0 0 1 Jan-MAR,dec *") == "0 0 1 1,2,3,12 *"


@pytest.mark.parametrize(
    ("cron", "fixed"),
    [
        ("30 2 * * *", True),
        ("* 1-3 * * *", True),
        ("0 * * * *", False),
        ("0 */2 * * *", False),
        ("0 0-23 * * *", False),
    ],
)
def test_hours_are_fixed_if_they_are_listed(cron, fixed):
    assert is_at_fixed_hours(cron) is fixed
