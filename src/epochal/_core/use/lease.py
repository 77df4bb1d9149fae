"""Leases: how in-flight use of a generation is known exactly, for nothing.

The problem: before an old version is shut down, somebody must know that nobody is inside it and
that nobody can still call it. Counting calls costs every call, and misses whoever kept the
function.

The idea: CPython counts already. A `Lease` is a token whose life *is* the use. What the host calls
*carries* it: an export is a new function object with the same code, whose `__dict__` holds the
lease. CPython's frames, generators and coroutines hold the function they run, so the lease lives
exactly as long as anybody can call the function or is inside it, and the call costs what a bare
call costs. The runtime keeps only a weak reference. When the last strong one goes, a callback runs
in the releasing thread and wakes whoever waits: no counter on the hot path, no lock, no poll.

Who reads, who writes
---------------------

``Ledger._live`` holds every lease that is alive.

* `issue` adds, from any thread. The owner of the ledger decides under its own lock whether a lease
  may still be issued; the ledger does not ask.
* The weak-reference callback and `Lease.release` remove. A callback runs anywhere, at any time, in
  any thread: inside the collector, inside an allocation, while its thread holds any lock. So it may
  only do what is re-entrant: one dict step (see `WeakRegistry`) and `SimpleQueue.put`.
* anybody reads its length, which is one step too.

``Ledger._waiters`` is an immutable tuple, replaced under ``_lock`` by the waiters themselves, read
without a lock by the callback, which sees the old tuple or the new one, whole.

A waiter registers itself *before* it looks at the length; a release removes its entry *before* it
reads the waiters. So either the waiter sees the shorter length, or the release sees the waiter.
Swap either pair and a release between the two steps wakes nobody.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from epochal._core.introspect.collector import collect
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import ForkedRuntimeError

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "epochal needs CPython with its global interpreter lock: it knows who uses a plugin from "
        "exact reference counts, which this interpreter "
        f"({sys.implementation.name} {sys.version.split()[0]}) does not keep"
    )

_COLLECT_AFTER_S: Final = ((0.05, 0), (0.25, 1), (1.0, 1), (5.0, 2))
_COLLECT_FULL_EVERY_S: Final = 60.0
_COLLECT_AGAIN_S: Final = 0.05
"""After one that another thread was in."""

Wake: TypeAlias = "SimpleQueue[int | None]"
"""What wakes a waiter: the time of a release in `perf_counter_ns`, or None to give up."""


class Lease:
    """A token whose life is the in-flight use of one generation.

    It ends when `release` is called or when nothing refers to it any more, whichever is first.
    Made by `PluginLifecycle.lease`; also a context manager.

    Attributes:
        label: what it is for, in a person's words.
    """

    __slots__ = ("__weakref__", "_ledger", "key", "label")

    def __init__(self, ledger: Ledger, label: str) -> None:
        self._ledger: Final = ledger
        self.key = 0
        self.label: Final = label

    def release(self) -> None:
        """End the use now. Calling it again does nothing."""
        self._ledger.settle(self)

    @property
    def released(self) -> bool:
        """Whether it has ended."""
        return not self._ledger.is_alive(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def __reduce__(self) -> Any:
        raise TypeError("a lease is in-flight use in this process; it cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<lease {self.label}{' (released)' if self.released else ''}>"


class RevocableLease:
    """A lease that can be taken back: what a dependent holds of a plugin that it requires.

    A dependent that leaks must never keep what it requires from draining, so its exports of others
    carry a borrow, and the runtime empties it when the dependent is removed.

    Attributes:
        lease: the lease, until it is taken back. Written by the runtime once, read by nobody but
            the collector and diagnostics.
        dependent: who borrowed, `plugin#generation`.
    """

    __slots__ = ("__weakref__", "dependent", "lease")

    def __init__(self, lease: Lease, dependent: str) -> None:
        self.lease: Lease | None = lease
        self.dependent: Final = dependent

    def release(self) -> None:
        """Let the lease go, whoever still refers to this borrow."""
        self.lease = None

    def __reduce__(self) -> Any:
        raise TypeError("a borrowed export is in-flight use in this process; it cannot be pickled")


@dataclass(frozen=True, slots=True)
class Drained:
    """How a wait for the last lease went.

    Attributes:
        waited: seconds from the call to the return.
        wakeup: seconds from the last release to this thread running again; None when no release
            woke it: there was nothing to wait for, or it found so when it looked.
    """

    waited: float
    wakeup: float | None


class Ledger:
    """Every live lease of one generation, held weakly, and whoever waits for the last to go."""

    __slots__ = ("__weakref__", "_live", "_lock", "_pid", "_waiters")

    def __init__(self) -> None:
        self._live: Final[WeakRegistry[Lease]] = WeakRegistry(self._wake)
        self._lock: Final = threading.Lock()
        self._waiters: tuple[Waiter, ...] = ()
        self._pid: Final = os.getpid()

    def issue(self, label: str) -> Lease:
        """Make a lease and count it."""
        lease = Lease(self, label)
        lease.key = self._live.add(lease)
        return lease

    def settle(self, lease: Lease) -> None:
        """Count a lease out, whether or not it dies."""
        self._live.drop(lease.key)

    def is_alive(self, lease: Lease) -> bool:
        """Whether a lease counts."""
        return lease.key in self._live

    def live(self) -> list[Lease]:
        """The leases alive now; while the list is held they stay so."""
        return self._live.live()

    def waiter(self, threshold: int = 0, wake: Wake | None = None) -> Waiter:
        """Register somebody who waits until at most `threshold` leases are alive."""
        waiter = Waiter(self, threshold, SimpleQueue() if wake is None else wake)
        with self._lock:
            self._waiters = (*self._waiters, waiter)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Take a waiter off again."""
        with self._lock:
            self._waiters = tuple(other for other in self._waiters if other is not waiter)

    def check_process(self) -> None:
        """Raise `ForkedRuntimeError` in a child that inherited this ledger by `fork`."""
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"these leases belong to process {self._pid}; this is its fork {os.getpid()}, "
                "where the threads that hold them do not exist. Make a new Runtime in the child"
            )

    def _wake(self) -> None:
        now = perf_counter_ns()
        for waiter in self._waiters:
            if waiter.is_satisfied:
                waiter.wake.put(now)

    def __len__(self) -> int:
        return len(self._live)


class Waiter:
    """One wait for a ledger to run empty, woken by the release itself; can be cancelled.

    Attributes:
        threshold: the wait is over when at most so many leases are alive.
        wake: where a release puts its time (`perf_counter_ns`), and `cancel` puts None.
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

    def close(self) -> None:
        """Stop being woken."""
        self._ledger.forget(self)

    def wait(self, timeout: float | None) -> Drained | None:
        """Block until the threshold is reached, then close.

        Args:
            timeout: seconds; None waits for ever.

        Returns:
            How it went, or None if the time ran out or the wait was cancelled.

        Raises:
            ForkedRuntimeError: in a forked child.
        """
        self._ledger.check_process()
        patience = CollectionSchedule(timeout)
        released_ns: int | None = None
        try:
            while not self.is_satisfied:
                try:
                    released_ns = self.wake.get(timeout=patience.until_next())
                except Empty:
                    if patience.is_over:
                        return None
                    patience.collect()
                else:
                    if released_ns is None:
                        return None
        finally:
            self.close()
        return Drained(patience.waited, wakeup_of(released_ns))


def wakeup_of(released_ns: int | None) -> float | None:
    """Seconds from a release to now; None for no release."""
    return None if released_ns is None else (perf_counter_ns() - released_ns) / 1e9


class CollectionSchedule:
    """How long to wait, and when to ask the collector on the way.

    A reference cycle (an exception that its own frame refers to, say) holds a lease until the
    collector runs. A full collection stops every thread, half a second on a heap of ten million
    objects, so a waiter asks for young collections first and for a full one rarely and late; nobody
    collects when nobody waits.

    Args:
        timeout: seconds from now; None for ever.
    """

    __slots__ = ("_alarms", "_collect_at", "_deadline", "_generation", "_started")

    def __init__(self, timeout: float | None) -> None:
        self._started: Final = monotonic()
        self._deadline: Final = None if timeout is None else self._started + timeout
        self._alarms: Final = _alarms(self._started)
        self._collect_at, self._generation = next(self._alarms)

    @property
    def waited(self) -> float:
        """Seconds since the wait began."""
        return monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """Whether the time has run out."""
        return self._deadline is not None and monotonic() >= self._deadline

    def until_next(self) -> float:
        """Seconds until the next collection is due or the time runs out, whichever is first."""
        until = self._collect_at
        if self._deadline is not None:
            until = min(until, self._deadline)
        return max(0.0, until - monotonic())

    def collect(self) -> None:
        """Run the collection that is due, if one is; again soon where another thread is in one."""
        if monotonic() >= self._collect_at:
            if collect(self._generation):
                self._collect_at, self._generation = next(self._alarms)
            else:
                self._collect_at = monotonic() + _COLLECT_AGAIN_S


def _alarms(started: float) -> Iterator[tuple[float, int]]:
    for after, generation in _COLLECT_AFTER_S:
        yield started + after, generation
    last = started + _COLLECT_AFTER_S[-1][0]
    for minute in itertools.count(1):
        yield last + minute * _COLLECT_FULL_EVERY_S, 2
