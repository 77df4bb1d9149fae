"""A drain that does not end goes on, or asks the holders to stop first.

Nothing is ever shut down in use, whatever the policy.
"""

import asyncio
import threading

import pytest
from tests.conftest import tool

from epochal import LifecycleState, Runtime
from epochal.events import StateChanged

CODE = """
import asyncio
LOG = []
@tool
def f():
    assert not LOG, "used after shutdown"
    return 1
@tool
async def poll(started):
    started.set()
    await asyncio.sleep(20)
def shutdown(): LOG.append("down")
"""


@pytest.fixture
def geo(rt, plugins):
    path = plugins.write("geo", CODE)
    rt.load(path)
    return path


def test_by_default_no_holder_is_cancelled_and_the_drain_goes_on(rt, geo):
    with rt.operation("long") as op:
        old = rt.generation("geo")
        assert not rt.reload("geo", drain_timeout=0.01).drained
        assert not op.cancelled
        assert old.state is LifecycleState.DRAINING
        assert op[tool]["geo.f"]() == 1


def test_a_cancelled_operation_stops_and_the_drain_ends(rt, geo):
    events = []
    rt.events.subscribe(events.append)
    op = rt.operation("nightly report")
    op.on_cancel(op.end)
    cut = rt.reload("geo", drain_timeout=0.02, cancel_holders=True)
    assert op.cancelled
    assert cut.drained
    rt.close()
    asked = [event for event in events if type(event).__name__ == "HoldersAsked"]
    assert tuple(map(str, asked[0].holders)) == ("operation 'nightly report'",)


def test_an_operation_may_poll_whether_it_is_cancelled(rt, geo):
    ended = []

    def work():
        with rt.operation("loop") as op:
            started.set()
            for _ in range(10_000):
                if op.cancelled:
                    break
                wait.wait(0.001)
            ended.append(op[tool]["geo.f"]())

    started, wait = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    assert rt.reload("geo", drain_timeout=0.02, cancel_holders=True).published
    thread.join(10)
    assert ended == [1]


def test_a_task_inside_the_old_code_is_cancelled(plugins):
    async def main():
        async with Runtime() as rt:
            await rt.aload(plugins.write("geo", CODE))
            started = asyncio.Event()
            ended = []
            task = asyncio.create_task(rt.epoch[tool]["geo.poll"](started), name="poller")
            task.add_done_callback(lambda task: ended.append(task.cancelled()))
            del task  # a cancelled task holds its exception, and so the frames in it
            await started.wait()
            cut = await rt.areload("geo", drain_timeout=0.02, cancel_holders=True)
            assert cut.drained, cut.holders
            assert ended == [True]

    asyncio.run(main())


def test_a_holder_that_does_not_stop_is_not_shut_down_in_use(rt, geo):
    op = rt.operation("deaf")
    old = rt.generation("geo")
    cut = rt.reload("geo", drain_timeout=0.02, cancel_holders=True)
    assert op.cancelled
    assert not cut.drained
    assert old.state is LifecycleState.DRAINING
    assert op[tool]["geo.f"]() == 1
    op.end()
    rt.close()
    assert old.state is LifecycleState.REMOVED


def test_a_callback_that_raises_is_reported_and_stops_nothing(rt, geo):
    op = rt.operation("clumsy")

    def boom():
        raise ValueError("cannot stop")

    op.on_cancel(op.end)
    op.on_cancel(boom)
    cut = rt.reload("geo", drain_timeout=0.02, cancel_holders=True)
    assert cut.drained
    assert any("cannot stop" in line or "clumsy" in line for line in cut.failures), cut.failures


def test_a_callback_is_called_once_whenever_it_was_registered(rt, geo):
    calls = []
    with rt.operation("x") as op:
        op.on_cancel(lambda: calls.append("before"))
        op.cancel()
        op.cancel()
        assert calls == ["before"]
        op.on_cancel(lambda: calls.append("after"))
        assert calls == ["before", "after"]


def test_an_ended_operation_is_not_cancelled(rt, geo):
    calls = []
    with rt.operation("x") as op:
        op.on_cancel(lambda: calls.append(1))
    op.cancel()
    assert calls == []


def test_a_host_drops_what_its_cache_keeps_by_export_as_a_generation_drains(rt, geo):
    """The recipe of docs/kinds.md: a cache keyed by an export holds it in use."""
    adapters = {rt.epoch[tool]["geo.f"]: "an adapter"}

    def forget(event):
        if isinstance(event, StateChanged) and event.new is LifecycleState.DRAINING:
            for export in [key for key in adapters if key.__module__ == event.plugin]:
                del adapters[export]

    end = rt.events.subscribe(forget)
    cut = rt.reload("geo", drain_timeout=10.0)
    end()
    assert adapters == {}
    assert cut.drained
    assert cut.reclaimed, cut.leaks
