"""The operation that running code belongs to, in every shape that code has."""

import asyncio
import contextvars
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from epochal import Epoch, Operation, Runtime
from epochal._core.generation import ambient as ambient_module
from epochal._core.generation.ambient import Ambient, leave_all
from epochal.errors import OperationEndedError


@pytest.fixture
def ambient():
    return Ambient()


@pytest.fixture
def begin(ambient):
    return lambda label: Operation(Epoch(), label, ambient)


@pytest.fixture
def seen(ambient):
    """Returns the label of the operation that the caller belongs to."""

    def label():
        operation = ambient.operation()
        return operation.label if operation is not None else None

    return label


@pytest.fixture(autouse=True)
def nothing_is_left(ambient):
    yield
    assert ambient.operation() is None
    assert ambient_module._innermost.get() is None
    assert not ambient._generators


def steps_of(begin, seen, label, steps=3):
    with begin(label):
        for _ in range(steps):
            yield seen()


def test_it_is_that_of_the_innermost_block(begin, seen):
    assert seen() is None
    with begin("outer"):
        with begin("inner"):
            assert seen() == "inner"
        assert seen() == "outer"
        with pytest.raises(ZeroDivisionError), begin("fails"):
            _ = 1 / 0
        assert seen() == "outer"
    assert seen() is None


def test_an_operation_that_is_not_entered_is_nowhere_ambient(begin, seen):
    operation = begin("pin")
    assert seen() is None
    operation.end()


def test_an_operation_entered_twice_ends_once(begin, seen):
    with begin("one") as operation:
        with operation:
            assert seen() == "one"
        assert seen() is None
    with operation:
        pass


def test_operations_may_end_in_any_order(begin, seen):
    first, second, third = begin("first"), begin("second"), begin("third")
    first.__enter__()
    second.__enter__()
    third.__enter__()
    second.__exit__()
    assert seen() == "third"
    first.__exit__()
    assert seen() == "third"
    third.__exit__()
    assert seen() is None


def test_runtimes_do_not_mix(begin, seen):
    others = Ambient()
    with begin("mine"), Operation(Epoch(), "other", others):
        assert seen() == "mine"
        assert others.operation().label == "other"
        with begin("again"):
            assert others.operation().label == "other"
    assert others.operation() is None


def test_an_operation_that_ended_is_still_that_of_its_block(begin, seen, ambient):
    with begin("one") as operation:
        operation.end()
        assert seen() == "one"
        with pytest.raises(OperationEndedError, match="one"):
            _ = ambient.operation().epoch


def test_tasks_and_their_threads_carry_it_past_its_end(begin, seen):
    async def main():
        go_on = asyncio.Event()

        async def later():
            before = seen(), await asyncio.to_thread(seen)
            await go_on.wait()
            return (*before, seen())

        with begin("request"):
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        assert seen() is None
        go_on.set()
        return await task

    assert asyncio.run(main()) == ("request", "request", "request")


def test_plain_threads_and_executors_carry_it_only_by_run(begin, seen):
    with ThreadPoolExecutor(2) as pool, begin("request") as operation:
        assert pool.submit(seen).result(10) is None
        assert pool.submit(operation.run, seen).result(10) == "request"
        assert list(pool.map(lambda _: operation.run(seen), range(8))) == ["request"] * 8
        assert pool.submit(seen).result(10) is None
        with begin("inner"):
            assert operation.run(seen) == "request"
            assert contextvars.copy_context().run(seen) == "inner"


def test_leaving_is_for_this_context_alone(begin, seen):
    with begin("request"):
        context = contextvars.copy_context()
        context.run(leave_all)
        assert context.run(seen) is None
        assert seen() == "request"


# --- generators ----------------------------------------------------------------------------------


def test_a_generators_operation_is_not_its_consumers(begin, seen):
    for label in steps_of(begin, seen, "stream"):
        assert (label, seen()) == ("stream", None)
    with begin("request"):
        for label in steps_of(begin, seen, "stream"):
            assert (label, seen()) == ("stream", "request")


def test_interleaved_generators_each_keep_their_own(begin, seen):
    first, second = steps_of(begin, seen, "first"), steps_of(begin, seen, "second")
    assert [next(first), next(second), next(first)] == ["first", "second", "first"]
    with begin("request"):
        assert [next(second), seen(), next(first)] == ["second", "request", "first"]
        first.close()  # ends out of order
        assert seen() == "request"
        with begin("inner"):
            assert [next(second, None), seen()] == ["second", "inner"]
    assert next(second, None) is None


def test_an_operation_within_a_generators_code_is_innermost(begin, seen):
    def inner():
        with begin("inner"), ExitStack() as stack:
            found = [seen()]
            stack.enter_context(begin("by stack"))
            return [*found, seen()]

    def stream():
        with begin("stream"):
            yield inner()
            with begin("second"):
                yield seen()
            yield seen()
            yield from steps_of(begin, seen, "delegate", 1)

    assert list(stream()) == [["inner", "by stack"], "second", "stream", "delegate"]


def test_a_generator_may_end_in_another_thread(begin, seen):
    stream = steps_of(begin, seen, "stream")
    next(stream)
    assert seen() is None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(next, stream).result(10) == "stream"
        pool.submit(stream.close).result(10)
        assert pool.submit(seen).result(10) is None
    assert seen() is None


def test_a_generator_that_is_dropped_leaves_nothing(begin, seen):
    with begin("request"):
        stream = steps_of(begin, seen, "stream")
        next(stream)
        died = weakref.ref(stream)
        del stream
        assert died() is None
        assert seen() == "request"
        cyclic = [steps_of(begin, seen, "stream")]
        next(cyclic[0])
        cyclic.append(cyclic)
        del cyclic
        gc.collect()
        assert seen() == "request"


def test_each_step_may_run_in_a_context_of_its_own(begin, seen):
    stream = steps_of(begin, seen, "stream")
    steps = [contextvars.copy_context().run(next, stream, None) for _ in range(4)]
    assert steps == ["stream", "stream", "stream", None]


def test_an_asynchronous_generator_keeps_its_operation_to_itself(begin, seen):
    async def stream():
        with begin("stream"):
            for _ in range(3):
                await asyncio.sleep(0)
                yield seen(), await asyncio.to_thread(seen), await asyncio.create_task(task())

    async def task():
        return seen()

    async def main():
        async for labels in stream():
            assert labels == ("stream", "stream", "stream")
            assert seen() is None
            assert await asyncio.to_thread(seen) is None
        with begin("request"):
            async for _ in stream():
                break  # the event loop closes it, in another task
            await asyncio.sleep(0)
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)
            assert seen() == "request"
        assert seen() is None

    asyncio.run(main())


def test_a_context_managers_operation_is_that_of_its_block(begin, seen):
    @contextmanager
    def request():
        with begin("request"):
            yield

    @asynccontextmanager
    async def arequest():
        with begin("arequest"):
            yield

    def stream():
        with request():
            yield seen()

    async def main():
        async with arequest():
            await asyncio.sleep(0)
            assert seen() == "arequest"
            assert await asyncio.to_thread(seen) == "arequest"
        assert seen() is None

    with request():
        assert seen() == "request"
        with begin("inner"):
            assert seen() == "inner"
    with ExitStack() as stack:
        stack.enter_context(request())
        assert seen() == "request"
    for label in stream():
        assert (label, seen()) == ("request", None)
    asyncio.run(main())


def test_work_that_schedules_itself_keeps_no_chain(begin):
    context = contextvars.copy_context()
    for _ in range(50):  # as a callback that asks for its next call within its operation
        context = context.run(_began_in, begin)
    assert context.run(_links) <= 2


def _began_in(begin):
    with begin("again"):
        return contextvars.copy_context()


def _links():
    block, links = ambient_module._innermost.get(), 0
    while block is not None:
        block, links = block.outer, links + 1
    return links


def test_operations_of_many_threads_do_not_meet(begin, seen):
    wrong = []

    def work(number):
        for turn in range(200):
            label = f"{number}.{turn}"
            with begin(label):
                stream = steps_of(begin, seen, f"stream {label}", 2)
                wrong.extend(got for got in stream if got != f"stream {label}")
                if seen() != label:
                    wrong.append(seen())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


# --- the runtime's side --------------------------------------------------------------------------


def test_an_operation_within_another_sees_the_same_epoch():
    with Runtime() as rt:
        old = rt.epoch
        with rt.operation("outer") as outer:
            rt._epochs.publish(Epoch(1))
            assert rt.epoch is not old
            assert rt.snapshot() is old
            assert rt.current_operation() is outer
            with rt.operation("inner") as inner:
                assert inner.epoch is rt.snapshot() is old
            with rt.operation("fresh", epoch=rt.epoch) as fresh:
                assert fresh.epoch is rt.snapshot() is rt.epoch
            outer.narrow([])
            with pytest.raises(OperationEndedError, match="outer"):
                rt.snapshot()
            with rt.operation("after") as after:
                assert after.epoch is rt.snapshot() is rt.epoch
        assert rt.snapshot() is rt.epoch
        assert rt.current_operation() is None


def test_a_block_whose_end_was_interrupted_is_left_with_its_operation(begin, seen, monkeypatch):
    """As by Ctrl-C before the first line of `__exit__`: nothing of it may keep the epoch."""
    with begin("outer"):
        operation = begin("inner")
        operation.__enter__()
        assert seen() == "inner"
        gone = weakref.ref(operation)
        del operation
        assert gone() is None
        assert seen() == "outer"
        with begin("next"):
            assert seen() == "next"
        assert seen() == "outer"
    assert seen() is None
