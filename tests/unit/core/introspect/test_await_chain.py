"""The chain behind a suspended coroutine, through links without a frame."""

import asyncio
import types
from contextlib import aclosing

import pytest

from epochal._core.introspect.await_chain import place_inside
from epochal._core.introspect.running_code import cancel_tasks, find_stragglers

CODE = """
import asyncio
async def sleep():
    await asyncio.sleep(60)
async def ticks():
    try:
        yield 1
        await asyncio.sleep(60)
        yield 2
    finally:
        await asyncio.sleep(60)
class Steps:
    def __iter__(self): return self
    def __next__(self): return None
"""


@pytest.fixture
def module():
    made = types.ModuleType("geo")
    exec(compile(CODE, "/plugins/geo.py@g3", "exec"), vars(made))
    return made


class Wrapped:
    """Awaits by an iterator without a frame."""

    def __init__(self, made):
        self.made = made

    def __await__(self):
        return self.made.__await__()


class ByHand:
    """An iterator of its own: no frame while it is suspended."""

    __slots__ = ("inner",)

    def __init__(self, made):
        self.inner = made.__await__()

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner)


class Kept(ByHand):
    """The same with a dictionary."""


async def over(ticks):
    async for _ in ticks:
        pass


async def sending(ticks):
    await ticks.asend(None)
    await ticks.asend("a value")


async def throwing(ticks):
    await ticks.asend(None)
    await ticks.athrow(ValueError)


async def closing(ticks):
    async with aclosing(ticks):
        await anext(ticks)


async def with_default(ticks):
    await anext(ticks)
    await anext(ticks, None)


async def entering(ticks):
    class Context:
        async def __aenter__(self):
            await over(ticks)

        async def __aexit__(self, *exc):
            pass

    async with Context():
        pass


async def awaiting(made):
    await made


CHAINS = {
    "async for": lambda m: over(m.ticks()),
    "asend": lambda m: sending(m.ticks()),
    "athrow": lambda m: throwing(m.ticks()),
    "aclosing": lambda m: closing(m.ticks()),
    "anext": lambda m: with_default(m.ticks()),
    "async with": lambda m: entering(m.ticks()),
    "__await__": lambda m: awaiting(Wrapped(m.sleep())),
    "three deep": lambda m: awaiting(Wrapped(awaiting(Wrapped(awaiting(Wrapped(m.sleep())))))),
    "an iterator with slots": lambda m: awaiting(ByHand(m.sleep())),
    "an iterator": lambda m: awaiting(Kept(m.sleep())),
    "all together": lambda m: awaiting(Kept(awaiting(Wrapped(closing(m.ticks()))))),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_task_behind_links_without_a_frame_is_found(module, chain):
    ids = frozenset({id(vars(module))})

    async def main():
        task = asyncio.create_task(CHAINS[chain](module), name="poll")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        found = find_stragglers(ids)
        assert len(cancel_tasks(ids)) == 1
        for _ in range(5):
            await asyncio.sleep(0)
            task.cancel()  # an asynchronous generator may sleep once more
        await asyncio.wait([task])
        return found

    (straggler,) = asyncio.run(main())
    assert straggler.name == "poll"
    assert straggler.place.startswith("geo.py:")


def test_an_iterator_of_the_plugins_class_is_found(module):
    steps = module.Steps()
    assert place_inside(steps, frozenset({id(vars(module))}), {}) == "geo.py:14 in Steps.__next__"


def test_an_endless_chain_ends_the_look():
    class Circle:
        def __next__(self):
            return None

    first, second = Circle(), Circle()
    first.next, second.next = second, first
    assert place_inside(first, frozenset({0}), {}) is None
