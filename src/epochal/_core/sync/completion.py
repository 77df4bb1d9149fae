"""A result or an error that comes once; threads, event loops and callbacks wait for it.

`concurrent.futures.Future` guards its state by a condition, which is written in Python. An
exception that a signal handler raises within it (Ctrl-C, a timer) may leave its lock acquired for
ever, so that the thread that is to set the result waits for ever; or it reaches the caller as
"cannot release un-acquired lock". Here every change of the state is one step of the interpreter, no
lock is taken, and a thread waits in C code, out of which the exception comes as itself.

Reads and writes
----------------

``_settled`` gets its one entry from the first thread that settles. ``_callbacks`` is changed by
any thread. A waiter adds its callback *before* it looks whether the completion is settled; a thread
settles *before* it looks for callbacks. So one of the two calls the callback, and perhaps both do:
a callback must be idempotent. It is removed after its call; if the call was interrupted, the next
thread that settles the completion, or adds a callback, calls it again.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class Completion(Generic[T]):
    """The completion of one piece of work, with its result or its error."""

    __slots__ = ("__weakref__", "_callbacks", "_settled")

    def __init__(self) -> None:
        self._settled: Final[dict[None, tuple[Any, BaseException | None]]] = {}
        self._callbacks: Final[deque[Callable[[Completion[T]], object]]] = deque()

    def done(self) -> bool:
        """Whether it has come."""
        return None in self._settled

    def set_result(self, result: T) -> None:
        """Settle it, if it is not settled yet. Idempotent; any thread."""
        self._settled.setdefault(None, (result, None))
        self.wake()

    def set_exception(self, error: BaseException) -> None:
        """`set_result` with an error."""
        self._settled.setdefault(None, (None, error))
        self.wake()

    def result(self) -> T:
        """Block until it has come; returns the result, or raises the error."""
        try:
            self.wait()
            if (error := self._settled[None][1]) is not None:
                raise error
            return cast("T", self._settled[None][0])
        finally:
            error = None
            del self  # the error's traceback keeps this frame: leave no cycle

    def exception(self) -> BaseException | None:
        """Block until it has come; returns the error, if it is one."""
        self.wait()
        return self._settled[None][1]

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has come.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            False if the time ran out.
        """
        return self.done() or wait_any((self,), timeout)

    async def wait_async(self) -> None:
        """`wait` in an asyncio event loop, without blocking it."""
        from asyncio import get_running_loop  # the caller's loop has imported it

        loop = get_running_loop()
        come: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not come.done():
                come.set_result(None)

        def wake_soon(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed, and its waiting task has ended
                loop.call_soon_threadsafe(wake)

        self.add_done_callback(wake_soon)
        await come

    def add_done_callback(self, callback: Callable[[Completion[T]], object]) -> None:
        """Have it called once the completion has come; at once, if it has.

        Args:
            callback: called with the completion, in any thread, perhaps more than once. It must not
                block, nor raise.
        """
        # Added, then the look: see above.
        self._callbacks.append(callback)
        if self.done():
            self.wake()

    def wake(self) -> None:
        """Call the callbacks that are yet to be called; only once it has come. Idempotent."""
        while self._callbacks:
            with suppress(IndexError, ValueError):  # another thread has called it
                callback = self._callbacks[0]
                callback(self)
                self._callbacks.remove(callback)


def wait_any(completions: Iterable[Completion[Any]], timeout: float | None = None) -> bool:
    """Block until one of several completions has come.

    Args:
        completions: at least one.
        timeout: seconds, any number of them; None for no limit.

    Returns:
        False if the time ran out.
    """
    come: SimpleQueue[object] = SimpleQueue()
    for completion in completions:
        completion.add_done_callback(come.put)
    if timeout is not None:  # the system takes neither less nor more
        timeout = min(max(0.0, timeout), TIMEOUT_MAX)
    try:
        come.get(timeout=timeout)
    except Empty:
        return False
    return True
