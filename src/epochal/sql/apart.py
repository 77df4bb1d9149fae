"""Waiting for the engine on another thread, so that the caller may stop waiting.

The problem: a thread that fetches a batch is inside native code until the batch is there, which may
take minutes, and nothing gets it out: no other thread, no time limit, not even Ctrl-C (all three were
tried). A query that calls plugin functions is stopped by these; one that calls none is not.

The idea: in the cases where that matters, another thread fetches. The caller waits for its answer or
for the query's end, whichever is first. A fetch that nobody waits for any more goes on to the
engine's next batch, and its thread then takes the next work.

It costs 0.1 ms a batch, a fifth of a small query, so it is not done for queries that call plugin
functions and have no time limit.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal.sql.execution import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.sql.execution import Execution

T = TypeVar("T")

_IDLE_S: Final = 10.0
"""For so long a thread without work waits for more before it ends."""


class Waiters:
    """Threads that wait for the engine on behalf of others; started as needed."""

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
        if got is None:
            execution.check()
            raise AssertionError("woken without an end")  # pragma: no cover
        value, error = got
        if error is not None:
            try:
                raise error
            finally:
                del error, got  # no cycle through this frame
        return value


def _get(
    answer: SimpleQueue[tuple[Any, BaseException | None] | None], execution: Execution
) -> tuple[Any, BaseException | None] | None:
    try:
        return answer.get(timeout=execution.remaining)
    except Empty:
        execution.stop(Ending.EXPIRED)
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
    except BaseException as error:
        return None, error
