"""Gates: no call is inside while state moves, and no call waits for one that waits for it."""

import asyncio
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context

import pytest

from epochal._core.use import gate as gate_module
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


def test_a_closing_waits_for_the_call_inside(gate, pool):
    admission = gate.enter()
    closing = GateClosure([gate])
    assert not closing.close(0.01)
    done = pool.submit(closing.close, 10)
    until(lambda: gate._closing is closing)
    gate.leave(admission)
    assert done.result(10)


def test_a_call_waits_until_the_gate_opens(gate, pool):
    closing = GateClosure([gate])
    assert closing.close(0)
    waiting = pool.submit(gate.enter)
    until(lambda: closing._waiting)
    assert not waiting.done()
    closing.open()
    assert waiting.result(10).gate is gate


def test_a_call_that_comes_as_the_gate_opens_is_admitted(gate, pool):
    """In either order of the wake-up and the look: many times, from many threads."""
    for _ in range(200):
        closing = GateClosure([gate])
        assert closing.close(10)
        coming = [pool.submit(gate.enter) for _ in range(4)]
        closing.open()
        for call in coming:
            gate.leave(call.result(10))


def test_a_wait_that_begins_as_it_opens_ends(gate):
    closing = GateClosure([gate])
    assert closing.close(0)
    closing.open()
    admission = Admission(gate, None)
    late = threading.Thread(target=closing.wait, args=(admission,), daemon=True)
    late.start()
    late.join(10)
    assert not late.is_alive()
    assert asyncio.run(closing.wait_async(admission)) is None


def test_a_dropped_admission_has_left(gate, pool):
    """Ctrl-C between `enter` and the `try` after it drops the admission with its frame."""
    admission = gate.enter()
    closing = GateClosure([gate])
    done = pool.submit(closing.close, 10)
    until(lambda: gate._closing is closing)
    del admission
    assert done.result(10)


def test_leaving_twice_ends_no_other_admission(gate):
    first, second = gate.enter(), gate.enter()
    gate.leave(first)
    gate.leave(first)
    assert gate.inside() == [second]
    assert not GateClosure([gate]).close(0)


def test_a_call_from_inside_another_is_admitted(gate):
    admission = gate.enter()
    closing = GateClosure([gate])
    assert not closing.close(0)
    gate.leave(gate.enter())  # waiting, it would never end
    gate.leave(admission)
    assert closing.close(0)


def test_a_call_from_inside_another_is_admitted_in_a_thread_with_its_context(gate, pool):
    admission = gate.enter()
    closing = GateClosure([gate])
    assert not closing.close(0)
    inner = pool.submit(copy_context().run, gate.enter).result(10)
    gate.leave(inner)
    gate.leave(admission)


def test_a_closing_of_two_gates_admits_calls_from_inside_either(pool):
    first, second = Gate(), Gate()
    both = threading.Barrier(2)
    go_on = threading.Event()

    def cross(first, second):
        outer = first.enter()
        both.wait(10)
        go_on.wait(10)
        second.leave(second.enter())
        first.leave(outer)

    crossing = [pool.submit(cross, first, second), pool.submit(cross, second, first)]
    closing = GateClosure([first, second])
    done = pool.submit(closing.close, 10)
    until(lambda: second._closing is closing and len(second.inside()) == 1)
    go_on.set()
    assert done.result(10)
    for call in crossing:
        call.result(10)


def test_only_the_owner_is_admitted_to_a_sealed_gate(gate, pool):
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


def test_giving_up_ends_the_wait(gate, pool):
    admission = gate.enter()
    closing = GateClosure([gate])
    done = pool.submit(closing.close, None)
    until(lambda: gate._closing is closing)
    closing.give_up()
    assert not done.result(10)
    closing.open()
    gate.leave(gate.enter())
    gate.leave(admission)


def test_a_call_that_would_block_the_loop_of_a_call_inside_is_admitted(gate, pool):
    async def main():
        admission = await gate.aenter()
        closing = GateClosure([gate])
        done = asyncio.get_running_loop().run_in_executor(pool, closing.close, 10)
        while gate._closing is None:
            await asyncio.sleep(0.001)
        # Another task's plain call: if it waited, the call inside could never leave.
        await asyncio.get_running_loop().create_task(plain(), context=Context())
        gate.leave(admission)
        assert await done
        closing.open()

    async def plain():
        gate.leave(gate.enter())

    asyncio.run(main())


def test_tasks_wait_without_blocking_their_loop(gate):
    async def main():
        closing = await asyncio.to_thread(close)  # or this thread would be the owner
        waiting = [asyncio.create_task(gate.aenter()) for _ in range(3)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        closing.open()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        for admission in done[1:]:
            gate.leave(admission)

    def close():
        closing = GateClosure([gate])
        assert closing.close(0)
        return closing

    asyncio.run(main())
    assert not gate.inside()


def test_an_open_gate_needs_no_asyncio_loop(gate):
    with pytest.raises(StopIteration) as ended:
        gate.aenter().send(None)
    gate.leave(ended.value.value)


def test_a_coroutine_closed_in_another_call_leaves_that_call_inside(gate):
    async def call():
        admission = await gate.aenter()
        try:
            await asyncio.sleep(0)
        finally:
            gate.leave(admission)

    suspended = call()
    copy_context().run(suspended.send, None)
    outer = gate.enter()
    suspended.close()
    closing = GateClosure([gate])
    assert not closing.close(0)
    gate.leave(gate.enter())  # still known to come from inside
    gate.leave(outer)
    assert closing.close(0)


def test_a_chain_of_tasks_does_not_grow_the_admission_stack(gate):
    """A task that starts another from inside passes its context on, and with it the stack."""

    async def step(left):
        admission = await gate.aenter()
        following = asyncio.create_task(step(left - 1)) if left else None
        gate.leave(admission)
        if left == 0:
            from epochal._core.use.gate import _stack

            stack, length = _stack.get(), 0
            while stack is not None:
                stack, length = stack.outer, length + 1
            lengths.append(length)
        if following is not None:
            await following

    lengths = []
    asyncio.run(step(100))
    assert lengths[0] <= 2
    gc.collect()
    assert not gate.inside()


def test_a_call_whose_death_was_interrupted_holds_up_no_closing(gate, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)
        patch.setattr(gate_module, "_on_death", interrupt)
        admission = gate.enter()
        del admission
    assert GateClosure([gate]).close(20)
    assert gate.inside() == []
