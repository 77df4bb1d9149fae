"""The ways to hold generations in use, each with what it pins, how it is checked, how it ends.

A holder takes what it needs from the current epoch when it is made, and keeps nothing else. `check`
uses it and may be called any number of times; `release` uses it for the last time and lets go. Both
are given `who`, which says what a generation must answer.
"""

import asyncio
import threading

import pytest
from tests.property.ledger import tool


class Holder:
    """Something that pins generations, as (plugin, number), until it is released.

    Attributes:
        obeys: it ends when whoever drains asks it to stop.
    """

    obeys = False

    def __init__(self, pins):
        self.pins = frozenset(pins)

    @property
    def one(self):
        """The generation that it pins, of which there is one."""
        (generation,) = self.pins
        return generation

    def check(self, who):
        """Use it; most cannot be used twice."""

    def release(self, who):
        """Use it for the last time, and let go."""
        self.check(who)
        vars(self).clear()


class Pin(Holder):
    """An epoch in a variable, or a labelled operation."""

    def __init__(self, snapshot, pins):
        super().__init__(pins)
        self.snapshot = snapshot

    def check(self, who):
        whoami = {n: call for n, call in self.snapshot[tool].items() if n.endswith(".whoami")}
        assert {call() for call in whoami.values()} == {who(*pinned) for pinned in self.pins}


class Obedient(Pin):
    """A labelled operation that ends when it is asked to."""

    obeys = True

    def __init__(self, operation, pins):
        super().__init__(operation, pins)
        operation.on_cancel(operation.end)

    def release(self, who):
        self.check(who)
        self.snapshot.end()


class Narrow(Holder):
    """An operation that let its epoch go and kept one generation."""

    def __init__(self, operation, pinned):
        super().__init__([pinned])
        self.operation = operation
        operation.narrow([pinned[0]])

    def release(self, who):
        self.operation.end()


class Captured(Holder):
    """A function in a variable."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.call = rt.epoch[tool][f"{pinned[0]}.whoami"]

    def check(self, who):
        assert self.call() == who(*self.one)


class Generator(Holder):
    """A suspended generator; its function is not kept."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.stream = rt.epoch[tool][f"{pinned[0]}.stream"]()
        next(self.stream)

    def check(self, who):
        assert next(self.stream) == who(*self.one)


class Coroutine(Holder):
    """A suspended coroutine, outside of any event loop."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.coroutine = rt.epoch[tool][f"{pinned[0]}.poll"](asyncio.sleep(0))
        self.coroutine.send(None)

    def release(self, who):
        with pytest.raises(StopIteration) as stopped:
            self.coroutine.send(None)
        assert stopped.value.value == who(*self.one)
        del stopped
        vars(self).clear()


class Caught(Holder):
    """An exception that is kept, with the frames of its traceback."""

    def __init__(self, rt, pinned):
        super().__init__([pinned])
        self.error = _caught(rt, f"{pinned[0]}.fail")

    def check(self, who):
        assert self.error.args == (who(*self.one),)


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

    def release(self, who):
        self.leave.set()
        self.thread.join(20)
        assert self.answers == [who(*self.one)]
        vars(self).clear()


class Task(Holder):
    """An asyncio task inside the plugin's code; it ends when it is cancelled."""

    obeys = True

    def __init__(self, rt, pinned, loop):
        super().__init__([pinned])
        self.loop, self.leave = loop, loop.create_future()
        self.task = loop.create_task(rt.epoch[tool][f"{pinned[0]}.poll"](self.leave))
        loop.run_until_complete(asyncio.sleep(0))

    def release(self, who):
        if not self.leave.done():
            self.leave.set_result(None)
        assert self.loop.run_until_complete(self.task) == who(*self.one)
        vars(self).clear()


OF_ONE = (Captured, Generator, Coroutine, Caught, Thread)
"""Those that pin one generation of the current epoch."""


def _caught(rt, name):
    # The error keeps the frames of whoever called, too: none of them has the epoch in a variable.
    try:
        rt.epoch[tool][name]()
    except ValueError as error:
        return error
    raise AssertionError("it did not fail")


def _stay(function, entered, leave, answers):
    answers.append(function(entered, leave))
