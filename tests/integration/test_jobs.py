"""Jobs on the real clock: a tick ends on the code that it began with, the next runs the new.

The positions of jobs after every kind of incident are in `test_jobs_schedules.py`.
"""

import threading
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from time import monotonic

import pytest

from epochal import Runtime
from epochal.errors import ExportError, LinkError, UnknownExportError
from epochal.jobs import Circuit, Jobs, RetryPolicy

TICKS: SimpleQueue = SimpleQueue()
ENTERED = threading.Event()
GATE = threading.Event()
ERRORS: list = []
SEEN: ContextVar = ContextVar("seen", default=None)
QUICK = RetryPolicy(first_s=0.02, most_s=0.05, after=3, rest_s=0.1)


@pytest.fixture(autouse=True)
def _fresh():
    while not TICKS.empty():
        TICKS.get()
    ENTERED.clear()
    GATE.clear()
    ERRORS.clear()


def write(plugins, version="1.0", schedule='every="20ms"', body="pass", prefix=""):
    code = f"""
from epochal.kinds import job
from tests.integration.test_jobs import ENTERED, ERRORS, GATE, SEEN, TICKS

@job({schedule})
{prefix}def sweep():
    {body}
    TICKS.put("{version}")
"""
    return plugins.write("house", code, version=version)


def tick(timeout=10.0):
    return TICKS.get(timeout=timeout)


def the_job(jobs):
    (status,) = jobs.status()
    return status


def wait_for(condition, timeout=10.0):
    end = monotonic() + timeout
    while not condition():
        assert monotonic() < end, "that did not come"
        threading.Event().wait(0.005)


def test_jobs_run_by_their_schedule(rt, plugins):
    rt.load(write(plugins))
    with Jobs(rt) as jobs:
        assert [tick() for _ in range(3)] == ["1.0"] * 3
        wait_for(lambda: the_job(jobs).ticks >= 3)
        assert the_job(jobs).schedule == "every 0.02 s"


def test_jobs_follow_the_plugins_that_are_loaded_and_removed(rt, plugins):
    with Jobs(rt) as jobs:
        rt.load(write(plugins))
        tick()
        rt.remove("house")
        wait_for(lambda: jobs.status() == [])


def test_a_running_tick_ends_on_the_old_code_and_delays_the_drain(rt, plugins):
    rt.load(write(plugins, body="ENTERED.set(); GATE.wait(10)"))
    with Jobs(rt):
        assert ENTERED.wait(10)
        cut = rt.reload("house", write(plugins, "2.0"), drain_timeout=0.05)
        assert cut.published
        assert not cut.drained
        assert "job house.sweep" in str(cut.swaps[0].holders)
        GATE.set()
        assert tick() == "1.0"
        assert tick() == "2.0"


def test_a_context_variable_ends_with_the_tick_that_set_it(rt, plugins):
    body = "TICKS.put(SEEN.get()); SEEN.set(sweep)"
    rt.load(write(plugins, schedule='every="1h"', body=body))
    SEEN.set("the host's")
    with Jobs(rt, workers=1) as jobs:
        for _ in range(2):
            jobs.run_now("house.sweep")
            assert tick() == "the host's"
            assert tick() == "1.0"
        assert rt.reload("house", write(plugins, "2.0", schedule='every="1h"')).reclaimed


def test_any_awaitable_result_is_awaited(rt, plugins):
    body = """
    class Later:
        def __await__(self):
            TICKS.put("awaited")
            yield from ()
    return Later()"""
    rt.load(write(plugins, body=body))
    with Jobs(rt):
        assert tick() == "awaited"


def test_nothing_is_held_between_ticks(rt, plugins):
    rt.load(write(plugins, schedule='every="1h"'))
    with Jobs(rt) as jobs:
        jobs.run_now("house.sweep")
        tick()
        wait_for(lambda: the_job(jobs).ticks == 1)
        assert rt.reload("house", write(plugins, "2.0", schedule='every="1h"')).reclaimed


def test_a_changed_schedule_starts_anew(rt, plugins):
    rt.load(write(plugins, schedule='every="1h"'))
    with Jobs(rt) as jobs:
        rt.reload("house", write(plugins, "2.0", schedule='every="20ms"'))
        assert tick() == "2.0"
        assert the_job(jobs).schedule == "every 0.02 s"


def test_a_changed_schedule_overlaps_no_tick_and_keeps_the_counts(rt, plugins):
    rt.load(write(plugins, schedule='every="1h"', body="ENTERED.set(); GATE.wait(10)"))
    with Jobs(rt) as jobs:
        jobs.run_now("house.sweep")
        assert ENTERED.wait(10)
        rt.reload("house", write(plugins, "2.0", schedule='every="2h"'), drain_timeout=0.0)
        wait_for(lambda: the_job(jobs).schedule == "every 7200 s")
        jobs.run_now("house.sweep")
        wait_for(lambda: the_job(jobs).skipped == 1)
        assert TICKS.empty()
        GATE.set()
        assert tick() == "1.0"
        wait_for(lambda: the_job(jobs).ticks == 1)
        assert the_job(jobs).next_at > datetime.now(UTC) + timedelta(hours=1.5)


def test_ticks_never_overlap_and_skipped_ones_are_counted(rt, plugins):
    rt.load(write(plugins, body="ENTERED.set(); GATE.wait(10)"))
    with Jobs(rt) as jobs:
        assert ENTERED.wait(10)
        wait_for(lambda: the_job(jobs).skipped >= 2)
        assert TICKS.empty()
        GATE.set()


def test_async_jobs_are_awaited(rt, plugins):
    rt.load(write(plugins, prefix="async ", body="import asyncio; await asyncio.sleep(0)"))
    with Jobs(rt):
        assert tick() == "1.0"


def test_a_reload_closes_the_breaker(rt, plugins):
    rt.load(write(plugins, body="raise OSError('broken')"))
    with Jobs(rt, retry=RetryPolicy(first_s=0.01, after=2, rest_s=3600.0)) as jobs:
        wait_for(lambda: the_job(jobs).circuit is Circuit.OPEN)
        rt.reload("house", write(plugins, "2.0"))
        assert tick() == "2.0"


def test_a_failed_tick_releases_its_plugin(rt, plugins):
    rt.load(write(plugins, body="raise OSError('broken')"))
    with Jobs(rt, retry=RetryPolicy(first_s=3600.0, most_s=3600.0)) as jobs:
        wait_for(lambda: the_job(jobs).failures == 1)
        assert rt.reload("house", write(plugins, "2.0", schedule='every="1h"')).reclaimed


def test_a_one_shot_is_retried_until_it_succeeds(rt, plugins):
    at = (datetime.now(UTC) + timedelta(seconds=0.05)).isoformat()
    body = "ERRORS.append(1)\n    if len(ERRORS) < 3: raise OSError('not yet')"
    rt.load(write(plugins, schedule=f'at="{at}"', body=body))
    with Jobs(rt, retry=QUICK) as jobs:
        tick()
        wait_for(lambda: the_job(jobs).ticks == 1)
        assert the_job(jobs).next_at is None
    assert len(ERRORS) == 3


def test_positions_survive_a_restart(start, plugins, tmp_path):
    path = write(plugins, schedule='every="1h"')
    with start() as rt:
        rt.load(path)
        with Jobs(rt) as jobs:
            jobs.run_now("house.sweep")
            tick()
            wait_for(lambda: the_job(jobs).ticks == 1)
            before = the_job(jobs).next_at
    with start() as rt, Jobs(rt) as jobs:
        assert abs(the_job(jobs).next_at - before) < timedelta(seconds=0.01)


def test_a_restart_before_the_first_tick_does_not_postpone_it(start, plugins):
    path = write(plugins, schedule='every="1h"')
    with start() as rt:
        rt.load(path)
        with Jobs(rt) as jobs:
            before = the_job(jobs).next_at
    threading.Event().wait(0.05)
    with start() as rt, Jobs(rt) as jobs:
        assert abs(the_job(jobs).next_at - before) < timedelta(seconds=0.01)


def test_a_one_shot_that_ran_does_not_run_after_a_restart(start, plugins):
    at = datetime.now(UTC).isoformat()
    with start() as rt:
        rt.load(write(plugins, schedule=f'at="{at}"'))
        with Jobs(rt) as jobs:
            tick()
            wait_for(lambda: the_job(jobs).ticks == 1)
    with start() as rt, Jobs(rt) as jobs:
        assert the_job(jobs).next_at is None
    assert TICKS.empty()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@job(every='5s')\ndef f(x): ...", "called without arguments"),
        ("@job(every='5s')\ndef f(): yield", "generator"),
        ("@job(cron='61 * * * *')\ndef f(): ...", "cron"),
    ],
)
def test_an_invalid_job_is_refused_at_load(rt, plugins, code, message):
    with pytest.raises((ExportError, LinkError), match=message):
        rt.load(plugins.write("bad", f"from epochal.kinds import job\n{code}\n"))


def test_an_unknown_job_cannot_be_run(rt):
    with (
        Jobs(rt) as jobs,
        pytest.raises(UnknownExportError, match=r"no job named 'a\.b' in this epoch; close: none"),
    ):
        jobs.run_now("a.b")


def test_close_waits_for_the_running_tick(plugins):
    with Runtime() as rt:
        rt.load(write(plugins, body="ENTERED.set(); GATE.wait(10)"))
        with Jobs(rt) as jobs:
            assert ENTERED.wait(10)
            threading.Timer(0.1, GATE.set).start()
        assert tick() == "1.0"
        jobs.close()


def test_a_failure_of_replaced_code_does_not_delay_the_new_code(rt, plugins):
    rt.load(write(plugins, body="ENTERED.set(); GATE.wait(10); raise OSError('old')"))
    with Jobs(rt, retry=RetryPolicy(first_s=3600.0, most_s=3600.0)) as jobs:
        assert ENTERED.wait(10)
        rt.reload("house", write(plugins, "2.0"), drain_timeout=0.0)
        wait_for(lambda: jobs._table.jobs["house.sweep"].generation == 1)
        GATE.set()
        assert tick() == "2.0"
        assert (the_job(jobs).failures, the_job(jobs).failures_in_row) == (1, 0)


def test_close_returns_whether_the_ticks_have_ended(rt, plugins):
    rt.load(write(plugins, body="ENTERED.set(); GATE.wait(10)"))
    jobs = Jobs(rt)
    assert ENTERED.wait(10)
    assert not jobs.close(timeout=0.05)
    GATE.set()
    assert jobs.close(timeout=10.0)
