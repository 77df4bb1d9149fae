"""A first-come, first-served lock; a waiter can give up.

Changes of one runtime run one after another, in the order of their requests. `threading.Lock` would
serialise them, but it is not fair, and a waiting change must be able to leave the queue.

The lock is a queue of tickets, not a mutex around code: plugin code does run while its change holds
the lock. The only thing that such code could wait for, another change, is refused there with
`NestedChangeError`.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Final, TypeAlias

Ticket: TypeAlias = "Future[None]"


class FifoLock:
    """A fair lock; a ticket is a future that is done once the lock is granted to it."""

    __slots__ = ("_lock", "_queue")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        # The first ticket holds the lock. Read and written under `_lock` alone: a ticket that
        # leaves between a look at the head and its removal would be granted the lock, or grant it
        # a second time.
        self._queue: Final[deque[Ticket]] = deque()

    def acquire(self) -> Ticket:
        """Queue up for the lock, without blocking."""
        ticket: Ticket = Future()
        with self._lock:
            self._queue.append(ticket)
            is_first = self._queue[0] is ticket
        # Outside `_lock`, here and in `release`: a future calls its callbacks, which are foreign.
        if is_first:
            ticket.set_result(None)
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Release the lock, or leave the queue. The next ticket is granted. Idempotent."""
        with self._lock:
            had_lock = bool(self._queue) and self._queue[0] is ticket
            if ticket in self._queue:
                self._queue.remove(ticket)
            successor = self._queue[0] if had_lock and self._queue else None
        if successor is not None:
            successor.set_result(None)
