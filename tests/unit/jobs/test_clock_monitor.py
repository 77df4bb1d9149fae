"""The wall clock, which may be set, and the monotonic clock, which never is."""

import threading

from epochal.jobs import clock_monitor
from epochal.jobs.clock_monitor import Clock, Drift, Heartbeat


class Clocks:
    wall = 1000.0
    steady = 5.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.steady


def test_drift_is_what_the_wall_clock_was_set_by():
    clocks = Clocks()
    drift = Drift(clocks)
    clocks.wall += 10.0
    clocks.steady += 10.0
    assert drift.measure() == 0.0
    clocks.wall -= 3600.0
    assert drift.measure() == -3600.0
    assert drift.measure() == 0.0


def test_a_process_that_is_stopped_between_two_readings_sees_no_drift():
    clocks = Clocks()
    drift = Drift(clocks)
    readings = iter([5.0, 65.0, 65.0, 65.0])
    clocks.monotonic = lambda: next(readings)
    clocks.wall += 60.0
    assert drift.measure() == 0.0


def test_the_heartbeat_calls_until_it_is_stopped(monkeypatch):
    monkeypatch.setattr(clock_monitor, "HEARTBEAT_S", 0.001)
    beats = threading.Semaphore(0)
    heartbeat = Heartbeat(beats.release)
    assert beats.acquire(timeout=10)
    assert beats.acquire(timeout=10)
    heartbeat.stop()
    assert not heartbeat._thread.is_alive()


def test_the_clock_reads_both_clocks():
    assert Clock().now() > 1e9
    assert Clock().monotonic() >= 0.0
