"""What the kind accepts, the scheduler keeps, and understands as the same minutes."""

from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from epochal.kinds.cron import _FIELDS, read_cron


@st.composite
def part(draw, field):
    low, high = field.first, field.last
    begin, end = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
    span = draw(st.sampled_from(["*", f"{begin}", f"{begin}-{end}"]))
    step = draw(st.sampled_from(["", f"/{draw(st.integers(1, high))}"]))
    return span + step


def field_text(field):
    return st.lists(part(field), min_size=1, max_size=2).map(",".join)


@given(st.tuples(*(field_text(field) for field in _FIELDS)).map(" ".join))
def test_the_scheduler_understands_what_is_accepted(cron):
    try:
        read = read_cron(cron)
    except ValueError:
        return
    assert read_cron(read) == read
    trigger = CronTrigger.from_crontab(read, UTC)
    found = trigger.get_next_fire_time(None, datetime(2026, 1, 1, tzinfo=UTC))
    assert found is not None
    values = (found.minute, found.hour, found.day, found.month, found.isoweekday() % 7)
    for field, text, value in zip(_FIELDS, cron.split(), values, strict=True):
        numbers = field.read(text)
        assert value in numbers or (field.is_round and value == 0 and 7 in numbers)
