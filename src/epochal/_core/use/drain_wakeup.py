"""The wake-up of a drain: the ledger of the leases that are alive, and the wait for their end.

Reads and writes
----------------

``Ledger._live`` holds the life of every lease that is alive.

* `issue` adds, from any thread. The owner of the ledger decides under its own lock whether a lease
  may still be issued; the ledger does not ask.
* The weak-reference callback and `Lease.release` remove. A callback runs anywhere, at any time, in
  any thread: inside the collector, inside an allocation, while its thread holds any lock. So it may
  only do what is re-entrant: one dict step (see `WeakRegistry`) and `SimpleQueue.put`.
* Any thread reads its length, which is one step too.

``Ledger._waiters`` is an immutable tuple, replaced under ``_lock`` by the waiting threads, and read
without a lock by the callback, which sees the old tuple or the new one, whole.

The collector clears the weak references to garbage before it runs the finalizers, and one of those
may bring a lease back: an object that puts itself into a pool as it dies. No weak reference shows
that it lives on. So a lease refers to its *life*, an object that the collector does not know, whose
weak reference ends when the lease has truly gone. A code object is the one such object that there
is; its only constant is a weak reference to the lease.

A waiter registers itself *before* it looks at the length; a release removes its entry *before* it
reads the waiters. So either the waiter sees the shorter length, or the release sees the waiter.
Swap either pair, and a release between the two steps wakes no thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, TypeAlias

from epochal._core.introspect.heap import referrers_of_type
from epochal._core.sync.weak_registry import WeakRegistry
from epochal._core.use.drain_schedule import CollectionSchedule
from epochal._core.use.lease import Lease
from epochal.errors import ForkedRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

Wake: TypeAlias = "SimpleQueue[int | None]"
"""The queue that wakes a waiter: the time of a release in `perf_counter_ns`, or None to give up."""

_LIFE: Final = compile("", "a lease's life", "exec")


@dataclass(frozen=True, slots=True)
class Drained:
    """The outcome of a wait for the last lease.

    Attributes:
        waited: seconds from the call to the return.
        wakeup: seconds from the last release to the waiting thread running again; None if no
            release woke it, because enough leases had already ended when it looked.
    """

    waited: float
    wakeup: float | None


class Ledger:
    """The live leases of one generation, held weakly, and the waits for the last of them to end.

    Attributes:
        has_instances: whether a host has made an instance of an exported class. Any thread sets it,
            before the host has the first; the drain reads it.
    """

    __slots__ = ("__weakref__", "_live", "_lock", "_pid", "_waiters", "has_instances")

    def __init__(self) -> None:
        self._live: Final[WeakRegistry[CodeType]] = WeakRegistry(self._wake)
        self._lock: Final = threading.Lock()
        self._waiters: tuple[Waiter, ...] = ()
        self._pid: Final = os.getpid()
        self.has_instances = False

    def issue(self, label: str) -> Lease:
        """Make a lease and count it."""
        lease = Lease()
        lease._ledger, lease.label = self, label  # noqa: SLF001  it has no other maker
        lease.life = _LIFE.replace(co_consts=(weakref.ref(lease),))
        lease.key = self._live.add(lease.life)
        return lease

    def discard(self, lease: Lease) -> None:
        """Stop counting a lease, whether or not it dies."""
        self._live.drop(lease.key)

    def is_alive(self, lease: Lease) -> bool:
        """Whether a lease counts."""
        return lease.key in self._live

    def live(self) -> list[Lease]:
        """The leases alive now; while the list is held they stay so."""
        lives = self._live.live()
        found = [lease for life in lives if (lease := life.co_consts[0]()) is not None]
        if len(found) < len(lives) and (revived := self.revived()) is not None:
            found.append(revived)
        return found

    def revived(self) -> Lease | None:
        """A lease that a finalizer has brought back, if there is one: then it walks the heap."""
        lives = [life for life in self._live.live() if life.co_consts[0]() is None]
        return next(iter(referrers_of_type(Lease, *lives)), None) if lives else None

    def waiter(self, threshold: int = 0, wake: Wake | None = None) -> Waiter:
        """Register a wait until at most `threshold` leases are alive."""
        waiter = Waiter(self, threshold, SimpleQueue() if wake is None else wake)
        # Registered here, before the waiting thread's first look in `Waiter.wait`: see the module.
        with self._lock:
            self._waiters = (*self._waiters, waiter)  # a new tuple: callbacks read it unlocked
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Remove a waiter."""
        with self._lock:
            self._waiters = tuple(other for other in self._waiters if other is not waiter)

    def sweep(self) -> None:
        """Count no lease whose callback was interrupted."""
        self._live.sweep()

    def check_process(self) -> None:
        """Raise `ForkedRuntimeError` in a child that inherited this ledger by `fork`."""
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"these leases belong to process {self._pid}; this is its fork {os.getpid()}, "
                "where the threads that hold them do not exist. Make a new Runtime in the child"
            )

    def _wake(self, clock: Callable[[], int] = perf_counter_ns) -> None:
        """Called by the registry, after an entry was removed; runs inside the collector too."""
        now = clock()
        for waiter in self._waiters:
            if waiter.is_satisfied:
                # `SimpleQueue.put` is re-entrant. An Event is not: its lock may be held below us.
                waiter.wake.put(now)

    def __len__(self) -> int:
        return len(self._live)


class Waiter:
    """One wait for a ledger to run empty, woken by the release itself; can be cancelled.

    Attributes:
        threshold: the wait is over when at most this many leases are alive.
        wake: the queue for the time of a release (`perf_counter_ns`), or None from `cancel`.
    """

    __slots__ = ("_ledger", "threshold", "wake")

    def __init__(self, ledger: Ledger, threshold: int, wake: Wake) -> None:
        self._ledger: Final = ledger
        self.threshold: Final = threshold
        self.wake: Final = wake

    @property
    def is_satisfied(self) -> bool:
        """Whether few enough leases are alive."""
        return len(self._ledger) <= self.threshold

    def cancel(self) -> None:
        """Make `wait` return None, now or when it is called."""
        self.wake.put(None)

    def collect(self, schedule: CollectionSchedule) -> None:
        """Find what no release wakes this wait for: leases in garbage, an interrupted callback."""
        schedule.collect()
        self._ledger.sweep()

    def close(self) -> None:
        """Stop being woken."""
        self._ledger.forget(self)

    def wait(self, timeout: float | None) -> Drained | None:
        """Block until the threshold is reached, then close.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            The outcome, or None if the time ran out or the wait was cancelled.

        Raises:
            ForkedRuntimeError: in a forked child.
        """
        self._ledger.check_process()
        schedule = CollectionSchedule(timeout)
        released_ns: int | None = None
        try:
            # A loop, and not one `get`: a release may leave other leases alive, and a wake-up may
            # be an old one. Only the length decides.
            while not self.is_satisfied:
                try:
                    released_ns = self.wake.get(timeout=schedule.until_next())
                except Empty:
                    if schedule.is_over:
                        return None
                    self.collect(schedule)
                else:
                    if released_ns is None:
                        return None
        finally:
            self.close()
        return Drained(schedule.waited, wakeup_of(released_ns))


def wakeup_of(released_ns: int | None) -> float | None:
    """Seconds from a release to now; None for no release."""
    return None if released_ns is None else (perf_counter_ns() - released_ns) / 1e9
