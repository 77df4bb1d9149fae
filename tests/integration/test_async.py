"""The asyncio forms are the same changes, and the event loop is never blocked."""

import asyncio
import threading

import pytest
from tests.conftest import tool

from epochal import LifecycleState, Runtime
from epochal.errors import ConfigKeyError, HostError, InitError, UnknownPluginError

GATE = threading.Event()
STARTED = threading.Event()
GOOD = "@tool\ndef version(): return {n}\n"
SLOW = """
from tests.integration.test_async import GATE, STARTED
def init(ctx):
    STARTED.set()
    assert GATE.wait(20)
@tool
def version(): return 2
"""


@pytest.fixture(autouse=True)
def _gates():
    GATE.clear()
    STARTED.clear()
    yield
    GATE.set()


def run(main):
    async def with_runtime():
        async with Runtime(drain_timeout=10.0, phase_timeout=10.0) as rt:
            await asyncio.wait_for(main(rt), 30)

    asyncio.run(with_runtime())


def test_each_form_gives_the_report_of_its_twin(plugins):
    async def main(rt):
        cut = await rt.aload(plugins.write("geo", GOOD.format(n=1)), config={"k": 1})
        assert (cut.epoch_before, cut.epoch_after, cut.plugins) == (0, 1, ("geo",))
        cut = await rt.areload("geo", plugins.write("geo", GOOD.format(n=2)), drain_timeout=5.0)
        assert cut.drained
        assert cut.reclaimed
        assert rt.epoch[tool]["geo.version"]() == 2
        async with rt.achange() as change:
            change.load(plugins.write("other", GOOD.format(n=1)))
            change.remove("geo")
        assert set(change.cutover.plugins) == {"geo", "other"}
        assert (await rt.aremove("other")).epoch_after == 4
        with pytest.raises(UnknownPluginError):
            await rt.areload("geo")

    run(main)


def test_a_folder_is_loaded_in_one_change_or_not_at_all(plugins):
    async def main(rt):
        plugins.write("area", GOOD.format(n=1), requires=["unit"])  # the order is by requirements
        unit = plugins.write("unit", "def init(ctx): assert ctx.config['k']\n" + GOOD.format(n=1))
        with pytest.raises(ConfigKeyError):
            await rt.aload_folder(plugins.root)
        assert rt.epoch.number == 0
        configs = {"unit": {"k": 1}}
        cut = await rt.aload_folder(plugins.root, configs=configs)
        assert (cut.epoch_after, set(cut.plugins)) == (1, {"area", "unit"})
        unit.write_text(unit.read_text().replace("return 1", "return 2"))
        again = await rt.aload_folder(plugins.root)
        assert rt.epoch[tool]["unit.version"]() == 2
        assert {swap.plugin for swap in again.swaps} == {
            "area",
            "unit",
        }
        with pytest.raises(HostError, match="none"):
            await rt.aload_folder(plugins.root / "none")

    run(main)


def test_the_loop_goes_on_while_a_plugins_init_takes_its_time(plugins):
    async def main(rt):
        ticks = 0
        task = asyncio.create_task(rt.aload(plugins.write("geo", SLOW)))
        await asyncio.to_thread(STARTED.wait, 10)
        for _ in range(100):
            await asyncio.sleep(0)
            ticks += 1
        assert not task.done()
        GATE.set()
        assert (await task).published
        assert ticks == 100

    run(main)


def test_the_loop_goes_on_while_an_old_generation_drains(plugins):
    async def main(rt):
        await rt.aload(plugins.write("geo", GOOD.format(n=1)))
        epoch = rt.epoch
        task = asyncio.create_task(rt.areload("geo", plugins.write("geo", GOOD.format(n=2))))
        while rt.epoch is epoch:
            await asyncio.sleep(0)
        assert not task.done()
        del epoch
        assert (await task).drained

    run(main)


def test_a_task_cancelled_while_init_runs_rolls_the_change_back(plugins):
    async def main(rt):
        await rt.aload(plugins.write("geo", GOOD.format(n=1)))
        epoch = rt.epoch
        task = asyncio.create_task(rt.areload("geo", plugins.write("geo", SLOW)))
        await asyncio.to_thread(STARTED.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rt.epoch is epoch
        assert rt.generation("geo").state is LifecycleState.ACTIVE
        assert epoch[tool]["geo.version"]() == 1
        GATE.set()
        del epoch
        assert (await rt.areload("geo", plugins.write("geo", GOOD.format(n=3)))).published

    run(main)


def test_a_task_cancelled_while_it_waits_for_its_turn_changes_nothing(plugins):
    async def main(rt):
        first = asyncio.create_task(rt.aload(plugins.write("geo", SLOW)))
        await asyncio.to_thread(STARTED.wait, 10)
        second = asyncio.create_task(rt.aload(plugins.write("other", GOOD.format(n=1))))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        GATE.set()
        await first
        assert list(rt.epoch.generations) == ["geo"]

    run(main)


def test_a_task_cancelled_during_the_drain_leaves_the_change_committed(plugins):
    async def main(rt):
        await rt.aload(plugins.write("geo", GOOD.format(n=1)))
        epoch, old = rt.epoch, rt.generation("geo")
        task = asyncio.create_task(rt.areload("geo", plugins.write("geo", GOOD.format(n=2))))
        while rt.epoch is epoch:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rt.epoch[tool]["geo.version"]() == 2
        assert old.state is LifecycleState.DRAINING
        assert epoch[tool]["geo.version"]() == 1
        del epoch

    run(main)


def test_an_error_in_the_block_throws_the_change_away(plugins):
    async def main(rt):
        with pytest.raises(KeyError):
            async with rt.achange() as change:
                change.load(plugins.write("geo", GOOD.format(n=1)))
                raise KeyError
        assert not rt.epoch.generations

    run(main)


def test_a_plugins_error_comes_through(plugins):
    async def main(rt):
        with pytest.raises(InitError, match="no luck"):
            await rt.aload(plugins.write("geo", "def init(ctx): raise ValueError('no luck')"))

    run(main)


def test_an_export_may_be_awaited_across_a_reload(plugins):
    code = """
@tool
async def version(started, event):
    started.set()
    await event.wait()
    return {n}
"""

    async def main(rt):
        await rt.aload(plugins.write("geo", code.format(n=1)))
        started, event = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(rt.epoch[tool]["geo.version"](started, event))
        await started.wait()
        reloading = asyncio.create_task(rt.areload("geo", plugins.write("geo", code.format(n=2))))
        while rt.epoch.number == 1:
            await asyncio.sleep(0)
        event.set()
        assert await running == 1
        assert await rt.epoch[tool]["geo.version"](asyncio.Event(), event) == 2
        del running
        assert (await reloading).drained

    run(main)
