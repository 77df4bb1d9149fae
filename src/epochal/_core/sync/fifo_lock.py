"""A first-come, first-served lock; a waiter can give up.

Changes of one runtime run one after another, in the order of their requests. `threading.Lock` would
serialise them, but it is not fair, and a waiting change must be able to leave the queue.

The lock is a queue of tickets, not a mutex around code: plugin code does run while its change holds
the lock. The only thing that such code could wait for, another change, is refused there with
`NestedChangeError`.

Threads
-------

Any thread changes the queue, in one step of the interpreter each, and grants the lock to the head
of the queue afterwards; a head that has it already is left alone. So the last thread that changes
the queue grants the lock to its head, and there is no lock inside that an interrupted thread could
leave locked. A ticket is made by its owner first, which can release it at any time from then on:
before it was queued, and more than once.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Final

from epochal._core.sync.completion import Completion


class Ticket(Completion[None]):
    """A place in the queue; done once the lock is granted to it."""

    __slots__ = ()


class FifoLock:
    """A fair lock."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: Final[deque[Ticket]] = deque()  # the first ticket holds the lock

    def acquire(self, ticket: Ticket) -> Ticket:
        """Queue up for the lock, without blocking.

        Args:
            ticket: the caller must release it, whatever happens in here.

        Returns:
            The ticket.
        """
        self._queue.append(ticket)
        self._grant()
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Release the lock, or leave the queue. The next ticket is granted. Idempotent."""
        with suppress(ValueError):  # it is not in the queue
            self._queue.remove(ticket)
        self._grant()

    def _grant(self) -> None:
        with suppress(IndexError):  # the queue is empty
            self._queue[0].set_result(None)
