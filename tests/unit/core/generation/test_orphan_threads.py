"""The end of the threads that a generation's code began."""

import threading
import types

import pytest
from tests.unit.core.generation.modules import PluginStub

from epochal._core.generation.orphan_threads import end_threads

NOTHING = frozenset()


@pytest.fixture
def plugin():
    return PluginStub()


def test_a_timer_that_would_call_the_plugin_is_cancelled(plugin):
    with plugin.origin.running():
        timer = threading.Timer(60, print)
        timer.start()
    ended, alive = end_threads(plugin.origin, NOTHING, lambda obj: obj is print)
    assert ended == [f"thread {timer.name!r}, which shutdown() had left running"]
    assert not alive


def test_a_timer_of_other_code_goes_on_and_is_named(plugin, monkeypatch):
    monkeypatch.setattr("epochal._core.generation.orphan_threads._JOIN_S", 0.01)
    with plugin.origin.running():
        timer = threading.Timer(60, print)
        timer.start()
    ended, (alive,) = end_threads(plugin.origin, NOTHING, lambda _: False)
    assert not ended
    assert f"thread {timer.name!r}, begun by init() at test_orphan_threads.py:" in alive
    assert timer.is_alive()
    timer.cancel()
    timer.join(10)


def test_a_second_call_has_nothing_to_end(plugin, monkeypatch):
    monkeypatch.setattr("epochal._core.generation.orphan_threads._JOIN_S", 0.01)
    go_on = threading.Event()
    with plugin.origin.running():
        thread = threading.Thread(target=go_on.wait, args=(30,))
        thread.start()
    assert end_threads(plugin.origin, NOTHING, lambda _: False)[1]
    assert end_threads(plugin.origin, NOTHING, lambda _: False) == ([], [])
    go_on.set()
    thread.join(10)


def test_an_exit_is_raised_in_a_thread_inside_the_code_alone(plugin, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    module = types.ModuleType("geo")
    exec("import time\ndef loop(stop):\n    while not stop: time.sleep(0.001)", vars(module))
    stop = []
    other = threading.Thread(target=module.loop, args=(stop,))
    other.start()
    with plugin.origin.running():
        own = threading.Thread(target=module.loop, args=(stop,), name="poll")
        own.start()
    ended, alive = end_threads(plugin.origin, frozenset({id(vars(module))}), lambda _: False)
    assert ended == ["thread 'poll', which shutdown() had left running"]
    assert not alive
    assert other.is_alive()
    stop.append(True)
    other.join(10)
