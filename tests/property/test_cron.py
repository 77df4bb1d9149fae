"""The library `cronsim` accepts each expression that the kind accepts, with the same meaning."""

from datetime import UTC, datetime, timedelta

from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from epochal.kinds.cron import _FIELDS, read_cron

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def part(draw, field):
    low, high = field.first, field.last
    begin, end = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    span = draw(st.sampled_from(["*", f"{begin}", f"{begin}-{end}"]))
    step = draw(st.sampled_from(["", f"/{draw(st.integers(1, high))}"]))
    return span + step


def field_text(field):
    return st.lists(part(field), min_size=1, max_size=2).map(",".join)


def first_tick(cron):
    """The first tick of 2026 or later, by Vixie cron's rule, day by day."""
    minutes, hours, days, months, weekdays = (
        field.read(text) for field, text in zip(_FIELDS, cron.split(), strict=True)
    )
    weekdays = {day % 7 for day in weekdays}
    _, _, day_text, _, weekday_text = cron.split()
    is_both = day_text.startswith("*") or weekday_text.startswith("*")
    day = BEGIN
    while True:
        matches = (day.day in days, day.isoweekday() % 7 in weekdays)
        if day.month in months and (all(matches) if is_both else any(matches)):
            return day.replace(hour=min(hours), minute=min(minutes))
        day += timedelta(days=1)


@given(st.tuples(*(field_text(field) for field in _FIELDS)).map(" ".join))
def test_cronsim_understands_every_accepted_expression(cron):
    try:
        read = read_cron(cron)
    except ValueError:
        return
    assert read_cron(read) == read
    assert next(CronSim(read, BEGIN - timedelta(seconds=1))) == first_tick(cron)
