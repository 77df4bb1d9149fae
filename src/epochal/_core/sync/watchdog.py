"""One thread for the whole process that ends each wait at its time limit.

Plugin code runs inline, in the thread of its change: handing it to another thread and waiting for
the result costs two switches of the interpreter, 5 ms and more each beside a busy thread. So no
thread waits for the code, and the watchdog's thread looks at the clock instead.

When the time of a watch runs out, its callback starts a thread that is to go on without the code.
That thread and the watched one then race for the claim of the watch, and exactly one gets it: the
watched code has returned in time (`end`), or another thread goes on (`take_over`). The claim is
taken by the thread that needs it, never before that thread runs. So a callback that fails, since
the system starts no thread for a while, has changed nothing, and is called again a moment later.

Reads and writes
----------------

There is no lock here: a thread that is interrupted under it, or a fork, would leave it locked for
the whole process. A forked child has none of its parent's watches, and goes on with no change of
it. ``_active`` is changed by any thread, one dict step at a time. A thread first adds its watch,
then reads ``_planned``; the watchdog first says in ``_planned`` that it looks at every watch, then
copies ``_active``: either it sees the watch, or the thread wakes it. The claim of a watch is a raw
lock that is acquired once and never released.
"""

from __future__ import annotations

import _thread
import math
from contextlib import suppress
from queue import SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias

from epochal._core.sync.forks import in_forked_child
from epochal._core.sync.threads import start_thread

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    OnExpire: TypeAlias = "Callable[[Watch], object]"

_RETRY_S: Final = 0.05
"""After so long a callback that failed is called again."""


class Watch:
    """One piece of work under a time limit, from `begin` to the end.

    Args:
        dog: watches.
        timeout: seconds; None for a watch that only `expire` ends early.
        on_expire: called in the watchdog's thread; it starts the thread that takes over, and must
            return soon. If it raises, it is called again.

    Attributes:
        deadline: when the time runs out, by the monotonic clock.
        on_expire: None after the end.
    """

    __slots__ = ("_claim", "_dog", "_timeout", "deadline", "on_expire")

    def __init__(self, dog: Watchdog, timeout: float | None, on_expire: OnExpire) -> None:
        self._dog: Final = dog
        self._timeout: Final = math.inf if timeout is None else timeout
        self._claim: Final = _thread.allocate_lock()
        self.on_expire: OnExpire | None = on_expire
        self.deadline = math.inf

    def begin(self) -> None:
        """Watch from now on.

        Raises:
            NoThreadError: the watchdog's thread cannot be started.
        """
        self._dog.start()
        self.deadline = monotonic() + self._timeout
        self._dog.watch(self)

    def end(self) -> bool:
        """End the watch, after the work has returned.

        Returns:
            False if that was too late: another thread goes on.
        """
        return self._finish()

    def take_over(self) -> bool:
        """Go on instead of the work; called by the thread that the callback started.

        Returns:
            False if that was too late: the work has returned.
        """
        return self._finish()

    def _finish(self) -> bool:
        self._dog.forget(self)
        self.on_expire = None  # it may hold the change, and its leases
        return self._claim.acquire(blocking=False)

    def expire(self) -> None:
        """Have the callback called now: the result is unwanted. Not after the end. Any thread."""
        self.deadline = -math.inf
        self._dog.wake()


class Watchdog:
    """Expires watches in time; its thread starts with the first one and sleeps between them."""

    def __init__(self) -> None:
        self._active: Final[dict[int, Watch]] = {}
        # When the thread will look again; infinity while it looks. Written by that thread alone.
        self._planned = math.inf
        self._wake: SimpleQueue[None] = SimpleQueue()  # the thread's own; it makes it
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make sure that the thread runs: at first, in a forked child, and if it was killed.

        Raises:
            NoThreadError: the system starts no more threads.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = start_thread(self._run, name="epochal watchdog")

    def watch(self, watch: Watch) -> None:
        """Watch from now on."""
        # Added, then the look at the plan: see above.
        self._active[id(watch)] = watch
        if watch.deadline < self._planned:
            self.wake()

    def forget(self, watch: Watch) -> None:
        """Stop watching. Idempotent."""
        self._active.pop(id(watch), None)

    def leave_to_parent(self) -> None:
        """In a forked child: watch nothing that its parent watches."""
        self._active.clear()

    def wake(self) -> None:
        """Have the thread look at every watch."""
        self._wake.put(None)

    def _run(self) -> None:
        # If two threads start one at once, the later of the two is the watchdog.
        wake: SimpleQueue[None] = SimpleQueue()
        before, self._wake = self._wake, wake
        before.put(None)
        while self._wake is wake:
            pause_s = _RETRY_S
            # Nothing ends this thread: no time limit of the process would hold any more.
            with suppress(BaseException):
                pause_s = self._look()
            with suppress(BaseException):  # `Empty`, for one
                wake.get(timeout=pause_s)

    def _look(self) -> float:
        """Expire what is due; returns in how many seconds to look again."""
        # Said, then the copy: see above.
        self._planned = math.inf
        active = self._active.copy().values()
        now, pause_s = monotonic(), TIMEOUT_MAX
        for watch in active:
            on_expire = watch.on_expire
            if watch.deadline > now or on_expire is None:
                continue
            try:
                on_expire(watch)
            except BaseException:  # noqa: BLE001  there is no thread: until there is one
                pause_s = _RETRY_S
            else:
                self.forget(watch)
        planned = min((w.deadline for w in active if w.deadline > now), default=math.inf)
        self._planned = planned
        return max(0.0, min(pause_s, planned - monotonic()))


watchdog: Final = Watchdog()
"""The one of the process."""

in_forked_child(watchdog.leave_to_parent)
