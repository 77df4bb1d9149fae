"""Whose turn it is to change the set of plugins.

Changes of one runtime run one after another, in the order in which they were asked for. A plain
lock would do, but a change that waits for its turn must be able to give up, and locks are not fair.

This is a queue of tickets, not a lock around code: plugin code does run while its change has the
turn, and the one thing that it could wait for, another change, is refused there with
`NestedChangeError`.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Final, TypeAlias

Ticket: TypeAlias = "Future[None]"


class FifoLock:
    """A first-come, first-served turn; a ticket is a future that is done when its turn has come."""

    __slots__ = ("_lock", "_queue")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        # The first ticket has the turn. Read and written under the lock alone.
        self._queue: Final[deque[Ticket]] = deque()

    def take(self) -> Ticket:
        """Queue up."""
        ticket: Ticket = Future()
        with self._lock:
            self._queue.append(ticket)
            first = self._queue[0] is ticket
        if first:
            ticket.set_result(None)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """End a turn, or leave the queue; whoever is first then has the turn. Again: nothing."""
        with self._lock:
            had_turn = bool(self._queue) and self._queue[0] is ticket
            if ticket in self._queue:
                self._queue.remove(ticket)
            following = self._queue[0] if had_turn and self._queue else None
        if following is not None:
            following.set_result(None)
