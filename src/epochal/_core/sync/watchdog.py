"""One thread for the whole process that notices when something has taken too long.

Plugin code runs inline, in the thread of its change: handing it to another thread and waiting for
the result costs two switches of the interpreter, 5 ms and more each beside a busy thread. So nobody
waits for it, and somebody must look at the clock instead.

A watch ends in one of two ways, and exactly one of them: the watched code returns (`end` gives
True), or the time runs out or somebody gives up (`expire` calls `take_over`, and a later `end`
gives False).

Who reads, who writes
---------------------

``_active`` and ``_planned`` are touched under ``_lock`` alone; nothing else runs under it. The
claim of a watch is a raw lock that is acquired once and never released: of two that try, one gets
it.
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
        """The work has returned. False if that was too late: somebody else goes on."""
        self._dog.forget(self)
        ended = self._claim.acquire(blocking=False)
        self._on_expire = None
        return ended

    def expire(self) -> None:
        """The work takes too long, or its result is no longer wanted; does nothing after `end`."""
        self._dog.forget(self)
        on_expire = self._on_expire
        if self._claim.acquire(blocking=False) and on_expire is not None:
            on_expire()


class Watchdog:
    """Expires watches in time; its thread starts with the first one and sleeps between them."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._active: Final[set[Watch]] = set()
        self._planned = math.inf
        self._pid = 0
        self._wake: SimpleQueue[None] = SimpleQueue()

    def watch(self, timeout: float | None, on_expire: Callable[[], None]) -> Watch:
        """Watch from now on.

        Args:
            timeout: seconds; None for a watch that only `expire` ends early.
            on_expire: called in the watchdog's thread (or that of whoever expires it): it must
                return soon.
        """
        deadline = math.inf if timeout is None else monotonic() + timeout
        watch = Watch(self, deadline, on_expire)
        with self._lock:
            started = self._pid == os.getpid()  # a fork leaves the thread behind
            self._pid = os.getpid()
            self._active.add(watch)
            wake = self._wake
            if deadline < self._planned:
                self._planned = deadline
                wake.put(None)
            if not started:
                self._wake = wake = SimpleQueue()
        if not started:
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
                watch.expire()
            with self._lock:
                # A watch that ended meanwhile may still be planned for: one look too many, no more.
                self._planned = min((w.deadline for w in self._active), default=math.inf)
                pause = None if self._planned == math.inf else self._planned - monotonic()
            with suppress(Empty):
                wake.get(timeout=None if pause is None else max(0.0, pause))

    def _due(self) -> list[Watch]:
        now = monotonic()
        with self._lock:
            return [watch for watch in self._active if watch.deadline <= now]


watchdog: Final = Watchdog()
"""The process's own."""
