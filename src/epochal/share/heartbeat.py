"""Leases for the cluster: what a process needs kept, said again and again until it dies.

A lease of this process is a reference, and the interpreter counts it. A process on another machine
can only be believed: it writes into the share which epochs it needs and until when, and renews that
long before the time is over. When it dies, its leases expire. A worker that drops an epoch too
early builds it again in some milliseconds, so nothing but the share's collection relies on them.

One file for each process has all its leases, so a renewal is one small write, however many there
are. Clocks of the machines may differ by as much as a lease lasts, at most.

Threads: ``_lock`` guards the leases and is not held while the share is written; one that its holder
dropped leaves in one step, without it. One thread renews, from the first lease to `close`; `add`
and `remove` write at once, on their caller's thread. ``_writing`` lets one write at a time through,
in order, so that no older content is written last.
A forked child has none of these threads, and another name: it starts afresh, with the leases that
it inherited.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import threading
import uuid
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from epochal._core.generation.operation import Operation
from epochal._core.sync.forks import in_forked_child
from epochal._core.sync.threads import start_thread
from epochal._core.sync.weak_registry import WeakRegistry, once_gone
from epochal.errors import ShareError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from epochal._core.generation.ambient import Ambient
    from epochal._core.generation.epoch import Epoch
    from epochal.share.share import Share

T = TypeVar("T")

LEASE_S: Final = 30.0
"""How long a lease lasts after its process was last heard of."""


class _Forks(Protocol):
    def after_fork(self) -> None:
        """Start afresh in a forked child, before any other code of it."""


_forks: Final[WeakRegistry[_Forks]] = WeakRegistry()


def _after_fork() -> None:
    for each in _forks.live():
        each.after_fork()


in_forked_child(_after_fork)


def process_name() -> str:
    """This process, for people: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One lease in the share.

    Attributes:
        epoch: the id of the epoch.
        label: what it is for.
        process: the process that has it, `host:pid`.
        since: when it began, in seconds since 1970.
        until: when it ends, unless it is renewed.
    """

    epoch: str
    label: str
    process: str
    since: float
    until: float


class Presence:
    """What this process says of itself in the share, renewed until it is closed.

    Args:
        share: the share.
        folder: `leases` or `workers`.
        content: returns what it says, given when that ends. Called on any thread.
        warn: gets a line when a renewal fails; it is tried again.
        lease_s: seconds for which it is believed.
    """

    __slots__ = (
        *("__weakref__", "_content", "_lease_s", "_stop", "_thread", "_warn", "_writing"),
        *("_folder", "name", "share"),
    )

    def __init__(
        self,
        share: Share,
        folder: str,
        content: Callable[[float], Mapping[str, Any]],
        warn: Callable[[str], object],
        lease_s: float,
    ) -> None:
        self.share: Final = share
        self._folder: Final = folder
        self._content: Final = content
        self._warn: Final = warn
        self._lease_s: Final = lease_s
        self._stop = threading.Event()
        self._begin()
        _forks.add(self)

    def _begin(self) -> None:
        self.name = f"{self._folder}/{process_name()}:{uuid.uuid4().hex[:8]}.json"
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def after_fork(self) -> None:
        """Speak for the child, under a name of its own."""
        was_stopped, self._stop = self._stop.is_set(), threading.Event()
        if was_stopped:
            self._stop.set()
        self._begin()

    def write(self) -> None:
        """Say it now, and again until `close`.

        Raises:
            ShareError: the share cannot be written.
        """
        with self._writing:
            if self._stop.is_set():
                return
            content = self._content(self.share.clock() + self._lease_s)
            self.share.files.write(self.name, json.dumps(content).encode())
            if self._thread is None:
                self._thread = start_thread(self._renew, name="epochal share heartbeat")

    def _renew(self) -> None:
        # Not all processes of a cluster at once: they may have started together.
        while not self._stop.wait(self._lease_s / 3 * random.uniform(0.8, 1.0)):
            try:
                self.write()
            except ShareError as error:
                self._warn(str(error))

    def close(self) -> None:
        """Take it out of the share. Idempotent."""
        self._stop.set()
        with self._writing, suppress(ShareError):  # it expires
            if self._thread is not None:
                self.share.files.remove(self.name)


class LeaseBook:
    """The cluster leases of one process.

    Args:
        share: the share.
        warn: gets a line when a renewal fails.
        lease_s: seconds for which they last without a renewal.

    Attributes:
        share: the share.
    """

    __slots__ = ("__weakref__", "_leases", "_lock", "_presence", "share")

    def __init__(
        self, share: Share, warn: Callable[[str], object], lease_s: float = LEASE_S
    ) -> None:
        self.share: Final = share
        self._lock = threading.Lock()
        self._leases: Final[dict[object, tuple[str, str, float]]] = {}
        self._presence: Final = Presence(share, "leases", self._content, warn, lease_s)
        _forks.add(self)

    def after_fork(self) -> None:
        """Have a lock that no thread of the parent holds."""
        self._lock = threading.Lock()

    def _content(self, until: float) -> Mapping[str, Any]:
        with self._lock:
            leases = list(self._leases.values())
        process = process_name()
        records = [LeaseRecord(epoch, label, process, at, until) for epoch, label, at in leases]
        return {"until": until, "leases": [asdict(record) for record in records]}

    def add(self, key: object, epoch: str, label: str) -> None:
        """Add a lease, or move it to another epoch; it is in the share when this returns.

        Raises:
            ShareError: it cannot be written; the lease is not there.
        """
        with self._lock:
            before = self._leases.get(key)
            self._leases[key] = epoch, label, self.share.clock()
        try:
            self._presence.write()
        except BaseException:
            with self._lock:
                if before is None:
                    self._leases.pop(key, None)
                else:
                    self._leases[key] = before
            raise

    def remove(self, key: object) -> None:
        """End a lease; if the share cannot be written now, the next renewal says so."""
        with self._lock:
            if self._leases.pop(key, None) is None:
                return
        with suppress(ShareError):
            self._presence.write()

    def forget(self, key: object) -> None:
        """End a lease that its holder dropped; the next renewal says so."""
        # A weak reference's callback, on any thread: one step of the dictionary, without the lock.
        self._leases.pop(key, None)

    def close(self) -> None:
        """End all of them. Idempotent."""
        self._presence.close()


def said_in(
    share: Share, folder: str, read: Callable[[dict[str, Any]], Iterable[T]]
) -> Iterator[T]:
    """What the living processes say in a folder of the share.

    Args:
        share: the share.
        folder: `leases` or `workers`.
        read: makes records of what one process says. A file that it cannot make any of, since
            another version or another program wrote it, says nothing here.

    Raises:
        ShareError: the share cannot be read.
    """
    now = share.clock()
    for name in share.files.list(folder):
        content = share.files.read(f"{folder}/{name}")
        if content is None:
            continue  # its process has ended meanwhile
        records: list[T] = []
        with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
            said = json.loads(content)
            if said["until"] > now:
                records = list(read(said))
        yield from records


def leases_of(share: Share) -> list[LeaseRecord]:
    """The leases in a share that have not expired.

    Raises:
        ShareError: the share cannot be read.
    """
    return list(said_in(share, "leases", _leases))


def _leases(said: dict[str, Any]) -> Iterator[LeaseRecord]:
    for lease in said["leases"]:
        yield LeaseRecord(
            str(lease["epoch"]),  # no more is needed: collection keeps what another version names
            str(lease.get("label", "")),
            str(lease.get("process", "")),
            float(lease.get("since", 0.0)),
            float(lease.get("until", said["until"])),
        )


class ClusterLease(Operation):
    """An operation whose epoch other processes keep, too; made by `Runtime.lease`.

    It is in the share from the beginning of its `with` block to its end, and expires when its
    process dies; one that is dropped without an end (a cancelled `async with` that waited for a
    slow share) is out of the share with the next renewal. Otherwise it is an operation like any
    other.
    """

    __slots__ = ("_book", "_key")

    def __init__(
        self, epoch: Epoch, label: str, ambient: Ambient[Operation], book: LeaseBook
    ) -> None:
        super().__init__(epoch, label, ambient)
        self._book: Final = book
        self._key: weakref.ref[ClusterLease] | None = None  # itself, without holding the epoch

    def __enter__(self) -> ClusterLease:
        self._add()
        self._enter(sys._getframe(1))  # noqa: SLF001  its only name
        return self

    async def __aenter__(self) -> ClusterLease:
        import asyncio  # the caller's loop has imported it

        frame = sys._getframe(1)  # noqa: SLF001  its only name
        await asyncio.to_thread(self._add)
        self._enter(frame)
        return self

    def _add(self) -> None:
        self._book.share.ensure(self.epoch)
        self._key = weakref.ref(self, once_gone(self._book.forget))
        self._book.add(self._key, self.id, self.label)

    def end(self) -> None:
        """End the operation, here and in the share. Idempotent."""
        super().end()
        self._book.remove(self._key)

    async def __aexit__(self, *exc: object) -> None:
        import asyncio  # the caller's loop has imported it

        try:
            await asyncio.to_thread(self._book.remove, self._key)
        finally:
            self.__exit__()
