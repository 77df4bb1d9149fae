"""Waiting for the engine elsewhere, so that the caller may stop waiting.

The problem: a thread that plans a query or fetches a batch is inside native code until that is
done, which may take minutes, and nothing gets it out: no other thread, no time limit. A query that
calls plugin functions is stopped by these; one that calls none is not.

The idea: in the cases where that matters, somebody else does it, and the caller waits for the
answer or for the query's end, whichever is first. Batches are awaited by an event loop on a thread
of its own (`Fetcher`): giving such a wait up stops the engine too, at its next yield. Planning
cannot be awaited, so it has threads (`Waiters`); a planning that nobody waits for any more goes on
to its end, and its thread then takes the next.

Fetching this way costs 0.1 ms a batch, a fifth of a small query, so it is not done for queries that
call plugin functions and have no time limit.
"""

from __future__ import annotations

import asyncio
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from epochal.sql.execution import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from datafusion.record_batch import RecordBatch

    from epochal.sql.execution import Execution

T = TypeVar("T")

_IDLE_S: Final = 10.0
"""For so long a thread without work waits for more before it ends."""


async def next_batch(execution: Execution) -> RecordBatch | None:
    """A query's next batch; None at its end. Cancelling it stops the engine."""
    if execution.stream is None:
        return None
    try:
        return await execution.stream.__anext__()
    except StopAsyncIteration:
        return None


class Fetcher:
    """An event loop that awaits batches for threads; its thread starts with the first."""

    __slots__ = ("_is_ending", "_lock", "_loop", "_thread")

    # All three are set once, under ``_lock``. The thread does not refer to the fetcher, so that
    # dropping the fetcher ends it.

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_ending = False

    def fetch(self, execution: Execution) -> RecordBatch | None:
        """A query's next batch; None at its end.

        Raises:
            QueryError: the query ended first: by its time limit, or by somebody else.
            Exception: whatever the engine raises.
        """
        fetching = self._begin(next_batch(execution))
        try:
            with execution.waking(fetching.cancel):
                return fetching.result(execution.remaining)
        except (asyncio.CancelledError, TimeoutError):
            execution.check()
            raise
        finally:
            fetching.cancel()  # late, or interrupted by Ctrl-C; otherwise it does nothing

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._running_loop())
        except RuntimeError:  # closed this instant, after the query was stopped
            work.close()
            raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                # The thread makes the loop: were this one interrupted by Ctrl-C between the two
                # steps, there would be a loop that nobody runs.
                made = SimpleQueue[asyncio.AbstractEventLoop]()
                self._thread = threading.Thread(
                    target=_run, args=(made,), name="epochal-fetcher", daemon=True
                )
                self._thread.start()
                self._loop = made.get()
            return self._loop

    def close(self, timeout: float) -> None:
        """End the thread; waits `timeout` seconds for it. May be called again, to wait longer."""
        with self._lock:
            loop, thread, is_ending = self._loop, self._thread, self._is_ending
            self._is_ending = loop is not None
        if loop is None or thread is None:
            return
        if not is_ending:  # once: stopped again it would leave what is ending in it unfinished
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():  # it may be where the fetcher is dropped
            thread.join(timeout)

    def __del__(self) -> None:
        self.close(0.0)


def _run(made: SimpleQueue[asyncio.AbstractEventLoop]) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    made.put(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()


class Waiters:
    """Threads that plan on behalf of others; started as needed."""

    __slots__ = ("_idle",)

    # ``_idle`` is a list used from both sides by any thread: `pop`, `append` and `remove` are one
    # step each. A waiter is in it, or has work, or is about to end.

    def __init__(self) -> None:
        self._idle: Final[list[_Waiter]] = []

    def run(self, work: Callable[[], T], execution: Execution) -> T:
        """Run `work` on another thread until it is done or the query ends.

        Raises:
            QueryError: the query ended first: by its time limit, or by somebody else.
            BaseException: whatever `work` raises.
        """
        answer: SimpleQueue[tuple[Any, BaseException | None] | None] = SimpleQueue()
        try:
            waiter = self._idle.pop()
        except IndexError:
            waiter = _Waiter(self._idle)
        waiter.work.put((work, answer))
        with execution.waking(lambda: answer.put(None)):
            got = _get(answer, execution)
        if got is None and execution.ending is EndReason.FAILED:
            got = answer.get()  # the work itself failed, and says why in a moment
        if got is None:
            execution.check()
            raise AssertionError("woken without an end")  # pragma: no cover
        value, error = got
        if error is not None:
            try:
                raise error
            finally:
                del error, got  # no cycle through this frame
        return cast("T", value)


def _get(
    answer: SimpleQueue[tuple[Any, BaseException | None] | None], execution: Execution
) -> tuple[Any, BaseException | None] | None:
    try:
        return answer.get(timeout=execution.remaining)
    except Empty:
        execution.stop(EndReason.EXPIRED)
        return None


class _Waiter:
    """One such thread."""

    __slots__ = ("_idle", "work")

    def __init__(self, idle: list[_Waiter]) -> None:
        self._idle: Final = idle
        self.work: Final[SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]]]] = SimpleQueue()
        threading.Thread(target=self._serve, name="epochal-waiter", daemon=True).start()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            work, answer = job
            del job
            outcome = _attempt(work)
            del work
            self._idle.append(self)  # before the answer, so that who gets it finds this one idle
            answer.put(outcome)
            del answer, outcome

    def _next(self) -> tuple[Callable[[], Any], SimpleQueue[Any]] | None:
        while True:
            try:
                return self.work.get(timeout=_IDLE_S)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:  # taken this instant: its work is about to come
                    continue
                return None


def _attempt(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001  # raised where the answer is read
        return None, error
