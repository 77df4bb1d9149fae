"""A generation was shut down although a thread that its code had started was about to call it.

`Thread.start` returns as soon as the new thread runs, which is before it is in its target; and a
busy machine may leave it there for long. No stack shows the plugin then. Found by running the suite
with late threads (`make late`).
"""

import threading

import pytest
from tests.conftest import tool

from epochal import LifecycleState

CODE = """
from tests.conftest import tool
from functools import partial

class Helper:
    def help(self, done): done.set()

def help(done): done.set()

def begin(make, target, *arguments):
    make(target=target, args=arguments).start()

@tool
def function(make, done): begin(make, help, done)
@tool
def method(make, done): begin(make, Helper().help, done)
@tool
def fixed(make, done): begin(make, partial(help, done))
@tool
def subclass(make, done):
    class Mine(make):
        def run(self): super().run(); done.set()
    Mine().start()
"""


@pytest.fixture
def late():
    """A class of late threads, and the event that lets them begin."""
    may_go_on = threading.Event()
    began = []

    class Late(threading.Thread):
        def start(self):
            self.run = self.come_late
            began.append(self)
            super().start()

        def come_late(self):
            assert may_go_on.wait(30)
            type(self).run(self)

    yield Late, may_go_on
    may_go_on.set()
    for thread in began:
        thread.join(30)


@pytest.mark.parametrize("first", ["function", "method", "fixed", "subclass"])
def test_a_thread_that_will_begin_with_the_plugins_code_holds_it(rt, plugins, late, first):
    make, may_go_on = late
    done = threading.Event()
    rt.load(plugins.write("geo", CODE))
    rt.epoch[tool][f"geo.{first}"](make, done)
    old = rt.generation("geo")
    cut = rt.reload("geo", drain_timeout=0.05)
    assert not cut.drained
    assert any("at geo.py" in line for line in map(str, cut.holders))
    assert old.state is LifecycleState.DRAINING
    assert not done.is_set()
    may_go_on.set()
    assert done.wait(30)
    rt.close()
    assert old.state is LifecycleState.REMOVED
