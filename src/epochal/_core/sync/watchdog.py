"""One thread for the whole process that ends each wait at its time limit.

Plugin code runs inline, in the thread of its change: handing it to another thread and waiting for
the result costs two switches of the interpreter, 5 ms and more each beside a busy thread. So no
thread waits for the code, and the watchdog's thread looks at the clock instead.

A watch ends in one of two ways, and exactly one of them: the watched code returns (`end` returns
True), or the time runs out or a caller gives up (`expire` runs the callback, and a later `end`
returns False).

Reads and writes
----------------

``_active`` and ``_planned`` are touched under ``_lock`` alone; no other code runs under it. The
claim of a watch is a raw lock that is acquired once and never released: of two threads that try,
one gets it.
"""

from __future__ import annotations

import _thread
import math
import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch:
    """One piece of work under a time limit."""

    __slots__ = ("_claim", "_dog", "_on_expire", "deadline")

    def __init__(self, dog: Watchdog, deadline: float, on_expire: Callable[[], None]) -> None:
        self._dog: Final = dog
        self._claim: Final = _thread.allocate_lock()
        self._on_expire: Callable[[], None] | None = on_expire
        self.deadline: Final = deadline

    def end(self) -> bool:
        """End the watch, after the work has returned.

        Returns:
            False if that was too late: the callback has run, and another thread goes on.
        """
        self._dog.forget(self)
        ended = self._claim.acquire(blocking=False)
        self._on_expire = None  # it may hold the change, and its leases
        return ended

    def expire(self) -> None:
        """Run the callback: the time has run out, or the result is unwanted. Not after `end`."""
        self._dog.forget(self)
        # Read before the claim: `end` clears it, with the claim lost or won.
        on_expire = self._on_expire
        if self._claim.acquire(blocking=False) and on_expire is not None:
            on_expire()


class Watchdog:
    """Expires watches in time; its thread starts with the first one and sleeps between them."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._active: Final[set[Watch]] = set()
        self._planned = math.inf  # when the thread will look again
        self._pid = 0
        self._wake: SimpleQueue[None] = SimpleQueue()

    def watch(self, timeout: float | None, on_expire: Callable[[], None]) -> Watch:
        """Watch from now on.

        Args:
            timeout: seconds; None for a watch that only `expire` ends early.
            on_expire: called in the watchdog's thread, or in the thread that calls `expire`; it
                must return soon.
        """
        deadline = math.inf if timeout is None else monotonic() + timeout
        watch = Watch(self, deadline, on_expire)
        with self._lock:
            is_running = self._pid == os.getpid()  # a forked child has no thread
            self._pid = os.getpid()
            self._active.add(watch)
            wake = self._wake
            if deadline < self._planned:
                self._planned = deadline
                wake.put(None)
            if not is_running:
                self._wake = wake = SimpleQueue()
        if not is_running:
            threading.Thread(
                target=self._run, args=(wake,), name="epochal watchdog", daemon=True
            ).start()
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop watching."""
        with self._lock:
            self._active.discard(watch)

    def _run(self, wake: SimpleQueue[None]) -> None:
        while True:
            for watch in self._due():
                watch.expire()  # outside the lock: callbacks are foreign code
            with self._lock:
                # Planned under the lock, before the sleep: a watch that is added later wakes us if
                # it is due earlier. One that has ended costs a look too many, no more.
                self._planned = min((w.deadline for w in self._active), default=math.inf)
                pause = None if self._planned == math.inf else self._planned - monotonic()
            with suppress(Empty):
                wake.get(timeout=None if pause is None else max(0.0, pause))

    def _due(self) -> list[Watch]:
        now = monotonic()
        with self._lock:
            return [watch for watch in self._active if watch.deadline <= now]


watchdog: Final = Watchdog()
"""The one of the process."""
