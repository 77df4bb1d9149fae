"""`Jobs` by a clock that a test moves, with an alarm clock that rings in the test's own thread.

So a test of schedules waits for nothing, and a busy machine is as good as any.
"""

import threading

from epochal.jobs import Jobs, runner

START = 1_800_000_000.0


class ManualTimer:
    """What `JobTimer` offers; rings when `Manual` says so."""

    def __init__(self, *, workers, on_timer):
        del workers
        self.on_timer = on_timer
        self.alarms = {}
        self.asked = []

    def set(self, name, at):
        self.alarms[name] = at

    def run_now(self, name):
        self.asked.append(name)

    def cancel(self, name):
        self.alarms.pop(name, None)

    def wake(self):
        pass

    def stop(self):
        self.alarms.clear()
        self.asked.clear()

    def close(self):
        pass


class Manual:
    """The time, and whoever is to be rung."""

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
        """Ring for whatever is due now."""
        for _ in range(10_000):
            if not self._ring_one(self.wall):
                return
        raise AssertionError("it rings without end")

    def _ring_one(self, until):
        for timer in self._timers:
            if timer.asked:
                timer.on_timer(timer.asked.pop(0), True)
                return True
            due = [(at, name) for name, at in timer.alarms.items() if at <= until]
            if due:
                at, name = min(due)
                self._move(max(0.0, at - self.wall))
                del timer.alarms[name]
                timer.on_timer(name, False)
                return True
        return False

    def _move(self, seconds):
        self.wall += seconds
        self.steady += seconds

    def advance(self, seconds):
        """Let time pass, ringing whenever something is due."""
        until = self.wall + seconds
        for _ in range(10_000):
            if not self._ring_one(until):
                self._move(until - self.wall)
                return
        raise AssertionError("it rings without end")

    def skip(self, seconds):
        """Let time pass and ring for nothing: the machine is busy, or the process away."""
        self._move(seconds)

    def set_clock(self, by):
        """Somebody sets the wall clock."""
        self.wall += by

    def ring_beside(self, name, *, by_hand=False):
        """Ring on another thread, for a tick that lasts; join what comes back."""
        timer = self._timers[-1]
        if not by_hand:
            del timer.alarms[name]
        thread = threading.Thread(target=timer.on_timer, args=(name, by_hand))
        thread.start()
        return thread

    def in_s(self, at):
        """Seconds from now to a status's time."""
        return round(at.timestamp() - self.wall, 3)
