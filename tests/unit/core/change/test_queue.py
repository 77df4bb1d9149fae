"""Changes run in the order of the calls; the last one closes the queue; a caller may give up."""

import asyncio
import threading
from concurrent.futures import Future
from contextvars import copy_context
from types import SimpleNamespace

import pytest

from epochal._core.change.plugin_calls import PluginCall, changing
from epochal._core.change.queue import ChangeQueue, RunningChange
from epochal._core.change.sequence import ChangeSpec, Limits
from epochal._core.generation.epoch import EpochStore
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import (
    ChangeCancelledError,
    ForkedRuntimeError,
    NestedChangeError,
    RuntimeClosedError,
)

LIMIT_S = 20


def asking(read):
    """A change that asks for nothing, and calls `read` in its turn."""
    return ChangeSpec(lambda epoch: read() or (), Limits(None, None, None), WeakRegistry())


def inside_a_change(queue, call, *args):
    """Call as the plugin code that a change of this queue runs."""
    context = copy_context()
    context.run(changing.set, PluginCall(queue._serial))
    return context.run(call, *args)


@pytest.fixture
def queue():
    return ChangeQueue(EpochStore(SimpleNamespace(), open_namespace=None))


def test_changes_run_in_the_order_of_the_calls(queue):
    go, order = threading.Event(), []
    first = queue.begin(asking(lambda: go.wait(LIMIT_S) and order.append(0)))
    others = [queue.begin(asking(lambda n=n: order.append(n))) for n in range(1, 6)]
    assert order == []
    go.set()
    reports = [change.wait() for change in (first, *others)]
    assert order == list(range(6))
    assert [report.change for report in reports] == list(range(1, 7))
    assert [report.epoch_after for report in reports] == list(range(1, 7))


def test_the_last_change_comes_after_those_before_it_and_closes_the_queue(queue):
    go, order = threading.Event(), []
    queue.begin(asking(lambda: go.wait(LIMIT_S) and order.append("first")))
    last = queue.begin_last(asking(lambda: order.append("last")))
    with pytest.raises(RuntimeClosedError):
        queue.begin(asking(pytest.fail))
    with pytest.raises(RuntimeClosedError):
        queue.check_open()
    assert queue.begin_last(asking(pytest.fail)) is None
    go.set()
    last.wait()
    assert order == ["first", "last"]


def test_a_last_change_that_is_refused_leaves_the_queue_open(queue):
    with pytest.raises(NestedChangeError):
        inside_a_change(queue, queue.begin_last, asking(pytest.fail))
    queue.check_open()
    assert queue.begin(asking(lambda: None)).wait().published


def test_code_that_a_change_runs_begins_no_change_of_the_same_runtime(queue):
    with pytest.raises(NestedChangeError, match="in the same change"):
        inside_a_change(queue, queue.begin, asking(pytest.fail))
    other = ChangeQueue(EpochStore(SimpleNamespace(), open_namespace=None))
    assert inside_a_change(queue, other.begin, asking(lambda: None)).wait().published


def test_a_fork_of_the_process_begins_no_change(queue):
    queue._pid += 1
    with pytest.raises(ForkedRuntimeError, match="make a new Runtime"):
        queue.begin(asking(pytest.fail))


def test_waiting_ends_when_every_change_has_ended_or_the_time_is_over(queue):
    go = threading.Event()
    ended = queue.begin(asking(lambda: None))
    ended.wait()
    changes = [queue.begin(asking(lambda: go.wait(LIMIT_S))) for _ in range(3)]
    queue.wait(0.0)
    assert not any(change._executor.answer.done() for change in changes)
    go.set()
    queue.wait(LIMIT_S)
    assert all(change._executor.ended.done() for change in (ended, *changes))


class Executor:
    """A change that runs until it is cancelled, and takes a while to be undone."""

    def __init__(self):
        self.answer, self.cancelled = InterruptedAnswer(), 0
        self.answer.set_running_or_notify_cancel()

    def cancel(self):
        self.cancelled += 1


class InterruptedAnswer(Future):
    """The wait for it is interrupted, as by Ctrl-C; the change is undone in the next wait."""

    def result(self, timeout=None):
        raise KeyboardInterrupt

    def exception(self, timeout=None):
        self.set_exception(ChangeCancelledError("undone"))
        return super().exception()


class AsyncExecutor:
    """A change that runs until it is cancelled; it is undone some turns of the loop later."""

    def __init__(self):
        self.answer, self.cancelled = Future(), 0
        self.answer.set_running_or_notify_cancel()

    def cancel(self):
        self.cancelled += 1
        self._undo(asyncio.get_running_loop(), turns=5)

    def _undo(self, loop, turns):
        if turns:
            loop.call_soon(self._undo, loop, turns - 1)
        else:
            self.answer.set_exception(ChangeCancelledError("undone"))


def test_ctrl_c_gives_the_change_up_and_leaves_when_it_is_undone():
    executor = Executor()
    with pytest.raises(KeyboardInterrupt):
        RunningChange(executor).wait()
    assert executor.cancelled == 1
    assert executor.answer.done()


def test_ctrl_c_after_the_answer_gives_nothing_up():
    executor = Executor()
    executor.answer.set_result("report")
    with pytest.raises(KeyboardInterrupt):
        RunningChange(executor).wait()
    assert executor.cancelled == 0


def test_an_error_of_the_change_gives_nothing_up():
    executor = AsyncExecutor()
    executor.answer.set_exception(LookupError("no"))
    with pytest.raises(LookupError):
        RunningChange(executor).wait()
    assert executor.cancelled == 0


def test_a_cancelled_task_gives_the_change_up_and_ends_when_it_is_undone():
    executor = AsyncExecutor()

    async def cancel():
        task = asyncio.ensure_future(RunningChange(executor).wait_async())
        await asyncio.sleep(0)  # the task waits from here on
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return executor.answer.done()

    assert asyncio.run(cancel())
    assert executor.cancelled == 1


def test_a_task_gets_the_report():
    executor = AsyncExecutor()
    executor.answer.set_result("report")
    assert asyncio.run(RunningChange(executor).wait_async()) == "report"
