"""Jobs with a manual clock: the position of each after every kind of incident."""

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from queue import SimpleQueue

import pytest
from tests.integration.manual_jobs import START, Manual

from epochal import Runtime
from epochal.errors import ForkedRuntimeError, HostError
from epochal.events import StoreFaulted
from epochal.jobs import (
    BreakerMoved,
    Circuit,
    JobRefused,
    Jobs,
    RetryPolicy,
    TickEnded,
    TickFailed,
    TicksSkipped,
    WorkersBusy,
    job_table,
    runner,
)
from epochal.jobs.job_table import BUSY_BEATS

RUNS: list[object] = []
FAIL = threading.Event()
ENTERED = threading.Event()
GATE = threading.Event()
HOURLY = 'every="1h"'
PATIENT = RetryPolicy(first_s=10.0, most_s=60.0, after=3, rest_s=300.0)


@pytest.fixture(autouse=True)
def _fresh():
    RUNS.clear()
    for event in (FAIL, ENTERED, GATE):
        event.clear()


@pytest.fixture
def manual(monkeypatch):
    clock = Manual(monkeypatch)
    yield clock
    GATE.set()
    clock.close()


@pytest.fixture
def events(rt):
    seen: SimpleQueue = SimpleQueue()
    end = rt.events.subscribe(seen.put)

    def of(kind):
        end()  # waits until every event so far is in
        return [
            event for event in (seen.get() for _ in range(seen.qsize())) if isinstance(event, kind)
        ]

    return of


def write(plugins, version="1.0", schedule=HOURLY, body="", plugin="house"):
    code = f"""
from epochal.kinds import job
from tests.integration.test_jobs_schedules import ENTERED, FAIL, GATE, RUNS

@job({schedule})
def sweep():
    RUNS.append("{version}")
    {body}
    if FAIL.is_set(): raise OSError("no network")
"""
    return plugins.write(plugin, code, version=version)


LASTS = "ENTERED.set(); GATE.wait(10)"


def once(at):
    return f'at="{datetime.fromtimestamp(at, UTC).isoformat()}"'


def the_job(jobs):
    (status,) = jobs.status()
    return status


def reload(rt, jobs, plugins, version="2.0", **options):
    rt.reload("house", write(plugins, version, **options), drain_timeout=0.0)
    jobs._update_jobs()  # the event arrives now, not a moment later


# --- restarts ------------------------------------------------------------------------------------


def stored(tmp_path, change=""):
    """The rows of the file, after a change of it."""
    with closing(sqlite3.connect(tmp_path / "store" / "jobs.db")) as file, file:
        if change:
            file.execute(f"UPDATE job_position SET {change}")
        return file.execute("SELECT regular, not_before, is_done FROM job_position").fetchall()


def test_a_tick_that_the_process_missed_runs_once(start, plugins, manual):
    with start() as rt:
        rt.load(write(plugins))
        manual.jobs(rt).close()
    manual.skip(3600.0 + 600.0)
    with start() as rt:
        jobs = manual.jobs(rt)
        manual.settle()
        assert RUNS == ["1.0"]
        assert manual.in_s(the_job(jobs).next_at) == 3000.0
        jobs.close()


def test_positions_older_than_the_grace_are_counted_as_skipped(start, plugins, tmp_path):
    # On the real timer: two of its calls once met the lock of the thread that started them.
    code = "".join(f'@job(every="1d")\ndef f{i}(): ...\n' for i in range(30))
    with start() as rt:
        rt.load(plugins.write("many", f"from epochal.kinds import job\n{code}"))
        Jobs(rt).close()
        stored(tmp_path, "regular = regular - 5 * 86400")
        with Jobs(rt) as jobs:
            wait_for(lambda: all(status.skipped == 4 for status in jobs.status()))


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("that did not come")


def test_a_month_of_missed_ticks_is_one_division(start, plugins, manual):
    with start() as rt:
        rt.load(write(plugins, schedule='every="1ms"'))
        manual.jobs(rt).close()
        manual.skip(30 * 86400.0)
        jobs = manual.jobs(rt)
        jobs._on_timer("house.sweep", False)
        assert RUNS == ["1.0"]
        assert abs(the_job(jobs).skipped - 30 * 86400 * 1000) <= 2
        jobs.close()


def test_a_tick_that_outlives_close_stores_its_position(start, plugins, manual, tmp_path):
    with start() as rt:
        rt.load(write(plugins, body=LASTS))
        jobs = manual.jobs(rt)
        manual.skip(3600.0)
        thread = manual.call_on_thread("house.sweep")
        assert ENTERED.wait(10)
        assert not jobs.close(timeout=0.0)
        with pytest.raises(HostError, match="run already"):
            Jobs(rt)
        GATE.set()
        thread.join()
        assert stored(tmp_path) == [(START + 2 * 3600.0, None, 0)]
        assert the_job(manual.jobs(rt)).next_at.timestamp() == START + 2 * 3600.0
        manual.close()


def test_only_success_finishes_a_one_shot(start, plugins, manual, tmp_path):
    with start() as rt:
        rt.load(write(plugins, schedule=once(START + 60.0)))
        jobs = manual.jobs(rt, retry=PATIENT)
        FAIL.set()
        manual.advance(61.0)
        jobs.close()
        assert stored(tmp_path) == [(START + 60.0, START + 70.0, 0)]
        FAIL.clear()
        jobs = manual.jobs(rt, retry=PATIENT)
        manual.advance(10.0)
        assert RUNS == ["1.0"] * 2
        jobs.close()
        assert stored(tmp_path) == [(None, None, 1)]
        jobs = manual.jobs(rt, retry=PATIENT)
        manual.advance(1000.0)
        assert the_job(jobs).next_at is None
        assert len(RUNS) == 2
        jobs.close()


def test_a_one_shot_that_is_too_late_is_not_done(start, plugins, manual):
    with start() as rt:
        rt.load(write(plugins, schedule=once(START - 100.0)))
        jobs = manual.jobs(rt, grace_s=10.0)
        manual.settle()
        assert (the_job(jobs).skipped, the_job(jobs).next_at) == (1, None)
        jobs.close()
        jobs = manual.jobs(rt, grace_s=float("inf"))
        manual.settle()
        assert RUNS == ["1.0"]
        jobs.close()


def test_a_position_from_a_wrong_clock_delays_nothing(start, plugins, manual, tmp_path):
    with start() as rt:
        rt.load(write(plugins))
        manual.jobs(rt).close()
        stored(tmp_path, "regular = regular + 14 * 365 * 86400, not_before = regular + 1e9")
        jobs = manual.jobs(rt, retry=PATIENT)
        assert manual.in_s(the_job(jobs).next_at) <= 7200.0
        jobs.close()


def test_a_restored_position_survives_a_failure_and_a_reload(start, plugins, manual, tmp_path):
    with start() as rt:
        rt.load(write(plugins))
        manual.jobs(rt).close()
        stored(tmp_path, f"regular = {START + 60.0}")
        jobs = manual.jobs(rt)
        FAIL.set()
        jobs.run_now("house.sweep")
        manual.settle()
        reload(rt, jobs, plugins)
        assert manual.in_s(the_job(jobs).next_at) == 60.0
        jobs.close()


# --- the file of positions -----------------------------------------------------------------------


def test_a_damaged_file_is_reported_and_stops_nothing(tmp_path, plugins):
    faults: SimpleQueue = SimpleQueue()
    with Runtime(store=tmp_path / "store") as rt:
        (tmp_path / "store" / "jobs.db").write_bytes(b"garbage" * 1000)
        rt.load(write(plugins, schedule='every="20ms"'))
        end = rt.events.subscribe(lambda e: faults.put(e) if isinstance(e, StoreFaulted) else None)
        with Jobs(rt) as jobs:
            wait_for(lambda: the_job(jobs).ticks > 2)
            assert "cannot be read, so every schedule begins anew" in faults.get(timeout=10).error
            assert "cannot be kept: file is not a database" in faults.get(timeout=10).error
        end()


def test_a_locked_file_delays_no_job_and_is_written_later(start, plugins, manual):
    with start() as rt:
        rt.load(write(plugins))
        jobs = manual.jobs(rt)
        path = rt.store_folder / "jobs.db"
        wait_for(lambda: path.exists() and not jobs._positions._changed)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            rt.load(write(plugins, plugin="late"))
            jobs._update_jobs()
            manual.advance(3600.0)
            assert sorted(RUNS) == ["1.0"] * 2
            assert [status.ticks for status in jobs.status()] == [1, 1]
        jobs.close()
        with closing(sqlite3.connect(path)) as file:
            rows = file.execute("SELECT job, regular FROM job_position").fetchall()
        assert sorted(rows) == [
            ("house.sweep", START + 7200.0),
            ("late.sweep", START + 7200.0),
        ]


# --- reloads -------------------------------------------------------------------------------------


def test_a_reload_neither_loses_nor_repeats_a_tick(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    for number in range(1, 13):
        manual.advance(1000.0)
        reload(rt, jobs, plugins, f"1.{number}")
    assert len(RUNS) == 3
    assert manual.in_s(the_job(jobs).next_at) == 4 * 3600.0 - 12_000.0


def test_a_one_shot_that_fails_during_a_reload_runs_on_the_new_code(rt, plugins, manual):
    rt.load(write(plugins, schedule=once(START + 5.0), body=LASTS))
    jobs = manual.jobs(rt)
    manual.skip(5.0)
    FAIL.set()
    thread = manual.call_on_thread("house.sweep")
    assert ENTERED.wait(10)
    reload(rt, jobs, plugins, schedule=once(START + 5.0))
    GATE.set()
    thread.join()
    assert (the_job(jobs).failures, the_job(jobs).failures_in_row) == (1, 0)
    FAIL.clear()
    manual.settle()
    assert RUNS == ["1.0", "2.0"]
    assert the_job(jobs).next_at is None


def test_a_reload_retries_a_failed_tick_at_once(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt, retry=RetryPolicy(first_s=1e6, most_s=1e6))
    FAIL.set()
    manual.advance(3600.0)
    assert manual.in_s(the_job(jobs).next_at) == 1e6
    manual.advance(5000.0)
    FAIL.clear()
    reload(rt, jobs, plugins)
    manual.settle()
    assert RUNS == ["1.0", "2.0"]
    assert manual.in_s(the_job(jobs).next_at) == 3 * 3600.0 - 8600.0


def test_new_code_that_fails_before_its_event_waits_once(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt, retry=PATIENT)
    jobs._unsubscribe()  # the event is late
    FAIL.set()
    rt.reload("house", write(plugins, "2.0"))
    manual.advance(3600.0)
    jobs._update_jobs()
    assert manual.in_s(the_job(jobs).next_at) == 10.0


def test_a_reload_does_not_advance_a_one_shot(rt, plugins, manual):
    schedule = once(START + 3600.0)
    rt.load(write(plugins, schedule=schedule))
    jobs = manual.jobs(rt)
    FAIL.set()
    jobs.run_now("house.sweep")
    manual.settle()
    FAIL.clear()
    reload(rt, jobs, plugins, schedule=schedule)
    manual.advance(60.0)
    assert RUNS == ["1.0"]
    manual.advance(3600.0)
    assert RUNS == ["1.0", "2.0"]


def test_a_tick_delays_no_other_plugin(rt, plugins, manual):
    rt.load(write(plugins, body=LASTS))
    rt.load(write(plugins, plugin="other"))
    manual.jobs(rt)
    manual.skip(3600.0)
    thread = manual.call_on_thread("house.sweep")
    assert ENTERED.wait(10)
    assert rt.reload("other", write(plugins, "2.0", plugin="other"), drain_timeout=5.0).drained
    GATE.set()
    thread.join()


def test_a_job_that_is_removed_and_loaded_does_not_overlap_its_run(rt, plugins, manual):
    path = write(plugins, body=LASTS)
    rt.load(path)
    jobs = manual.jobs(rt)
    jobs.run_now("house.sweep")
    thread = manual.call_on_thread("house.sweep", by_hand=True)
    assert ENTERED.wait(10)
    rt.remove("house", drain_timeout=0.0)
    jobs._update_jobs()
    assert jobs.status() == []
    rt.load(path)
    jobs._update_jobs()
    assert the_job(jobs).running
    manual.settle()  # the second `run_now`
    assert the_job(jobs).skipped == 1
    GATE.set()
    thread.join()
    assert RUNS == ["1.0"]


@pytest.mark.parametrize("ends_before_it_comes_back", [True, False])
def test_a_one_shot_that_is_removed_during_its_run_runs_once(
    rt, plugins, manual, ends_before_it_comes_back
):
    path = write(plugins, schedule=once(START), body=LASTS)
    rt.load(path)
    jobs = manual.jobs(rt)
    thread = manual.call_on_thread("house.sweep")
    assert ENTERED.wait(10)
    rt.remove("house", drain_timeout=0.0)
    jobs._update_jobs()
    if ends_before_it_comes_back:
        GATE.set()
        thread.join()
    rt.load(path)
    jobs._update_jobs()
    GATE.set()
    thread.join()
    manual.advance(10.0)
    assert RUNS == ["1.0"]
    assert the_job(jobs).next_at is None


def test_a_tick_without_its_function_does_not_count(rt, plugins, manual, events):
    rt.load(write(plugins, schedule=once(START + 60.0)))
    jobs = manual.jobs(rt)
    jobs._unsubscribe()  # the event is late
    rt.remove("house")
    manual.advance(60.0)
    status = the_job(jobs)
    assert (status.ticks, status.failures, status.running) == (0, 0, False)
    rt.load(write(plugins, schedule=once(START + 60.0)))
    manual.advance(1.0)
    assert RUNS == ["1.0"]
    assert [event.generation for event in events(TickEnded)] == [1]


def test_an_older_epoch_does_not_bring_a_removed_job_back(rt, plugins, manual, monkeypatch):
    rt.load(write(plugins))
    read = runner._jobs_of
    held = []

    def late(runtime):
        if not held:  # the constructor's look: a change is published before it takes the lock
            held.append(True)
            rt.remove("house", drain_timeout=0.0)
        return read(runtime)

    monkeypatch.setattr(runner, "_jobs_of", late)
    jobs = manual.jobs(rt)
    assert jobs.status() == []


# --- failures ------------------------------------------------------------------------------------


def test_failures_back_off_open_the_breaker_and_a_trial_closes_it(rt, plugins, manual, events):
    rt.load(write(plugins, schedule='every="1s"'))
    jobs = manual.jobs(rt, retry=PATIENT)
    FAIL.set()
    manual.advance(1.0 + 10.0 + 20.0)
    assert the_job(jobs).circuit is Circuit.OPEN
    assert "no network" in the_job(jobs).last_error
    assert manual.in_s(the_job(jobs).next_at) == 300.0
    FAIL.clear()
    manual.advance(300.0)
    assert (the_job(jobs).circuit, the_job(jobs).failures_in_row) == (Circuit.CLOSED, 0)
    assert manual.in_s(the_job(jobs).next_at) == 1.0
    failed = events((TickFailed, BreakerMoved))
    assert [e.failures for e in failed if isinstance(e, TickFailed)] == [1, 2, 3]
    assert [e.wait_s for e in failed if isinstance(e, TickFailed)] == [10.0, 20.0, 300.0]
    states = [e.state for e in failed if isinstance(e, BreakerMoved)]
    assert states == ["open", "half-open", "closed"]


def test_a_failed_nightly_tick_is_retried_the_same_night(rt, plugins, manual):
    rt.load(write(plugins, schedule='every="1d"'))
    jobs = manual.jobs(rt, retry=PATIENT)
    FAIL.set()
    manual.advance(86400.0)
    assert manual.in_s(the_job(jobs).next_at) == 10.0
    FAIL.clear()
    manual.advance(10.0)
    assert RUNS == ["1.0"] * 2
    assert manual.in_s(the_job(jobs).next_at) == 86400.0 - 10.0  # the retry was that night's tick
    assert the_job(jobs).skipped == 0


def test_a_breaker_may_stay_open_until_a_reload(rt, plugins, manual, events):
    rt.load(write(plugins, schedule='every="1s"'))
    jobs = manual.jobs(rt, retry=RetryPolicy(first_s=1.0, after=2, rest_s=float("inf")))
    FAIL.set()
    manual.advance(1e6)
    assert len(RUNS) == 2
    assert (the_job(jobs).circuit, the_job(jobs).next_at) == (Circuit.OPEN, None)
    FAIL.clear()
    reload(rt, jobs, plugins, schedule='every="1s"')
    manual.advance(1.0)
    assert RUNS[2:] == ["2.0"] * 2
    assert [event.wait_s for event in events(TickFailed)] == [1.0, float("inf")]


def test_a_one_shot_without_waits_is_retried_until_it_succeeds(rt, plugins, manual):
    rt.load(write(plugins, schedule=once(START), body="if len(RUNS) < 9: raise OSError"))
    jobs = manual.jobs(rt, retry=RetryPolicy(first_s=0.0, most_s=0.0, after=99))
    manual.settle()
    assert len(RUNS) == 9
    assert the_job(jobs).next_at is None


def test_an_internal_fault_is_reported_and_the_job_goes_on(
    rt, plugins, manual, monkeypatch, events
):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    with monkeypatch.context() as broken:
        broken.setattr(runner, "run_job", lambda *_: 1 / 0)
        manual.advance(3600.0)
    assert "ZeroDivisionError" in the_job(jobs).last_error
    assert not the_job(jobs).running
    manual.advance(61.0)
    assert RUNS == ["1.0"]
    assert "ZeroDivisionError" in events(TickFailed)[0].error


def test_a_job_that_cannot_be_scheduled_stops_no_other(rt, plugins, manual, monkeypatch, events):
    rt.load(write(plugins))
    rt.load(write(plugins, plugin="another", schedule='cron="* * * * *"'))

    def of(schedule):
        if schedule.cron:
            raise OverflowError("no such time")
        return trigger_of(schedule)

    trigger_of = job_table.trigger_of
    monkeypatch.setattr(job_table, "trigger_of", of)
    jobs = manual.jobs(rt)
    another, house = jobs.status()
    assert (another.next_at, another.last_error) == (None, "OverflowError: no such time")
    manual.advance(3600.0)
    assert RUNS == ["1.0"]
    assert house.last_error == ""
    jobs._update_jobs()
    jobs.run_now("another.sweep")  # a caller may still run it
    manual.settle()
    assert len(RUNS) == 2
    assert [event.job for event in events(JobRefused)] == ["another.sweep"]


# --- by hand -------------------------------------------------------------------------------------


def test_a_run_by_hand_moves_no_schedule_and_is_not_retried(rt, plugins, manual, events):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    FAIL.set()
    jobs.run_now("house.sweep")
    manual.settle()
    status = the_job(jobs)
    assert (status.failures, status.failures_in_row) == (1, 0)
    assert manual.in_s(status.next_at) == 3600.0
    (failed,) = events(TickFailed)
    assert failed.by_hand


@pytest.mark.parametrize("schedule", [HOURLY, once(START + 3600.0)])
def test_a_tick_that_is_due_during_a_run_by_hand_comes_after_it(rt, plugins, manual, schedule):
    rt.load(write(plugins, schedule=schedule, body=LASTS))
    jobs = manual.jobs(rt)
    thread = manual.call_on_thread("house.sweep", by_hand=True)
    assert ENTERED.wait(10)
    manual.advance(3601.0)
    assert len(RUNS) == 1
    GATE.set()
    thread.join()
    manual.settle()
    assert len(RUNS) == 2
    assert the_job(jobs).skipped == 0


def test_a_finished_one_shot_that_fails_by_hand_stays_finished(rt, plugins, manual):
    rt.load(write(plugins, schedule=once(START)))
    jobs = manual.jobs(rt, retry=PATIENT)
    manual.settle()
    FAIL.set()
    jobs.run_now("house.sweep")
    manual.advance(1000.0)
    assert len(RUNS) == 2
    assert the_job(jobs).next_at is None


def test_success_by_hand_resets_the_failures(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt, retry=RetryPolicy(first_s=1.0, after=1, rest_s=1e6))
    FAIL.set()
    manual.advance(3600.0)
    assert the_job(jobs).circuit is Circuit.OPEN
    FAIL.clear()
    jobs.run_now("house.sweep")
    manual.settle()
    assert the_job(jobs).circuit is Circuit.CLOSED
    assert manual.in_s(the_job(jobs).next_at) == 3600.0
    assert len(RUNS) == 2


# --- ticks that are left out ---------------------------------------------------------------------


def test_skipped_ticks_are_counted_and_reported(rt, plugins, manual, events):
    rt.load(write(plugins, body=LASTS))
    jobs = manual.jobs(rt)
    manual.skip(3600.0)
    thread = manual.call_on_thread("house.sweep")
    assert ENTERED.wait(10)
    manual.skip(2 * 3600.0)
    jobs._check()
    assert the_job(jobs).skipped == 2
    GATE.set()
    thread.join()
    assert the_job(jobs).skipped == 2
    assert manual.in_s(the_job(jobs).next_at) == 3600.0
    manual.skip(3 * 3600.0)
    manual.settle()
    assert the_job(jobs).skipped == 4
    manual.skip(3600.0 + 3599.0)
    jobs._table._grace_s = 60.0
    manual.settle()
    assert the_job(jobs).skipped == 5
    skips = [(event.count, event.reason) for event in events(TicksSkipped)]
    assert skips == [(2, "still running"), (2, "busy"), (1, "too late")]


def test_jobs_that_wait_for_a_worker_are_reported(rt, plugins, manual, events):
    rt.load(write(plugins, body=LASTS))
    rt.load(write(plugins, plugin="other"))
    jobs = manual.jobs(rt, workers=1)
    manual.skip(3600.0)
    thread = manual.call_on_thread("house.sweep")
    assert ENTERED.wait(10)
    for _ in range(BUSY_BEATS + 2):
        jobs._on_heartbeat()
    assert [(s.name, s.queued) for s in jobs.status()] == [
        ("house.sweep", False),
        ("other.sweep", True),
    ]
    GATE.set()
    thread.join()
    (busy,) = events(WorkersBusy)
    assert (busy.waiting, busy.running) == (1, ("house.sweep",))


def test_a_lost_timer_is_set_again(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    manual.skip(3600.0)
    jobs._timer.times.clear()  # there was no thread for it
    jobs._on_heartbeat()
    manual.settle()
    assert RUNS == ["1.0"]


# --- clocks --------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_delays_no_job(rt, plugins, manual):
    rt.load(write(plugins, schedule='every="5s"'))
    rt.load(write(plugins, plugin="other", schedule='cron="* * * * *"'))
    jobs = manual.jobs(rt)
    manual.advance(7.0)
    before = len(RUNS)
    manual.set_clock(-3600.0)
    jobs._on_heartbeat()
    house, other = jobs.status()
    assert manual.in_s(house.next_at) == 3.0
    assert manual.in_s(other.next_at) <= 60.0
    manual.advance(3.0)
    assert len(RUNS) == before + 1


def test_a_small_clock_correction_repeats_no_fixed_time(rt, plugins, manual):
    rt.load(write(plugins, schedule='cron="30 2 * * *"'))
    jobs = manual.jobs(rt)
    manual.advance(manual.in_s(the_job(jobs).next_at) + 30.0)
    assert len(RUNS) == 1
    following = the_job(jobs).next_at
    manual.set_clock(-60.0)
    jobs._on_heartbeat()
    assert the_job(jobs).next_at == following
    manual.set_clock(-4 * 3600.0)  # not a correction: the clock was wrong
    jobs._on_heartbeat()
    assert manual.in_s(the_job(jobs).next_at) == 4 * 3600.0 + 30.0


def test_a_machine_that_slept_catches_up_once(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    manual.set_clock(2.5 * 3600.0)  # the monotonic clock stood still
    jobs._on_heartbeat()
    manual.settle()
    assert len(RUNS) == 1
    assert the_job(jobs).skipped == 1


# --- ends ----------------------------------------------------------------------------------------


def test_a_runtime_has_one_jobs_object(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    with pytest.raises(HostError, match="run already"):
        Jobs(rt)
    jobs.close()
    manual.jobs(rt)


def test_a_tick_cannot_close_its_own_jobs(rt, plugins, manual):
    rt.load(write(plugins, body="RUNS.pop(0).close()"))
    jobs = manual.jobs(rt)
    RUNS.append(jobs)
    manual.advance(3600.0)
    assert "a tick cannot close the Jobs that runs it" in the_job(jobs).last_error
    assert jobs.close(timeout=10.0)


def test_closed_jobs_run_nothing(rt, plugins, manual):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    jobs.close()
    with pytest.raises(HostError, match="was closed"):
        jobs.run_now("house.sweep")


def test_a_fork_has_no_jobs(rt, plugins, manual, monkeypatch):
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    with monkeypatch.context() as forked:
        forked.setattr(runner.os, "getpid", lambda: 1)
        for call in (jobs.status, jobs.close, lambda: jobs.run_now("house.sweep")):
            with pytest.raises(ForkedRuntimeError, match="make a new Runtime here"):
                call()


def test_a_closed_runtime_runs_nothing_and_fails_nothing(plugins, manual):
    rt = Runtime()
    rt.load(write(plugins))
    jobs = manual.jobs(rt)
    jobs._unsubscribe()
    rt.close()
    manual.advance(3602.0)
    assert (the_job(jobs).failures, the_job(jobs).ticks) == (0, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": "x"},
        {"grace_s": -5},
        {"grace_s": None},
        {"grace_s": float("nan")},
    ],
)
def test_impossible_options_are_refused(rt, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is .*; expected"):
        Jobs(rt, **options)
