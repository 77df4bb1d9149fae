"""Threads that plan for event loops: so many, with a queue of so many before them.

The problem: planning is native code that nothing gets out of, and a SQL text of a few kilobytes can
take minutes of it. In an event loop's own pool of threads a handful of such texts would hold up
whatever else the loop has done there; threads without limit would be as many as anybody likes to
have made.

The idea: a crew of its own. Who comes when all of it is taken and the queue is full is told so at
once (`BusyError`). A planning that nobody waits for any more goes on to its end, as it must; one
that has not begun by then is dropped. The threads are daemons, so that a stuck one does not hold up
the end of the process, and end when they have been idle for a while.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_IDLE_S: Final = 10.0


class Crew:
    """Threads that do work for event loops.

    Args:
        threads: how many at most.
        waiting: how many may wait for one.
    """

    __slots__ = ("_jobs", "_lock", "_most", "_taken", "_threads", "_waiting")

    # ``_lock`` guards the two counts; a job is put, and a thread decides to end, while holding it.

    def __init__(self, threads: int, waiting: int) -> None:
        self._lock: Final = threading.Lock()
        self._most: Final = threads
        self._waiting: Final = waiting
        self._jobs: Final[SimpleQueue[_Job]] = SimpleQueue()
        self._threads = 0
        self._taken = 0  # jobs that wait or are under way

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` on a thread; cancelling this drops it if it has not begun.

        Raises:
            BusyError: too many wait already.
            Exception: whatever `work` raises.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        del work  # who is cancelled leaves a frame behind, which must not keep a query
        self._put(job)
        try:
            answer: T = await job.answer
            return answer
        finally:
            job.drop()

    def _put(self, job: _Job) -> None:
        with self._lock:
            if self._taken >= self._most + self._waiting:
                raise BusyError
            self._taken += 1
            self._jobs.put(job)
            if self._threads >= min(self._most, self._taken):
                return
            self._threads += 1
        threading.Thread(target=self._serve, name="epochal-planner", daemon=True).start()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            job.do()
            del job
            with self._lock:
                self._taken -= 1

    def _next(self) -> _Job | None:
        while True:
            try:
                return self._jobs.get(timeout=_IDLE_S)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return None


class _Job:
    """Work, and the future that waits for it; `work` is taken by whoever is first."""

    __slots__ = ("_context", "_loop", "_work", "answer")

    def __init__(
        self,
        work: Callable[[], Any],
        loop: asyncio.AbstractEventLoop,
        answer: asyncio.Future[Any],
    ) -> None:
        self._work: Final = [work]
        self._loop: Final = loop
        self._context: Final = copy_context()
        self.answer: Final = answer

    def drop(self) -> None:
        """Do it no more, if it has not begun."""
        with suppress(IndexError):
            self._work.pop()

    def do(self) -> None:
        try:
            work = self._work.pop()
        except IndexError:
            return
        try:
            value, error = self._context.run(work), None
        except BaseException as raised:  # noqa: BLE001  raised where the answer is awaited
            value, error = None, raised
        del work
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(_settle, self.answer, value, error)
        del value, error


def _settle(answer: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if answer.done():  # cancelled
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
