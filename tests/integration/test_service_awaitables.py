"""A call of a service whose result goes on is inside the gate until that is done, or refused."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from epochal.kinds import service

CODE = """
import asyncio, contextlib
from concurrent.futures import Future
from epochal.kinds import service
import tests.integration.test_service_awaitables as test

class Later:
    def __init__(self, coroutine): self.coroutine = coroutine
    def __await__(self): return self.coroutine.__await__()

@service
class counter:
    def __init__(self): self.n = 0
    def export_state(self): return self.n
    def import_state(self, state, from_version): self.n = state
    def count(self): return self.n
    async def _go(self):
        n = self.n
        test.ENTERED.set()
        await asyncio.sleep(0.001)
        while not test.GO_ON.is_set(): await asyncio.sleep(0.001)
        self.n = n + 1
    def _go_on(self):
        n = self.n
        test.ENTERED.set()
        assert test.GO_ON.wait(10)
        self.n = n + 1
    {}
"""
ENTERED = threading.Event()
GO_ON = threading.Event()
POOL = ThreadPoolExecutor(4)

GOES_ON = {
    "a coroutine": "def go(self): return self._go()",
    "a task": "def go(self): return asyncio.ensure_future(self._go())",
    "a gathering": "def go(self): return asyncio.gather(self._go())",
    "a shield": "def go(self): return asyncio.shield(self._go())",
    "an object": "def go(self): return Later(self._go())",
    "an executor's future": "def go(self):\n"
    "        return asyncio.get_running_loop().run_in_executor(test.POOL, self._go_on)",
    "a task of an async method": "async def go(self): return asyncio.ensure_future(self._go())",
    "a coroutine of an async method": "async def go(self): return self._go()",
    "a pool's future": "def go(self): return test.POOL.submit(self._go_on)",
    "an async method's pool's future": "async def go(self):\n"
    "        return test.POOL.submit(self._go_on)",
}
PLAIN = [name for name in list(GOES_ON) if "method" not in name and "pool's" not in name]


@pytest.fixture(autouse=True)
def _fresh():
    ENTERED.clear()
    GO_ON.clear()
    yield
    GO_ON.set()


def load(rt, plugins, way):
    """Load it; returns its gate. A handle in a variable would hold up the drain."""
    rt.load(plugins.write("p", CODE.format(way)))
    return counter(rt)._ref.state.gate


def counter(rt):
    return rt.epoch[service]["p.counter"]


async def finish(result):
    while result is not None and not isinstance(result, list):
        result = await (asyncio.wrap_future(result) if isinstance(result, Future) else result)


@pytest.mark.parametrize("way", GOES_ON.values(), ids=GOES_ON)
def test_a_call_whose_result_goes_on_is_inside(rt, plugins, way):
    gate = load(rt, plugins, way)

    async def call():
        await finish(counter(rt).go())

    inside = POOL.submit(lambda: asyncio.run(call()))
    assert ENTERED.wait(10)
    reload = POOL.submit(lambda: rt.reload("p"))
    while not gate.is_closing and not reload.done():
        pass
    GO_ON.set()
    inside.result(10)
    reload.result(10)
    assert counter(rt).count() == 1


@pytest.mark.parametrize("way", PLAIN)
def test_clients_that_call_again_and_again_do_not_keep_the_gate_open(rt, plugins, way):
    GO_ON.set()
    load(rt, plugins, GOES_ON[way].replace("self._go_on", "list"))

    async def main():
        stop = asyncio.Event()

        async def client():
            while not stop.is_set():
                await finish(counter(rt).go())

        # Each begins while another is inside.
        clients = [asyncio.create_task(client()) for _ in range(4)]
        for _ in range(3):
            await asyncio.sleep(0)
            await rt.areload("p")
        stop.set()
        await asyncio.gather(*clients)

    asyncio.run(main())


def test_a_task_of_a_call_that_waited_is_a_task(rt, plugins):
    """The second comes from the first one's caller, not from inside the first: it waits."""
    gate = load(rt, plugins, GOES_ON["a task"])

    async def main():
        first = counter(rt).go()
        await asyncio.to_thread(ENTERED.wait, 10)
        reload = asyncio.create_task(rt.areload("p"))
        while not gate.is_closing:
            await asyncio.sleep(0)
        second = counter(rt).go()
        assert isinstance(second, asyncio.Task)
        for _ in range(3):
            await asyncio.sleep(0)  # it comes to the gate while the first is inside
        GO_ON.set()
        await asyncio.gather(first, second, reload)
        assert counter(rt).count() == 2

    asyncio.run(main())


@pytest.mark.parametrize("way", ["done", "failed", "cancelled", "dropped"])
def test_a_future_that_is_over_is_outside(rt, plugins, way):
    gate = load(rt, plugins, "def go(self): return Future()")
    future = counter(rt).go()
    assert len(gate.inside()) == 1
    if way == "done":
        future.set_result(1)
    elif way == "failed":
        future.set_exception(ValueError())
    elif way == "cancelled":
        future.cancel()
    else:
        del future
    assert not gate.inside()


@pytest.mark.parametrize(
    "way",
    [
        "def go(self): return (n for n in range(3))",
        "async def go(self): return (n for n in range(3))",
        "@contextlib.contextmanager\n    def go(self): yield",
        "@contextlib.asynccontextmanager\n    async def go(self): yield",
    ],
)
def test_a_generator_is_refused(rt, plugins, way):
    gate = load(rt, plugins, way)

    async def call():
        await finish(counter(rt).go())

    with pytest.raises(TypeError, match="would go on after its call has left the gate"):
        asyncio.run(call())
    assert not gate.inside()
