"""Stacks of threads: whole, without this library's frames, and with the collector as it was."""

import gc
import sys
import threading

import pytest

from epochal._core.introspect.frames import (
    caller_of,
    calls_of,
    innermost_calls,
    undisturbed,
)


def test_every_thread_has_an_innermost_call():
    inside, go_on = threading.Event(), threading.Event()

    def wait_here():
        inside.set()
        go_on.wait(30)

    thread = threading.Thread(target=wait_here)
    thread.start()
    assert inside.wait(10)
    frames = innermost_calls()
    assert {thread.ident, threading.get_ident()} <= set(frames)
    names = [call.f_code.co_name for call in calls_of(frames[thread.ident])]
    frames.clear()
    go_on.set()
    thread.join(10)
    assert "wait_here" in names
    assert names.index("wait_here") < names.index("run"), "innermost first"


def test_frames_of_this_library_are_left_out():
    namespace = {"__name__": "epochal._core.fake", "look": lambda: calls_of(sys._getframe())}
    exec("def a_frame_of_the_library():\n    return look()\n", namespace)
    names = [call.f_code.co_name for call in namespace["a_frame_of_the_library"]()]
    assert "a_frame_of_the_library" not in names
    assert names[1] == "test_frames_of_this_library_are_left_out"


def test_the_outermost_frame_has_no_caller():
    frame, count = sys._getframe(), 0
    while (caller := caller_of(frame)) is not None:
        frame, count = caller, count + 1
    assert count > 1


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError), undisturbed():
        _ = 1 / 0
    assert gc.isenabled()
