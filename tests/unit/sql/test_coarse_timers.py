"""Timers that fire a tick late at most, and cost next to nothing when they do not fire."""

import asyncio
import gc
import weakref

import pytest

from epochal.sql.coarse_timers import TICK_S, TimeLimit, call_later

LIMIT_S = 20


def test_a_timer_fires_once_it_is_due_and_not_before():
    async def main():
        loop, fired = asyncio.get_running_loop(), asyncio.Event()
        started = loop.time()
        call_later(0.02, fired.set)
        await asyncio.wait_for(fired.wait(), LIMIT_S)
        assert loop.time() - started >= 0.02

    asyncio.run(main())


def test_a_cancelled_timer_does_not_fire():
    async def main():
        fired, last = [], asyncio.Event()
        timers = [call_later(0.0, lambda number=number: fired.append(number)) for number in (1, 2)]
        # The first that fires cancels the next one, which is due as well.
        call_later(0.0, last.set)
        timers[0].cancel()
        timers[0].cancel()
        await asyncio.wait_for(last.wait(), LIMIT_S)
        assert fired == [2]

    asyncio.run(main())


def test_a_timer_that_fires_can_cancel_another_that_is_due():
    async def main():
        fired, last = [], asyncio.Event()
        later = None
        call_later(0.0, lambda: (fired.append(1), later.cancel()))
        later = call_later(0.0, lambda: fired.append(2))
        call_later(TICK_S / 2, last.set)
        await asyncio.wait_for(last.wait(), LIMIT_S)
        assert fired == [1]

    asyncio.run(main())


def test_an_error_of_one_timer_does_not_stop_the_others():
    async def main():
        loop, last, reported = asyncio.get_running_loop(), asyncio.Event(), []
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        call_later(0.0, lambda: 1 / 0)
        call_later(0.0, last.set)
        await asyncio.wait_for(last.wait(), LIMIT_S)
        assert [type(error) for error in reported] == [ZeroDivisionError]

    asyncio.run(main())


def test_a_loop_without_timers_does_not_tick_and_is_not_held():
    async def main():
        call_later(60.0, list).cancel()
        await asyncio.sleep(2 * TICK_S)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None


def test_a_time_limit_ends_a_block():
    async def main():
        with pytest.raises(TimeoutError):
            async with TimeLimit(0.01):
                await asyncio.sleep(LIMIT_S)
        task = asyncio.current_task()
        assert task.cancelling() == 0
        async with TimeLimit(LIMIT_S):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_cancel_from_outside_is_not_taken_for_the_time_limit():
    async def work(begun):
        async with TimeLimit(LIMIT_S):
            begun.set()
            await asyncio.sleep(LIMIT_S)

    async def main():
        begun = asyncio.Event()
        task = asyncio.create_task(work(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
