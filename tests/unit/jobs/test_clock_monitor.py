"""The clock that is set, and the one that is never."""

import threading

from epochal.jobs import clock_monitor as pulse
from epochal.jobs.clock_monitor import Clock, Drift, Pulse


class Clocks:
    wall = 1000.0
    steady = 5.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.steady


def test_time_that_passes_is_no_drift_and_a_clock_that_is_set_is():
    clocks = Clocks()
    drift = Drift(clocks)
    clocks.wall += 10.0
    clocks.steady += 10.0
    assert drift.look() == 0.0
    clocks.wall -= 3600.0
    assert drift.look() == -3600.0
    assert drift.look() == 0.0


def test_a_process_that_is_stopped_between_two_looks_sees_no_drift():
    clocks = Clocks()
    drift = Drift(clocks)
    looks = iter([5.0, 65.0, 65.0, 65.0])
    clocks.monotonic = lambda: next(looks)
    clocks.wall += 60.0
    assert drift.look() == 0.0


def test_it_beats_until_it_is_stopped(monkeypatch):
    monkeypatch.setattr(pulse, "BEAT_S", 0.001)
    beats = threading.Semaphore(0)
    one = Pulse(beats.release)
    assert beats.acquire(timeout=10)
    assert beats.acquire(timeout=10)
    one.stop()
    assert not one._thread.is_alive()


def test_clocks_tell_the_time():
    assert Clock().now() > 1e9
    assert Clock().monotonic() >= 0.0
