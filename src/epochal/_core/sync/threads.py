"""One call on a thread of its own, which both threads and event loops can wait for.

Why not a pool: what runs here may block for as long as a drain lasts, or for ever (a plugin's
`init`). In a shared pool a few of those would hold up the work that is to end them.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def call_on_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Start `work` on a new daemon thread.

    Args:
        work: what to call.
        name: the thread's name, for whoever reads a stack dump.

    Returns:
        A future that has begun to run: it cannot be cancelled. Its exception may be any
        `BaseException`; `asyncio.wrap_future` makes it awaitable.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(work, future), name=name, daemon=True).start()
    return future


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  handed to whoever waits, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)
        del result
    finally:
        # The exception's traceback holds this frame; a frame that held the future would close a
        # circle, and the plugin's frames in that traceback would wait for the collector.
        del work, future
