"""A timer for each job, and the workers that it wakes.

It knows names and times, never code and never a schedule. There is one timer for each job, and
`Jobs` decides what an expired timer means (`jobs/job_state.py`).

This is a heap of times and the standard library's pool of threads. A scheduling library (once it
was APScheduler) adds misfires, instance counts and coalescing of its own, all of which had to be
switched off, since the state of a job decides them. The pool is not that of `_core.sync.threads`,
whose daemon threads die with the process: a tick may finish.

Threads and locks
-----------------

``_times`` is the truth, and ``_heap`` an index of it; both are read and written under ``_lock``.
An entry of the heap whose time is not the name's in ``_times`` is stale and ignored: so a timer is
moved or cancelled without a search. The timer's thread takes due names out under ``_lock``, and
hands them to the pool *after* it has let go: a worker's first act may be to set a timer. Callers
hold their own lock (that of `Jobs`) around every method, and `on_timer` takes it: no method waits
for a worker.
"""

from __future__ import annotations

import heapq
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import time
from typing import TYPE_CHECKING, Final

from epochal._core.sync.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

_SPARE: Final = 64
"""Stale entries, beside as many as there are timers, at which the heap is built anew."""


class JobTimer:
    """Calls a function with a job's name at the time that was set for it, on its own threads.

    The process waits at its end for a call in progress, as it does for any worker of a
    `ThreadPoolExecutor`.

    Args:
        workers: how many calls may run at once; more wait.
        on_timer: called with a name, and whether `run_now` asked for the call. It must not raise.
    """

    def __init__(self, *, workers: int, on_timer: Callable[[str, bool], object]) -> None:
        self._on_timer: Final = on_timer
        self._pool: Final = ThreadPoolExecutor(workers, thread_name_prefix="epochal-job")
        # Not a Condition, which is written in Python: a caller's Ctrl-C may leave that locked.
        self._lock: Final = threading.Lock()
        self._woken: Final[SimpleQueue[None]] = SimpleQueue()
        self._times: Final[dict[str, float]] = {}
        self._heap: list[tuple[float, str]] = []
        self._by_hand: list[str] = []
        self._stopped = False
        self._thread: Final = start_thread(self._run, name="epochal-timer")

    def set(self, name: str, at: float) -> None:
        """Call once at a time, in seconds since the Unix epoch; replaces the name's earlier timer.

        A time in the past means now.
        """
        with self._lock:
            self._times[name] = at
            heapq.heappush(self._heap, (at, name))
            if len(self._heap) > 2 * len(self._times) + _SPARE:
                self._heap = [(at, name) for name, at in self._times.items()]
                heapq.heapify(self._heap)
            is_first = self._heap[0] == (at, name)
        if is_first:  # else the thread wakes early enough
            self.wake()

    def run_now(self, name: str) -> None:
        """Call once as soon as a worker is free, beside the name's timer."""
        with self._lock:
            self._by_hand.append(name)
        self.wake()

    def cancel(self, name: str) -> None:
        """Remove the name's timer, if there is one."""
        with self._lock:
            self._times.pop(name, None)

    def wake(self) -> None:
        """Compare the timers with the clock: it may have been set, or the machine have slept."""
        self._woken.put(None)

    def stop(self) -> None:
        """Begin no further call. Idempotent."""
        with self._lock:
            self._stopped = True
        self.wake()

    def close(self) -> None:
        """Stop, and end the threads once their calls have ended; does not wait. Idempotent."""
        self.stop()
        self._pool.shutdown(wait=False)

    # --- the timer's thread ------------------------------------------------------------------

    def _run(self) -> None:
        while (calls := self._wait()) is not None:
            for name, by_hand in calls:
                # There is no thread for it, or the process ends. The call may be lost: the
                # heartbeat of `Jobs` sets the timer again.
                with suppress(RuntimeError):
                    self._pool.submit(self._on_timer, name, by_hand)

    def _wait(self) -> list[tuple[str, bool]] | None:
        """Wait for the calls that are due; None once it is stopped."""
        while not self._stopped:
            now = time()
            with self._lock:
                calls = self._due(now)
                # By the monotonic clock, so `wake` is needed after the wall clock was set.
                wait_s = self._heap[0][0] - now if self._heap else threading.TIMEOUT_MAX
            if calls:
                return calls
            with suppress(Empty):
                self._woken.get(timeout=min(wait_s, threading.TIMEOUT_MAX))
        return None

    def _due(self, now: float) -> list[tuple[str, bool]]:
        calls = [(name, True) for name in self._by_hand]
        self._by_hand = []
        while self._heap and (self._is_stale(self._heap[0]) or self._heap[0][0] <= now):
            entry = heapq.heappop(self._heap)
            if not self._is_stale(entry):
                del self._times[entry[1]]
                calls.append((entry[1], False))
        return calls

    def _is_stale(self, entry: tuple[float, str]) -> bool:
        return self._times.get(entry[1]) != entry[0]
