"""Work on other threads: results arrive, full pools refuse, a hanging job delays no other."""

import asyncio
import gc
import os
import sys
import threading
import weakref
from functools import partial
from queue import SimpleQueue

import pytest

from epochal._core.sync import threads
from epochal._core.sync.loop_thread import LoopThread
from epochal._core.sync.threads import ThreadPool, call_on_thread


def until(condition):
    """Wait for a condition that another thread brings about; ends with the test's time limit."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


# --- the start ------------------------------------------------------------------------------------


def test_a_start_that_is_interrupted_at_any_bytecode_leaves_no_thread_waiting():
    """The thread runs, or was never started: `Thread.start` of its own may leave it waiting."""

    def interrupt(frame, event, arg):
        if frame.f_code.co_filename != threads.__file__ or left[0] <= 0:
            return None
        frame.f_trace_opcodes = True
        left[0] -= event == "opcode"
        if not left[0]:
            raise KeyboardInterrupt
        return interrupt

    sys._getframe().f_trace_opcodes = True  # CPython 3.12 asks for it before the first trace
    number, ran = 0, []
    while True:
        number += 1
        left = [number]
        before = set(threading.enumerate())
        sys.settrace(interrupt)
        try:
            threads.start_thread(partial(ran.append, number), name="test")
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        for thread in set(threading.enumerate()) - before:
            if thread.ident is not None:
                thread.join(20)
            assert not thread.is_alive()
        if left[0] > 0:
            break
    assert number in ran
    assert number > 20


# --- one call -------------------------------------------------------------------------------------


def test_a_call_returns_its_result_from_a_named_daemon_thread():
    def work():
        thread = threading.current_thread()
        return thread.name, thread.daemon

    assert call_on_thread(work, name="worker").result(10) == ("worker", True)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_any_error_is_the_futures(error):
    def work():
        raise error

    assert call_on_thread(work, name="worker").exception(10) is error


@pytest.mark.parametrize(
    "run", [lambda work: call_on_thread(work, name="worker"), ThreadPool("worker").try_submit]
)
def test_an_error_that_is_dropped_is_freed_without_a_collection(run):
    class Local:
        """Held by the frame that raised."""

    made = []

    def work():
        local = Local()
        made.append(weakref.ref(local))
        raise ValueError("no")

    gc.disable()
    try:
        future = run(work)
        error = future.exception()
        del future, error
        until(lambda: made[0]() is None)  # ends with the test's time limit
    finally:
        gc.enable()


# --- the pool -------------------------------------------------------------------------------------


def test_an_idle_thread_takes_the_next_job():
    pool = ThreadPool("pool")
    idents = {pool.try_submit(threading.get_ident).result() for _ in range(20)}
    assert len(idents) == 1


def test_a_job_that_hangs_delays_no_other():
    pool, go_on = ThreadPool("pool"), threading.Event()
    hanging = [pool.try_submit(lambda: go_on.wait(30)) for _ in range(5)]
    assert pool.try_submit(lambda: "done").result() == "done"
    go_on.set()
    assert all(future.result() for future in hanging)


def test_a_full_pool_refuses_and_has_a_place_when_a_result_arrives():
    pool, go_on = ThreadPool("pool", max_threads=1, max_waiting=1), threading.Event()
    first = pool.try_submit(lambda: go_on.wait(30))
    second = pool.try_submit(lambda: "second")
    assert pool.try_submit(lambda: "third") is None
    go_on.set()
    assert first.result()
    assert pool.try_submit(lambda: "third") is not None
    assert second.result() == "second"


def test_a_pool_starts_no_more_threads_than_it_may():
    pool, go_on, inside = ThreadPool("pool", max_threads=2), threading.Event(), SimpleQueue()
    futures = [
        pool.try_submit(lambda: (inside.put(threading.get_ident()), go_on.wait(30)))
        for _ in range(10)
    ]
    idents = {inside.get(timeout=10), inside.get(timeout=10)}
    assert inside.empty()
    go_on.set()
    for future in futures:
        future.result()
    while not inside.empty():
        idents.add(inside.get())
    assert len(idents) == 2


def test_an_idle_thread_ends_and_the_pool_works_on(monkeypatch):
    monkeypatch.setattr(threads, "_IDLE_S", 0.01)
    pool = ThreadPool("short-lived")
    assert pool.try_submit(lambda: 1).result() == 1
    until(lambda: all(thread.name != "short-lived" for thread in threading.enumerate()))
    assert pool.try_submit(lambda: 2).result() == 2


def test_jobs_that_meet_ending_threads_are_not_lost(monkeypatch):
    monkeypatch.setattr(threads, "_IDLE_S", 0.0005)
    pool, pause = ThreadPool("pool"), threading.Event()
    for number in range(300):
        assert pool.try_submit(lambda number=number: number).result() == number
        pause.wait(0.0005)


def test_the_spare_thread_stays_for_what_is_posted(monkeypatch):
    monkeypatch.setattr(threads, "_IDLE_S", 0.01)
    pool, done = ThreadPool("with-spare", spare=1), threading.Event()
    pool.prepare()
    threading.Event().wait(0.1)
    pool.post(done.set)
    assert done.wait(10)


def test_the_collector_may_post():
    pool, posted = ThreadPool("pool", spare=1), SimpleQueue()
    pool.prepare()

    class Garbage:
        def __del__(self):
            pool.post(lambda: posted.put("posted"))

    garbage = Garbage()
    garbage.itself = garbage
    del garbage
    gc.collect()
    assert posted.get(timeout=10) == "posted"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_has_an_empty_pool_that_works():
    pool = ThreadPool("pool", max_threads=1, max_waiting=0)
    go_on = threading.Event()
    busy = pool.try_submit(lambda: go_on.wait(30))
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if pool.try_submit(lambda: 1).result() == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go_on.set()
    assert busy.result()


# --- the loop -------------------------------------------------------------------------------------


def test_a_loop_runs_coroutines_on_its_thread():
    async def work():
        return threading.current_thread().name

    loop = LoopThread("loop")
    assert loop.submit(work()).ended.result() == "loop"
    assert loop.stop(10)
    assert not loop.thread.is_alive()


def test_stopping_cancels_tasks_and_waits_for_their_ends():
    ended = []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("ended")

    loop = LoopThread("loop")
    loop.submit(work())
    until(lambda: asyncio.all_tasks(loop.loop))
    assert loop.stop(10)
    assert ended == ["ended"]
    assert loop.stop(10), "again"


def test_a_cancelled_call_ends_at_once_and_in_its_loop():
    ended = threading.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    loop = LoopThread("loop")
    call = loop.submit(work())
    until(lambda: asyncio.all_tasks(loop.loop))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        call.ended.result()
    assert ended.wait(10)
    early = loop.submit(work())
    early.cancel()
    with pytest.raises(asyncio.CancelledError):
        early.ended.result()
    assert loop.stop(10)


def test_an_error_of_a_call_is_its_result():
    async def work():
        raise ValueError("no")

    loop = LoopThread("loop")
    with pytest.raises(ValueError, match="no"):
        loop.submit(work()).ended.result()
    assert loop.stop(10)


def test_a_stopped_loop_refuses_and_closes_the_coroutine():
    async def work():
        """Never run."""

    loop = LoopThread("loop")
    assert loop.stop(10)
    with pytest.raises(RuntimeError):
        loop.submit(work())
