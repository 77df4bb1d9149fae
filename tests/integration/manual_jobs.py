"""`Jobs` with a clock that a test moves, and a timer that calls in the test's own thread.

So a test of schedules never waits, and a busy machine does not matter.
"""

import threading

from epochal.jobs import Jobs, runner

START = 1_800_000_000.0


class ManualTimer:
    """The methods of `JobTimer`; `Manual` makes its calls."""

    def __init__(self, *, workers, on_timer):
        del workers
        self.on_timer = on_timer
        self.times = {}
        self.by_hand = []

    def set(self, name, at):
        self.times[name] = at

    def run_now(self, name):
        self.by_hand.append(name)

    def cancel(self, name):
        self.times.pop(name, None)

    def wake(self):
        pass

    def stop(self):
        self.times.clear()
        self.by_hand.clear()

    def close(self):
        pass


class Manual:
    """The clocks of all `Jobs` of a test, and their timers."""

    def __init__(self, monkeypatch):
        self.wall = START
        self.steady = 0.0
        self._opened = []
        monkeypatch.setattr(runner, "JobTimer", ManualTimer)
        monkeypatch.setattr(runner, "Clock", lambda: self)

    def now(self):
        return self.wall

    def monotonic(self):
        return self.steady

    def jobs(self, runtime, **options):
        jobs = Jobs(runtime, **options)
        self._opened.append(jobs)
        return jobs

    def close(self):
        for jobs in self._opened:
            jobs.close()

    @property
    def _timers(self):
        return [jobs._timer for jobs in self._opened]

    def settle(self):
        """Make every call that is due now."""
        for _ in range(10_000):
            if not self._call_next(self.wall):
                return
        raise AssertionError("the calls do not end")

    def _call_next(self, until):
        for timer in self._timers:
            if timer.by_hand:
                timer.on_timer(timer.by_hand.pop(0), True)
                return True
            due = [(at, name) for name, at in timer.times.items() if at <= until]
            if due:
                at, name = min(due)
                self._move(max(0.0, at - self.wall))
                del timer.times[name]
                timer.on_timer(name, False)
                return True
        return False

    def _move(self, seconds):
        self.wall += seconds
        self.steady += seconds

    def advance(self, seconds):
        """Let time pass, and make each call when it is due."""
        until = self.wall + seconds
        for _ in range(10_000):
            if not self._call_next(until):
                self._move(until - self.wall)
                return
        raise AssertionError("the calls do not end")

    def skip(self, seconds):
        """Let time pass without a call: the machine is busy, or the process away."""
        self._move(seconds)

    def set_clock(self, by):
        """Set the wall clock, forward or back by so many seconds."""
        self.wall += by

    def call_on_thread(self, name, *, by_hand=False):
        """Make a call on another thread, for a tick that lasts; returns the thread to join."""
        timer = self._timers[-1]
        if not by_hand:
            del timer.times[name]
        thread = threading.Thread(target=timer.on_timer, args=(name, by_hand))
        thread.start()
        return thread

    def in_s(self, at):
        """Seconds from now to a status's time."""
        return round(at.timestamp() - self.wall, 3)
