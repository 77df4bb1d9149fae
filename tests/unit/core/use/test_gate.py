"""Gates: nobody is inside while state moves, and nobody waits for who waits for him."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context

import pytest

from epochal._core.use.gate import Admission, Gate, GateClosure


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as pool:
        yield pool


def until(condition):
    """Wait for a condition that another thread brings about; ends with the test's time limit."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def test_a_closing_waits_for_who_is_inside(gate, pool):
    visit = gate.enter()
    closing = GateClosure([gate])
    assert not closing.close(0.01)
    done = pool.submit(closing.close, 10)
    until(lambda: gate._closing is closing)
    gate.leave(visit)
    assert done.result(10)


def test_who_comes_waits_until_it_is_open(gate, pool):
    closing = GateClosure([gate])
    assert closing.close(0)
    waiting = pool.submit(gate.enter)
    until(lambda: closing._waiting)
    assert not waiting.done()
    closing.open()
    assert waiting.result(10).gate is gate


def test_who_comes_as_it_opens_does_not_wait_for_ever(gate, pool):
    """Whichever is first, the wake-up or the look: many times, from many threads."""
    for _ in range(200):
        closing = GateClosure([gate])
        assert closing.close(10)
        coming = [pool.submit(gate.enter) for _ in range(4)]
        closing.open()
        for one in coming:
            gate.leave(one.result(10))


def test_a_wait_that_begins_as_it_opens_ends(gate):
    closing = GateClosure([gate])
    assert closing.close(0)
    closing.open()
    visit = Admission(gate, None)
    late = threading.Thread(target=closing.wait, args=(visit,), daemon=True)
    late.start()
    late.join(10)
    assert not late.is_alive()
    assert asyncio.run(closing.wait_async(visit)) is None


def test_a_visit_that_is_dropped_has_left(gate, pool):
    """Ctrl-C between `enter` and the `try` after it drops the visit with its frame."""
    visit = gate.enter()
    closing = GateClosure([gate])
    done = pool.submit(closing.close, 10)
    until(lambda: gate._closing is closing)
    del visit
    assert done.result(10)


def test_leaving_twice_lets_nobody_else_out(gate):
    first, second = gate.enter(), gate.enter()
    gate.leave(first)
    gate.leave(first)
    assert gate.inside() == [second]
    assert not GateClosure([gate]).close(0)


def test_a_call_from_inside_another_is_let_in(gate):
    visit = gate.enter()
    closing = GateClosure([gate])
    assert not closing.close(0)
    gate.leave(gate.enter())  # it would wait for ever
    gate.leave(visit)
    assert closing.close(0)


def test_so_it_is_by_way_of_a_thread_that_has_its_context(gate, pool):
    visit = gate.enter()
    closing = GateClosure([gate])
    assert not closing.close(0)
    inner = pool.submit(copy_context().run, gate.enter).result(10)
    gate.leave(inner)
    gate.leave(visit)


def test_gates_that_close_together_let_in_whoever_is_inside_any(pool):
    one, other = Gate(), Gate()
    both = threading.Barrier(2)
    go_on = threading.Event()

    def cross(first, second):
        outer = first.enter()
        both.wait(10)
        go_on.wait(10)
        second.leave(second.enter())
        first.leave(outer)

    crossing = [pool.submit(cross, one, other), pool.submit(cross, other, one)]
    closing = GateClosure([one, other])
    done = pool.submit(closing.close, 10)
    until(lambda: other._closing is closing and len(other.inside()) == 1)
    go_on.set()
    assert done.result(10)
    for one_of_two in crossing:
        one_of_two.result(10)


def test_who_moves_the_state_is_let_in_and_nobody_else(gate, pool):
    closing = GateClosure([gate])
    assert closing.close(0)
    assert gate.is_moving_here()
    gate.leave(gate.enter())
    assert not pool.submit(gate.is_moving_here).result(10)
    waiting = pool.submit(gate.enter)
    until(lambda: closing._waiting)
    closing.open()
    assert not gate.is_moving_here()
    waiting.result(10)


def test_a_wait_that_is_given_up_ends(gate, pool):
    visit = gate.enter()
    closing = GateClosure([gate])
    done = pool.submit(closing.close, None)
    until(lambda: gate._closing is closing)
    closing.give_up()
    assert not done.result(10)
    closing.open()
    gate.leave(gate.enter())
    gate.leave(visit)


def test_a_loop_is_not_blocked_under_a_call_that_goes_on_in_it(gate, pool):
    async def main():
        visit = await gate.aenter()
        closing = GateClosure([gate])
        done = asyncio.get_running_loop().run_in_executor(pool, closing.close, 10)
        while gate._closing is None:
            await asyncio.sleep(0.001)
        # Another task's plain call: were it to wait, the one that is inside could never leave.
        await asyncio.get_running_loop().create_task(plain(), context=Context())
        gate.leave(visit)
        assert await done
        closing.open()

    async def plain():
        gate.leave(gate.enter())

    asyncio.run(main())


def test_tasks_wait_without_blocking_their_loop(gate):
    async def main():
        closing = await asyncio.to_thread(close)  # or this thread would be the mover
        waiting = [asyncio.create_task(gate.aenter()) for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        closing.open()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        for visit in done[1:]:
            gate.leave(visit)

    def close():
        closing = GateClosure([gate])
        assert closing.close(0)
        return closing

    asyncio.run(main())
    assert not gate.inside()


def test_an_open_gate_needs_no_loop_of_asyncio(gate):
    with pytest.raises(StopIteration) as ended:
        gate.aenter().send(None)
    gate.leave(ended.value.value)


def test_a_coroutine_that_is_closed_in_another_call_leaves_that_inside(gate):
    async def call():
        visit = await gate.aenter()
        try:
            await asyncio.sleep(0)
        finally:
            gate.leave(visit)

    suspended = call()
    copy_context().run(suspended.send, None)
    outer = gate.enter()
    suspended.close()
    closing = GateClosure([gate])
    assert not closing.close(0)
    gate.leave(gate.enter())  # still known to come from inside
    gate.leave(outer)
    assert closing.close(0)


def test_calls_that_begin_the_next_do_not_pile_up(gate):
    """A task that begins another from inside hands its context on, and so its trail."""

    async def step(left):
        visit = await gate.aenter()
        following = asyncio.create_task(step(left - 1)) if left else None
        gate.leave(visit)
        if left == 0:
            from epochal._core.use.gate import _trail

            trail, length = _trail.get(), 0
            while trail is not None:
                trail, length = trail.outer, length + 1
            lengths.append(length)
        if following is not None:
            await following

    lengths = []
    asyncio.run(step(100))
    assert lengths[0] <= 2
    gc.collect()
    assert not gate.inside()
