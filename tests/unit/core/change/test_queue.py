"""Changes run in the order of the calls; the last one closes the queue; a caller may give up."""

import asyncio
import sys
import threading
from contextvars import copy_context
from types import SimpleNamespace

import pytest

from epochal._core.change import queue as queue_module
from epochal._core.change.executor import Executor
from epochal._core.change.plugin_calls import PluginCall, changing
from epochal._core.change.queue import ChangeQueue, QueuedChange
from epochal._core.change.sequence import ChangeSpec, Limits
from epochal._core.generation.epoch import EpochStore
from epochal._core.sync.completion import Completion
from epochal._core.sync.threads import start_thread
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import (
    ChangeCancelledError,
    ForkedRuntimeError,
    NestedChangeError,
    NoThreadError,
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


def begin(queue, spec):
    change = queue.prepare(spec)
    change.begin()
    return change


@pytest.fixture
def queue():
    return ChangeQueue(EpochStore(SimpleNamespace(), loaders={}))


def test_changes_run_in_the_order_of_the_calls(queue):
    go, order = threading.Event(), []
    first = begin(queue, asking(lambda: go.wait(LIMIT_S) and order.append(0)))
    others = [begin(queue, asking(lambda n=n: order.append(n))) for n in range(1, 6)]
    assert order == []
    go.set()
    reports = [change.wait() for change in (first, *others)]
    assert order == list(range(6))
    assert [report.change for report in reports] == list(range(1, 7))
    assert [report.epoch_after for report in reports] == list(range(1, 7))


def test_the_last_change_comes_after_those_before_it_and_closes_the_queue(queue):
    go, order = threading.Event(), []
    begin(queue, asking(lambda: go.wait(LIMIT_S) and order.append("first")))
    closer = threading.Thread(
        target=queue.run_last, args=(asking(lambda: order.append("last")),), daemon=True
    )
    closer.start()
    while not queue._closings:  # ends with the test's time limit
        threading.Event().wait(0.001)
    with pytest.raises(RuntimeClosedError):
        begin(queue, asking(pytest.fail))
    with pytest.raises(RuntimeClosedError):
        queue.check_open()
    assert queue.run_last(asking(pytest.fail)) is None
    go.set()
    closer.join(LIMIT_S)
    assert order == ["first", "last"]


def test_a_last_change_that_is_refused_leaves_the_queue_open(queue):
    with pytest.raises(NestedChangeError):
        inside_a_change(queue, queue.run_last, asking(pytest.fail))
    with pytest.raises(ZeroDivisionError):
        queue.run_last(asking(lambda: 1 / 0))
    queue.check_open()
    assert queue.prepare(asking(lambda: None)).wait().published


def test_code_that_a_change_runs_begins_no_change_of_the_same_runtime(queue):
    with pytest.raises(NestedChangeError, match="in the same change"):
        inside_a_change(queue, queue.prepare, asking(pytest.fail))
    other = ChangeQueue(EpochStore(SimpleNamespace(), loaders={}))
    assert inside_a_change(queue, other.prepare, asking(lambda: None)).wait().published


def test_a_fork_of_the_process_begins_no_change(queue):
    queue._pid += 1
    with pytest.raises(ForkedRuntimeError, match="make a new Runtime"):
        begin(queue, asking(pytest.fail))


def test_waiting_ends_when_every_change_has_ended_or_the_time_is_over(queue):
    go = threading.Event()
    ended = begin(queue, asking(lambda: None))
    ended.wait()
    changes = [begin(queue, asking(lambda: go.wait(LIMIT_S))) for _ in range(3)]
    queue.wait(0.0)
    assert not any(change.executor.answer.done() for change in changes)
    go.set()
    queue.wait(LIMIT_S)
    assert all(change.executor.ended.done() for change in (ended, *changes))


class FakeExecutor:
    """A change that runs until it is cancelled, and is undone as a test says."""

    def __init__(self, answer=None, published=None):
        self.answer, self.cancelled = answer or Completion(), 0
        self.forbid_commit = lambda: None
        self.published, self.commits = published, published is not None
        self.is_withdrawn = False

    def withdraw(self):
        return False

    def cancel(self):
        self.cancelled += 1

    def pending(self):
        return QueuedChange(SimpleNamespace(begin=lambda executor, name: None), self, "change")


class InterruptedAnswer(Completion):
    """The wait for it is interrupted, as by Ctrl-C; the change is undone in the next wait."""

    def result(self):
        raise KeyboardInterrupt

    def exception(self):
        if not self.done():
            self.set_exception(ChangeCancelledError("undone"))
        return super().exception()


class AsyncExecutor(FakeExecutor):
    """A change that is undone some turns of the loop after it was cancelled."""

    def cancel(self):
        super().cancel()
        self._undo(asyncio.get_running_loop(), turns=5)

    def _undo(self, loop, turns):
        if turns:
            loop.call_soon(self._undo, loop, turns - 1)
        else:
            self.answer.set_exception(ChangeCancelledError("undone"))


def test_ctrl_c_gives_the_change_up_and_leaves_when_it_is_undone():
    executor = FakeExecutor(InterruptedAnswer())
    with pytest.raises(KeyboardInterrupt) as raised:
        executor.pending().wait()
    assert executor.cancelled == 1
    assert executor.answer.done()
    assert not hasattr(raised.value, "__notes__")


def test_ctrl_c_after_the_answer_gives_nothing_up_and_notes_the_commit():
    executor = FakeExecutor(InterruptedAnswer(), published=3)
    executor.answer.set_result("report")
    with pytest.raises(KeyboardInterrupt) as raised:
        executor.pending().wait()
    assert executor.cancelled == 0
    assert raised.value.__notes__ == ["the change is committed: epoch 3 is current"]


def test_a_second_ctrl_c_before_the_change_is_given_up_lets_it_never_commit():
    class Interrupting(InterruptedAnswer):
        def done(self):
            raise KeyboardInterrupt

    executor, forbidden = FakeExecutor(Interrupting()), []
    executor.forbid_commit = lambda: forbidden.append(1)
    with pytest.raises(KeyboardInterrupt):
        executor.pending().wait()
    assert forbidden


def test_a_second_ctrl_c_leaves_at_once_and_notes_that_the_change_commits():
    class Stuck(InterruptedAnswer):
        def exception(self):
            raise KeyboardInterrupt

    executor = FakeExecutor(Stuck())
    executor.commits = True
    with pytest.raises(KeyboardInterrupt) as raised:
        executor.pending().wait()
    assert raised.value.__notes__ == ["it was too late to give the change up: it commits"]


def test_an_error_of_the_change_gives_nothing_up():
    executor = FakeExecutor()
    executor.answer.set_exception(LookupError("no"))
    with pytest.raises(LookupError):
        executor.pending().wait()
    assert executor.cancelled == 0


def test_a_cancelled_task_gives_the_change_up_and_ends_when_it_is_undone():
    executor = AsyncExecutor()

    async def cancel():
        task = asyncio.ensure_future(executor.pending().wait_async())
        await asyncio.sleep(0)  # the task waits from here on
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return executor.answer.done()

    assert asyncio.run(cancel())
    assert executor.cancelled == 1


def test_a_coroutine_that_is_closed_gives_the_change_up_and_cannot_wait():
    executor = FakeExecutor()

    async def close():
        waiting = executor.pending().wait_async()
        waiting.send(None)
        waiting.close()

    asyncio.run(close())
    assert executor.cancelled == 1


def test_a_task_gets_the_report():
    executor = FakeExecutor()
    executor.answer.set_result("report")
    assert asyncio.run(executor.pending().wait_async()) == "report"


@pytest.mark.parametrize("begun", [False, True], ids=["no thread", "a thread"])
def test_a_change_whose_start_is_interrupted_never_runs(queue, monkeypatch, begun):
    """Also where its thread was started all the same: then it touches nothing."""
    held, ran = [], []
    monkeypatch.setattr(queue_module, "start_thread", lambda run, name: held.append(run) or 1 / 0)
    change = queue.prepare(asking(pytest.fail))
    with pytest.raises(ZeroDivisionError):
        change.wait()
    monkeypatch.undo()
    if begun:
        monkeypatch.setattr(Executor, "run", lambda self: ran.append(1))
        held[0]()
        monkeypatch.undo()
    assert isinstance(change.executor.answer.exception(), (ChangeCancelledError, NoThreadError))
    assert not ran
    assert not queue._epochs.turn._queue
    queue.wait(LIMIT_S)
    assert queue.prepare(asking(lambda: None)).wait().epoch_after == 1


@pytest.mark.parametrize("times", [1, 2])
def test_taking_a_change_back_may_be_interrupted(queue, monkeypatch, times):
    """A second Ctrl-C, and a third, right after the first one."""
    end, ends = Executor._end, []

    def interrupted(self, error=None):
        ends.append(self)
        if len(ends) <= times:
            raise KeyboardInterrupt
        end(self, error)

    def interrupt(run, name):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    with monkeypatch.context() as patch:
        patch.setattr(queue_module, "start_thread", interrupt)
        patch.setattr(Executor, "_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.prepare(asking(pytest.fail)).wait()
    assert len(ends) > times
    assert not queue._epochs.turn._queue
    queue.wait(LIMIT_S)
    assert queue.prepare(asking(lambda: None)).wait().epoch_after == 1


def test_a_change_that_began_before_its_start_was_interrupted_is_given_up(queue, monkeypatch):
    def interrupt(run, name):
        start_thread(run, name=name)
        assert reading.wait(LIMIT_S)
        raise KeyboardInterrupt

    def read():
        reading.set()
        assert cancelled.wait(LIMIT_S)

    reading, cancelled = threading.Event(), threading.Event()
    monkeypatch.setattr(queue_module, "start_thread", interrupt)
    change = queue.prepare(asking(read))
    change.executor._runner.cancelled.add_done_callback(lambda _: cancelled.set())
    with pytest.raises(KeyboardInterrupt):
        change.wait()
    monkeypatch.undo()
    assert queue._epochs.current.number == 0
    assert queue.prepare(asking(lambda: None)).wait().epoch_after == 1


def test_an_interrupted_close_leaves_the_queue_open(queue, monkeypatch):
    monkeypatch.setattr(queue_module, "start_thread", lambda run, name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        queue.run_last(asking(lambda: None))
    monkeypatch.undo()
    queue.check_open()
    assert queue.run_last(asking(lambda: None)).published
    assert queue.run_last(asking(lambda: None)) is None
