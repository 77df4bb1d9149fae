"""The threads and tasks inside a module's code: found while they are in it, however deep."""

import asyncio
import threading
import types
from functools import partial

import pytest

from epochal._core.introspect.running_code import (
    all_tasks,
    cancel_tasks,
    find_stragglers,
    place_in,
    threads_inside,
)

CODE = """
import asyncio
def stay(inside, go_on):
    inside.set()
    go_on.wait(30)
async def sleep():
    await asyncio.sleep(60)
def steps():
    yield
class Helper:
    def stay(self, inside, go_on): stay(inside, go_on)
"""


@pytest.fixture
def module():
    made = types.ModuleType("geo")
    exec(compile(CODE, "/plugins/geo.py@g3", "exec"), vars(made))
    return made


@pytest.fixture
def ids(module):
    return frozenset({id(vars(module))})


@pytest.fixture
def start():
    """Start a thread that stays inside; all end with the test."""
    go_on, started = threading.Event(), []

    def start(target):
        inside = threading.Event()
        thread = threading.Thread(target=target, args=(inside, go_on), name="helper")
        thread.start()
        started.append(thread)
        assert inside.wait(10)
        return thread

    yield start
    go_on.set()
    for thread in started:
        thread.join(10)


def test_a_thread_inside_is_found_with_its_place(module, ids, start):
    start(lambda inside, go_on: module.stay(inside, go_on))
    (straggler,) = find_stragglers(ids)
    assert (straggler.kind, straggler.name) == ("thread", "helper")
    assert straggler.place == "geo.py:5 in stay"
    assert str(straggler) == "thread 'helper' at geo.py:5 in stay"


def test_own_threads_and_other_code_are_not_stragglers(module, ids, start):
    own = start(module.stay)
    start(lambda inside, go_on: (inside.set(), go_on.wait(30)))
    assert find_stragglers(ids, own_threads=frozenset({own.ident})) == ()
    assert find_stragglers(frozenset()) == ()


@pytest.mark.parametrize("first", ["function", "method", "partial"])
def test_a_thread_that_will_begin_with_the_code_is_found(module, ids, first):
    target = {
        "function": module.stay,
        "method": module.Helper().stay,
        "partial": partial(module.stay),
    }[first]
    late, go_on = threading.Event(), threading.Event()

    class Late(threading.Thread):
        def start(self):
            self.run = lambda: (late.wait(30), type(self).run(self))
            super().start()

    thread = Late(target=target, args=(threading.Event(), go_on), name="late")
    thread.start()
    assert [name for _, name, _ in threads_inside(ids)] == ["late"]
    go_on.set()
    late.set()
    thread.join(10)
    assert list(threads_inside(ids)) == []


def test_a_task_is_found_through_the_coroutines_that_await_it(module, ids):
    async def outer():
        await module.sleep()

    async def main():
        task = asyncio.create_task(outer(), name="poll")
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        stragglers = find_stragglers(ids)
        assert find_stragglers(ids, own_loops=frozenset({id(loop)})) == ()
        assert task in all_tasks()
        (asked,) = cancel_tasks(ids)
        with pytest.raises(asyncio.CancelledError):
            await task
        return stragglers, asked

    (straggler,), asked = asyncio.run(main())
    assert str(straggler) == "task 'poll' at geo.py:7 in sleep"
    assert str(asked) == "task 'poll'"


def test_a_hostile_awaitable_breaks_no_look(module, ids):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(60).__await__()

        def __getattr__(self, name):
            if name == "cr_frame":
                return
            raise AttributeError(name)

    async def main():
        async def wait():
            await Awaitable()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert find_stragglers(ids) == ()
        task.cancel()

    asyncio.run(main())


def test_a_place_without_a_line_is_the_first_line(module):
    assert place_in(module.stay.__code__, None) == "geo.py:3 in stay"
