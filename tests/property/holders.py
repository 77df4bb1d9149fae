"""The ways to hold generations in use: each holder knows its pins, a check and a release.

A holder takes its references from the current epoch when it is created, and keeps no others.
`check` uses them and may be called any number of times; `release` uses them for the last time and
drops them. Both take `identity`, a function that returns a generation's expected answer.
"""

import asyncio
import threading

import pytest
from tests.property.ledger import tool


class Holder:
    """Something that pins generations, as (plugin, number), until it is released.

    Attributes:
        ends_on_cancel: it ends when a drain asks its holders to stop.
    """

    ends_on_cancel = False

    def __init__(self, pins):
        self.pins = frozenset(pins)

    @property
    def pinned(self):
        """The generation that it pins, for a holder that has exactly one."""
        (generation,) = self.pins
        return generation

    def check(self, identity):
        """Compare an answer with the expected one; a holder for one use checks on release only."""

    def release(self, identity):
        """Use it for the last time, and drop every reference."""
        self.check(identity)
        vars(self).clear()


class Pin(Holder):
    """An epoch in a variable, or a labelled operation."""

    def __init__(self, snapshot, pins):
        super().__init__(pins)
        self.snapshot = snapshot

    def check(self, identity):
        whoami = {n: call for n, call in self.snapshot[tool].items() if n.endswith(".whoami")}
        assert {call() for call in whoami.values()} == {identity(*pinned) for pinned in self.pins}


class Obedient(Pin):
    """A labelled operation that ends itself when a drain cancels it."""

    ends_on_cancel = True

    def __init__(self, operation, pins):
        super().__init__(operation, pins)
        operation.on_cancel(operation.end)

    def release(self, identity):
        self.check(identity)
        self.snapshot.end()


class Narrow(Holder):
    """An operation that narrowed its pin from the whole epoch to one generation."""

    def __init__(self, operation, pinned):
        super().__init__([pinned])
        self.operation = operation
        operation.narrow([pinned[0]])

    def release(self, identity):
        self.operation.end()


class Captured(Holder):
    """A function in a variable."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.call = rt.epoch[tool][f"{pinned[0]}.whoami"]

    def check(self, identity):
        assert self.call() == identity(*self.pinned)


class Generator(Holder):
    """A suspended generator, without a reference to its function."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.stream = rt.epoch[tool][f"{pinned[0]}.stream"]()
        next(self.stream)

    def check(self, identity):
        assert next(self.stream) == identity(*self.pinned)


class Coroutine(Holder):
    """A suspended coroutine, outside of any event loop."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.coroutine = rt.epoch[tool][f"{pinned[0]}.poll"](asyncio.sleep(0))
        self.coroutine.send(None)

    def release(self, identity):
        with pytest.raises(StopIteration) as stopped:
            self.coroutine.send(None)
        assert stopped.value.value == identity(*self.pinned)
        del stopped
        vars(self).clear()


class Caught(Holder):
    """A stored exception, with the frames of its traceback."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.error = _caught(rt, f"{pinned[0]}.fail")

    def check(self, identity):
        assert self.error.args == (identity(*self.pinned),)


class Thread(Holder):
    """A thread inside the plugin's code."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.leave, self.answers = threading.Event(), []
        entered = threading.Event()
        arguments = (rt.epoch[tool][f"{pinned[0]}.stay"], entered, self.leave, self.answers)
        self.thread = threading.Thread(target=_stay, args=arguments)
        self.thread.start()
        assert entered.wait(20)

    def release(self, identity):
        self.leave.set()
        self.thread.join(20)
        assert self.answers == [identity(*self.pinned)]
        vars(self).clear()


class Task(Holder):
    """An asyncio task inside the plugin's code; it ends when it is cancelled."""

    ends_on_cancel = True

    def __init__(self, rt, pinned, loop):
        super().__init__([pinned])
        self.loop, self.leave = loop, loop.create_future()
        self.task = loop.create_task(rt.epoch[tool][f"{pinned[0]}.poll"](self.leave))
        loop.run_until_complete(asyncio.sleep(0))

    def release(self, identity):
        if not self.leave.done():
            self.leave.set_result(None)
        assert self.loop.run_until_complete(self.task) == identity(*self.pinned)
        vars(self).clear()


SINGLE_PINS = (Captured, Generator, Coroutine, Caught, Thread)
"""The holders that pin one generation of the current epoch."""


def _caught(rt, name):
    # The traceback keeps the callers' frames too, so no caller may have the epoch in a variable.
    try:
        rt.epoch[tool][name]()
    except ValueError as error:
        return error
    raise AssertionError("the plugin's function did not raise")


def _stay(function, entered, leave, answers):
    answers.append(function(entered, leave))
