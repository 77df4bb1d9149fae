"""A native thread that calls Python has no caller's frame, and `sys._getframe(1)` raised there.

gRPC asks for a call's credentials on threads of its own, which start a Python thread. In a process
with a plugin, the observed `Thread.start` raised, gRPC dropped the error and sent the call without
them: Spark Connect answered "No authentication token provided".
"""

import _thread
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from tests.conftest import tool

PLUGIN = """# /// plugin
# id = "geo"
# version = "{n}.0"
# handover = "stop-first"
# ///
import tests.bugs.test_native_thread_begins_threads as host
from tests.conftest import tool
@tool
def f(x): return x + {n}
if {n} == 2:
    host.PAUSED.set()
    host.GO_ON.wait(20)
"""
PAUSED = threading.Event()
GO_ON = threading.Event()


def answer_of(function, *args):
    """The answer of a call on a thread that has no frame of Python beneath it."""
    answers = SimpleQueue()
    calls = map(answers.put, map(function, *([arg] for arg in args)))
    _thread.start_new_thread(deque, (calls,))
    return answers


def save(plugins, n):
    path = plugins.root / "geo.py"
    path.write_text(PLUGIN.format(n=n))
    return path


def test_a_native_thread_begins_threads_and_executors(rt, plugins):
    rt.load(save(plugins, 1))  # from now on the process's starts of threads are observed
    begun = SimpleQueue()
    thread = threading.Thread(target=begun.put, args=(1,))
    answer_of(threading.Thread.start, thread).get(timeout=10)
    answer_of(_thread.start_new_thread, begun.put, (2,)).get(timeout=10)
    with answer_of(ThreadPoolExecutor, 1).get(timeout=10) as pool:
        assert pool.submit(int).result(10) == 0
    assert {begun.get(timeout=10), begun.get(timeout=10)} == {1, 2}


def test_a_native_thread_imports_a_plugins_module(rt, plugins):
    rt.load(save(plugins, 1))
    assert answer_of(__import__, "geo").get(timeout=10).f(1) == 2


def test_a_native_threads_call_waits_for_a_pause(rt, plugins):
    PAUSED.clear(), GO_ON.clear()  # the test may run again in this process
    rt.load(save(plugins, 1))
    save(plugins, 2)
    change = threading.Thread(target=rt.reload, args=("geo",))
    change.start()
    assert PAUSED.wait(10)
    answers = answer_of(rt.epoch[tool]["geo.f"], 1)
    GO_ON.set()
    change.join(20)
    assert answers.get(timeout=10) == 3
