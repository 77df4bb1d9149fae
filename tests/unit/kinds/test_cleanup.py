"""Dropped objects are closed on cleanup threads, however long another close takes."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import QueueHandler
from queue import SimpleQueue

import pytest

from epochal.kinds.toolkit.cleanup import Cleanup


@pytest.fixture
def cleanup():
    made = Cleanup()
    made.prepare()
    return made


def test_every_close_runs_once_on_a_cleanup_thread(cleanup):
    ended = SimpleQueue()

    def put(number):
        cleanup.prepare()
        cleanup.schedule("x", lambda: ended.put((number, threading.current_thread().name)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(200)))
    results = [ended.get(timeout=10) for _ in range(200)]
    assert sorted(number for number, _ in results) == list(range(200))
    assert {name for _, name in results} == {"epochal-cleanup"}
    assert ended.empty()


def test_a_hanging_close_delays_no_other(cleanup):
    gate, ended = threading.Event(), SimpleQueue()
    for number in range(5):
        cleanup.schedule("hangs", lambda number=number: (gate.wait(10), ended.put(number)))
    cleanup.schedule("goes on", lambda: ended.put("other"))
    assert ended.get(timeout=10) == "other"
    gate.set()
    assert sorted(ended.get(timeout=10) for _ in range(5)) == list(range(5))


@pytest.mark.parametrize("error", [OSError("no room"), SystemExit(3)])
def test_a_failing_close_is_logged_and_the_next_one_runs(cleanup, error):
    ended, logged = SimpleQueue(), SimpleQueue()
    handler = QueueHandler(logged)
    logging.getLogger("epochal.kinds").addHandler(handler)

    def fail():
        raise error

    cleanup.schedule("index library.words", fail)
    cleanup.schedule("next", lambda: ended.put(1))
    cleanup.schedule("and next", lambda: ended.put(2))
    assert {ended.get(timeout=10), ended.get(timeout=10)} == {1, 2}
    try:
        message = logged.get(timeout=10).getMessage()
    finally:
        logging.getLogger("epochal.kinds").removeHandler(handler)
    assert f"ending index library.words raised {type(error).__name__}" in message


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_has_threads_of_its_own(cleanup):
    pid = os.fork()
    if pid == 0:
        try:
            ended = threading.Event()
            cleanup.prepare()
            cleanup.schedule("x", ended.set)
            os._exit(0 if ended.wait(10) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
