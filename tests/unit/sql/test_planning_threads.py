"""A few threads plan for event loops; more of them only while these hang."""

import asyncio
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from epochal.errors import BusyError, QueryTimeoutError
from epochal.sql import planning_threads
from epochal.sql.planning_threads import PlanningThreads

LIMIT_S = 20


class Query:
    """A query whose planning is `work`."""

    def __init__(self, work, error=None):
        self.start = work
        self.execution = SimpleNamespace(
            end_reason=None, remaining=None if error is None else 0.0, check=lambda: _raise(error)
        )


def _raise(error):
    if error is not None:
        raise error


def run(planning, work, **more):
    return planning.arun(Query(work, **more), lambda _: None)


@contextmanager
def gates(count):
    """Works that begin, and wait for the end of the block."""
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def work():
        begun.release()
        go_on.wait(LIMIT_S)
        return "done"

    try:
        yield work, lambda: [begun.acquire(timeout=LIMIT_S) for _ in range(count)]
    finally:
        go_on.set()


def test_a_query_beyond_the_queue_is_refused_at_once():
    planning = PlanningThreads(1, 1, 1)

    async def main():
        with gates(1) as (work, wait_begun):
            first = asyncio.create_task(run(planning, work))
            assert all(await asyncio.to_thread(wait_begun))
            second = asyncio.create_task(run(planning, lambda: "too"))
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await run(planning, work)
        assert await asyncio.gather(first, second) == ["done", "too"]
        assert await run(planning, lambda: 3) == 3

    asyncio.run(main())


def test_cancelled_work_is_never_begun():
    planning, done = PlanningThreads(1, 1, 9), []

    async def main():
        with gates(1) as (work, wait_begun):
            first = asyncio.create_task(run(planning, work))
            assert all(await asyncio.to_thread(wait_begun))
            second = asyncio.create_task(run(planning, lambda: done.append(2)))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.wait([second])
        await first
        await run(planning, lambda: done.append(3))

    asyncio.run(main())
    assert done == [3]


def test_an_error_of_the_work_is_raised_where_it_is_awaited():
    def work():
        raise ValueError("so it is")

    with pytest.raises(ValueError, match="so it is"):
        asyncio.run(run(PlanningThreads(), work))


def test_a_hundred_plannings_at_once_use_the_few_threads():
    planning, threads = PlanningThreads(2), set()

    async def main():
        works = [run(planning, lambda: threads.add(threading.get_ident())) for _ in range(100)]
        await asyncio.gather(*works)

    asyncio.run(main())
    assert len(threads) <= 2


def test_while_plannings_hang_others_are_planned(monkeypatch):
    monkeypatch.setattr(planning_threads, "_HANG_S", 0.001)
    planning = PlanningThreads(2, 16)

    async def main():
        with gates(15) as (work, wait_begun):
            hanging = [asyncio.create_task(run(planning, work)) for _ in range(15)]
            assert all(await asyncio.to_thread(wait_begun))
            assert await asyncio.wait_for(run(planning, lambda: 3), LIMIT_S) == 3
        assert await asyncio.gather(*hanging) == ["done"] * 15
        # The spare threads leave with the next plannings.
        for _ in range(100):
            await asyncio.gather(*[run(planning, lambda: 3) for _ in range(20)])
            if len(planning._serving) <= 2:
                break
        assert len(planning._serving) <= 2

    asyncio.run(main())


def test_a_query_whose_time_is_over_is_not_waited_for():
    planning = PlanningThreads()

    async def main():
        with gates(1) as (work, _), pytest.raises(QueryTimeoutError):
            await run(planning, work, error=QueryTimeoutError("late"))

    asyncio.run(main())
