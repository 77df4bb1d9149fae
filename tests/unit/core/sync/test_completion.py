"""A completion comes once, wakes all that waits for it, and no interruption leaves it half."""

import asyncio
import gc
import signal
import threading
import weakref

import pytest

from epochal._core.sync.completion import Completion, wait_any

LIMIT_S = 20


def waiting(completion):
    """A thread that waits for a completion, and its results."""
    results = []
    thread = threading.Thread(target=lambda: results.append(completion.result()), daemon=True)
    thread.start()
    return thread, results


def test_the_first_result_counts_and_wakes_every_waiter():
    completion = Completion()
    waiters = [waiting(completion) for _ in range(3)]
    assert not completion.done()
    completion.set_result(1)
    completion.set_result(2)
    completion.set_exception(LookupError())
    for thread, results in waiters:
        thread.join(LIMIT_S)
        assert results == [1]
    assert completion.exception() is None


def test_an_error_is_raised_and_kept_by_no_frame_of_the_wait():
    class Held:
        pass

    def fail():
        held, completion = Held(), Completion()
        completion.set_exception(LookupError("no"))
        refs.append(weakref.ref(held))
        try:
            completion.result()
        except LookupError:
            del completion

    refs = []
    gc.disable()
    try:
        fail()
        assert refs[0]() is None
    finally:
        gc.enable()


def test_a_wait_ends_at_its_limit():
    completion = Completion()
    assert not completion.wait(0.0)
    completion.set_result(None)
    assert completion.wait(0.0)


def test_a_wait_for_several_ends_with_the_first():
    first, second = Completion(), Completion()
    assert not wait_any((first, second), 0.0)
    second.set_result(None)
    assert wait_any((first, second), 0.0)


def test_a_task_waits_without_blocking_its_loop_and_may_be_cancelled():
    async def main():
        completion = Completion()
        waiting = [asyncio.ensure_future(completion.wait_async()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        threading.Thread(target=completion.set_result, args=(1,)).start()
        await waiting[1]
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        return completion.result()

    assert asyncio.run(main()) == 1


def test_a_waiter_whose_loop_is_closed_keeps_no_other_from_waking():
    completion = Completion()

    async def wait_in_vain():
        waiting = asyncio.ensure_future(completion.wait_async())
        await asyncio.sleep(0)
        assert not waiting.done()

    asyncio.run(wait_in_vain())
    completion.set_result(1)
    assert completion.done()


def test_a_callback_that_was_interrupted_is_called_again():
    def interrupt(_):
        called.append(1)
        if len(called) == 1:
            raise KeyboardInterrupt

    called, completion = [], Completion()
    completion.add_done_callback(interrupt)
    with pytest.raises(KeyboardInterrupt):
        completion.set_result(1)
    completion.set_result(1)
    completion.set_result(1)
    assert len(called) == 2


def test_a_signals_exception_reaches_the_waiter_as_itself():
    class AlarmError(Exception):
        pass

    def ring(*_):
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    completion = Completion()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.02)  # a wait may miss the first one
        with pytest.raises(AlarmError):
            completion.result()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not completion.done()
    completion.set_result(1)
    assert completion.result() == 1


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, float("nan"), -1.0, 0.0])
def test_a_limit_may_be_any_number(seconds):
    completion = Completion()
    if not seconds > 0.0:
        assert not completion.wait(seconds)
    threading.Thread(target=completion.set_result, args=(1,)).start()
    assert completion.wait(seconds) or (completion.wait() and completion.wait(seconds))
