"""The threads that are a generation's own."""

import threading

from epochal._core.generation.orphan_threads import OwnThreads, end_threads


def test_a_thread_that_begins_inside_the_block_is_the_generations():
    own, stop = OwnThreads(), threading.Event()
    with own.noting():
        started = threading.Thread(target=stop.wait)
        started.start()
    other = threading.Thread(target=stop.wait)
    other.start()
    assert own.started == {started.ident}
    stop.set()
    started.join(10)
    other.join(10)


def test_the_thread_that_runs_the_block_counts_until_it_leaves():
    own = OwnThreads()
    with own.noting():
        assert own.idents() == {threading.get_ident()}
    assert own.idents() == frozenset()


def test_started_threads_are_taken_once():
    own = OwnThreads()
    own.started.add(7)
    assert own.take_started() == {7}
    assert own.take_started() == frozenset()


def test_a_timer_that_would_call_the_plugin_is_cancelled():
    timer = threading.Timer(60, print)
    timer.start()
    ended, alive = end_threads(frozenset({timer.ident}), frozenset(), lambda obj: obj is print)
    assert ended == [f"thread {timer.name!r}, which shutdown() had left running"]
    assert not alive


def test_a_timer_of_other_code_goes_on():
    timer = threading.Timer(60, print)
    timer.start()
    assert end_threads(frozenset({timer.ident}), frozenset(), lambda _: False) == ([], [])
    assert timer.is_alive()
    timer.cancel()
    timer.join(10)
