"""A fair lock: tickets are granted in order, and a ticket can leave the queue."""

import threading

from epochal._core.sync.fifo_lock import FifoLock, Ticket


def test_a_free_lock_is_granted_at_once():
    assert FifoLock().acquire(Ticket()).done()


def test_tickets_are_granted_in_the_order_of_their_requests():
    lock = FifoLock()
    first, second, third = (lock.acquire(Ticket()) for _ in range(3))
    assert (first.done(), second.done(), third.done()) == (True, False, False)
    lock.release(first)
    assert (second.done(), third.done()) == (True, False)
    lock.release(second)
    assert third.done()


def test_a_ticket_that_leaves_the_queue_is_skipped():
    lock = FifoLock()
    first, second, third = (lock.acquire(Ticket()) for _ in range(3))
    lock.release(second)
    assert not third.done()
    lock.release(first)
    assert third.done()
    assert not second.done()


def test_a_second_release_does_nothing():
    lock = FifoLock()
    first, second, third = (lock.acquire(Ticket()) for _ in range(3))
    lock.release(first)
    lock.release(first)
    assert second.done()
    assert not third.done()


def test_a_callback_of_a_granted_ticket_may_use_the_lock():
    lock = FifoLock()
    first, second = lock.acquire(Ticket()), lock.acquire(Ticket())
    released = threading.Event()
    second.add_done_callback(lambda ticket: (lock.release(ticket), released.set()))
    lock.release(first)
    assert released.is_set()
    assert lock.acquire(Ticket()).done()


def test_a_ticket_that_was_never_queued_can_be_released():
    lock = FifoLock()
    first = lock.acquire(Ticket())
    lock.release(Ticket())
    second = lock.acquire(Ticket())
    assert not second.done()
    lock.release(first)
    assert second.done()
