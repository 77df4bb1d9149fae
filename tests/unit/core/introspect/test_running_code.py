"""The threads and tasks inside a module's code: found while they are in it, however deep."""

import asyncio
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from epochal._core.introspect import running_code
from epochal._core.introspect.origins import Origin
from epochal._core.introspect.places import place_in
from epochal._core.introspect.running_code import (
    all_tasks,
    cancel_tasks,
    find_stragglers,
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


class Plugin:
    """Stands for a generation."""

    def globals_ids(self):
        return frozenset()


@pytest.fixture
def origin():
    plugin = Plugin()
    return Origin("geo#0", plugin.globals_ids)


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


def test_own_threads_and_other_code_are_not_stragglers(module, ids, start, origin):
    own = start(module.stay)
    start(lambda inside, go_on: (inside.set(), go_on.wait(30)))
    origin.adopt(own)
    assert find_stragglers(ids, own=origin) == ()
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
    assert [running.name for running in threads_inside(ids)] == ["late"]
    go_on.set()
    late.set()
    thread.join(10)
    assert list(threads_inside(ids)) == []


def test_a_task_is_found_through_the_coroutines_that_await_it(module, ids, origin):
    async def outer():
        await module.sleep()

    async def main():
        task = asyncio.create_task(outer(), name="poll")
        await asyncio.sleep(0)
        stragglers = find_stragglers(ids)
        with origin.running():
            own = asyncio.create_task(outer())
        await asyncio.sleep(0)
        assert find_stragglers(ids, own=origin) == stragglers
        own.cancel()
        await asyncio.wait([own])
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


# --- the look is stable --------------------------------------------------------------------------


class Item:
    """A piece of suspended work."""


class Chain:
    """A scheduler whose work begins its successor and ends, each time that a look comes near."""

    kind = "task"

    def __init__(self, hops):
        self.hops = hops
        self.current = Item()

    def items(self):
        return [self.current]

    def place(self, item, code):
        if self.hops:
            self.hops -= 1
            self.current = Item()
        return "geo.py:7 in poll" if item is self.current else None

    def may_hide(self, item):
        return True

    def name(self, item):
        return "poll"

    def context(self, item):
        return None

    def ident(self, item):
        return None


@pytest.mark.parametrize("hops", [0, 1, 2, 3, 20])
def test_a_look_is_repeated_until_nothing_new_begins(monkeypatch, ids, hops):
    monkeypatch.setattr(running_code, "SCHEDULERS", (Chain(hops),))
    assert [str(s) for s in find_stragglers(ids)] == ["task 'poll' at geo.py:7 in poll"]


def test_a_look_that_does_not_come_to_an_end_is_no_proof(monkeypatch, ids):
    monkeypatch.setattr(running_code, "SCHEDULERS", (Chain(10**9),))
    monkeypatch.setattr(running_code, "_LOOK_S", 0.01)
    assert find_stragglers(ids) == (running_code.UNSETTLED,)


def test_work_that_is_handed_to_an_older_thread_or_task_is_found(monkeypatch, ids):
    """It begins nothing new: so what was seen is looked at a second time."""
    older, moved = Item(), []

    class Moving(Chain):
        def items(self):
            return [older]

        def place(self, item, code):
            moved.append(True)
            return "geo.py:7 in poll" if len(moved) == 2 else None

    monkeypatch.setattr(running_code, "SCHEDULERS", (Moving(0),))
    assert len(find_stragglers(ids)) == 1


def test_a_callback_that_is_due_is_found(module, ids):
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(module.steps)
        asyncio.run_coroutine_threadsafe(module.sleep(), loop)
        return find_stragglers(ids)

    assert sorted(map(str, asyncio.run(main()))) == [
        "a call of geo.py:6 in sleep that waits in an event loop",
        "a call of geo.py:8 in steps that waits in an event loop",
    ]


def test_a_call_that_waits_in_an_executor_is_found(module, ids):
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(go_on.wait, 20)
        pool.submit(partial(list, module.steps()))
        pool.submit(partial(module.steps))
        found = find_stragglers(ids)
        go_on.set()
    assert list(map(str, found)) == [
        "a call of geo.py:8 in steps that waits in an executor's queue",
    ]


def test_a_greenlet_that_is_switched_out_is_found(module, ids):
    greenlet = pytest.importorskip("greenlet")
    exec("def work(back):\n    back()", vars(module))

    def use_greenlets():
        suspended = greenlet.greenlet(module.work)
        fresh = greenlet.greenlet(module.work)
        assert len(find_stragglers(ids)) == 2  # they will begin with the code
        suspended.switch(greenlet.getcurrent().switch)
        assert str(find_stragglers(ids)[0]) == "greenlet 'greenlet' suspended at <string>:2 in work"
        suspended.switch()
        del fresh
        assert find_stragglers(ids) == ()

    # On a thread that ends: where a thread has used greenlets, each look goes over all objects.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(use_greenlets).result()


def test_a_trio_task_is_found(module, ids):
    trio = pytest.importorskip("trio")
    exec("import trio\nasync def rest(): await trio.sleep(60)", vars(module))

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(module.rest)
            await trio.sleep(0)
            found = await trio.to_thread.run_sync(find_stragglers, ids)
            nursery.cancel_scope.cancel()
        return found

    (straggler,) = trio.run(main)
    assert straggler.place.endswith(" in rest")


def test_waiting_calls_of_other_code_keep_no_look_from_its_end(monkeypatch, ids):
    class Busy(Chain):
        def items(self):
            return [Item()]

        def place(self, item, code):
            return None

        def may_hide(self, item):
            return False

    monkeypatch.setattr(running_code, "SCHEDULERS", (Busy(0),))
    assert find_stragglers(ids) == ()


def test_a_callback_on_its_way_to_its_task_is_found(module, ids):
    """The loop has taken the callback, and has yet to make the task of the coroutine."""
    loop, inside, go_on = asyncio.new_event_loop(), threading.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def callback(made):
        inside.set()
        go_on.wait(20)
        made.close()

    loop.call_soon_threadsafe(callback, module.sleep())
    assert inside.wait(10)
    found = find_stragglers(ids)
    go_on.set()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
    assert "a call of geo.py:6 in sleep that waits in an event loop" in map(str, found)
