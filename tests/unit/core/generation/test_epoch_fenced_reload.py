"""The hand-driven protocol (flaws 2 to 4 and 8 of the design)."""

import asyncio
import gc
import os
import threading

import pytest
from tests.unit.core.generation.lifecycles import (
    active,
    at_once,
    draining,
    wait_until_a_waiter_registers,
)

from epochal import (
    DrainTimeoutError,
    EpochFencedReload,
    InUseError,
    LifecycleState,
    NotActiveError,
    PluginLifecycle,
    UnexpectedTransitionError,
)
from epochal.errors import ForkedRuntimeError

S = LifecycleState


def test_exactly_one_of_many_begin_drains_wins():
    for _ in range(100):
        lifecycle = active()
        results = at_once(4, EpochFencedReload(lifecycle).begin_drain)
        losers = [r for r in results if isinstance(r, NotActiveError)]
        assert results.count(None) == 1
        assert len(losers) == 3
        assert {error.state for error in losers} == {S.DRAINING}


@pytest.mark.parametrize("state", [s for s in S if s is not S.ACTIVE])
def test_begin_drain_from_another_state_than_active_is_refused(state):
    lifecycle = PluginLifecycle("geo")
    lifecycle.set(state)
    with pytest.raises(NotActiveError, match=state.name) as caught:
        EpochFencedReload(lifecycle).begin_drain()
    assert caught.value.state is state
    assert lifecycle.state is state


def test_an_unused_generation_drains_at_once():
    _, reload = draining()
    drained = reload.wait_for_drain(timeout=0)
    assert drained.wakeup is None


def test_the_wait_is_woken_by_the_release_itself():
    lifecycle = active()
    lease = lifecycle.lease()
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    woken = []
    waiter = threading.Thread(target=lambda: woken.append(reload.wait_for_drain(timeout=30)))
    waiter.start()
    wait_until_a_waiter_registers(lifecycle)
    lease.release()
    waiter.join(10)
    assert woken[0].wakeup is not None


def test_the_wait_does_not_poll(monkeypatch):
    """Between its few collections a wait sleeps through: it asks its queue once for each."""
    from epochal._core.use import drain_wakeup as module

    gets = []

    class Queue(module.SimpleQueue):
        def get(self, *args, **kw):
            gets.append(kw)
            return super().get(*args, **kw)

    monkeypatch.setattr(module, "SimpleQueue", Queue)
    lifecycle = active()
    held = lifecycle.lease()
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    with pytest.raises(DrainTimeoutError):
        reload.wait_for_drain(timeout=0.4)
    assert not held.released
    assert len(gets) == 3  # two young collections (0.05 and 0.25 s), then the limit


def test_a_threshold_lets_some_leases_stay():
    lifecycle = active()
    leases = [lifecycle.lease() for _ in range(3)]
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    with pytest.raises(DrainTimeoutError):
        reload.wait_for_drain(threshold=1, timeout=0)
    leases.pop()
    with pytest.raises(DrainTimeoutError):
        reload.wait_for_drain(threshold=1, timeout=0)
    leases.pop()
    reload.wait_for_drain(threshold=1, timeout=0)


def test_a_drain_timeout_has_the_time_the_count_and_the_holders():
    lifecycle = active()
    lease = lifecycle.lease("the nightly report")
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    with pytest.raises(DrainTimeoutError) as caught:
        reload.wait_for_drain(timeout=0.01)
    assert caught.value.waited >= 0.01
    assert caught.value.in_flight == 1
    assert any("the nightly report" in line for line in map(str, caught.value.holders))
    assert isinstance(caught.value, TimeoutError)
    assert lifecycle.state is S.DRAINING, "a time-out shuts nothing down"
    lease.release()


def test_a_wait_before_begin_drain_is_refused():
    with pytest.raises(UnexpectedTransitionError, match="begin_drain") as caught:
        EpochFencedReload(active()).wait_for_drain(timeout=0)
    assert caught.value.state is S.ACTIVE


def test_finalize_from_active_is_refused_even_by_force():
    lifecycle = active()
    for force in (False, True):
        with pytest.raises(UnexpectedTransitionError) as caught:
            EpochFencedReload(lifecycle).finalize(force=force)
        assert caught.value.state is S.ACTIVE
    assert lifecycle.state is S.ACTIVE


def test_finalize_is_refused_while_in_use_unless_forced():
    lifecycle = active()
    lease = lifecycle.lease()
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    with pytest.raises(InUseError) as caught:
        reload.finalize()
    assert caught.value.in_flight == 1
    assert lifecycle.state is S.DRAINING
    reload.finalize(force=True)
    assert lifecycle.state is S.REMOVED
    lease.release()


def test_finalize_is_idempotent():
    lifecycle, reload = draining()
    reload.finalize()
    reload.finalize()
    assert lifecycle.state is S.REMOVED
    assert reload.old_lifecycle is lifecycle


def test_the_wait_collects_a_lease_in_a_reference_cycle():
    lifecycle = active()
    knot = [lifecycle.lease()]
    knot.append(knot)
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    gc.disable()
    try:
        del knot
        assert len(lifecycle.ledger) == 1
        reload.wait_for_drain(timeout=10)
    finally:
        gc.enable()


def test_await_drain_does_not_block_the_loop_and_ends_with_the_release():
    async def main() -> None:
        lifecycle = active()
        lease = lifecycle.lease()
        reload = EpochFencedReload(lifecycle)
        reload.begin_drain()
        waiting = asyncio.create_task(reload.await_drain(timeout=10))
        while not lifecycle.ledger._waiters:
            await asyncio.sleep(0)
        assert not waiting.done()
        lease.release()
        drained = await waiting
        assert drained.wakeup is not None
        reload.finalize()

    asyncio.run(main())


def test_await_drain_raises_like_its_twin_and_can_be_cancelled():
    async def main() -> None:
        lifecycle = active()
        lease = lifecycle.lease()
        reload = EpochFencedReload(lifecycle)
        reload.begin_drain()
        with pytest.raises(DrainTimeoutError):
            await reload.await_drain(timeout=0.01)
        waiting = asyncio.create_task(reload.await_drain(timeout=None))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert lifecycle.state is S.DRAINING
        lease.release()

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("epochal-drain"):
            thread.join(10)
            assert not thread.is_alive(), "a cancelled wait leaves its thread behind"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_wait_in_a_forked_child_raises_instead_of_hanging():
    lifecycle = active()
    lease = lifecycle.lease()
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    pid = os.fork()
    if pid == 0:
        try:
            reload.wait_for_drain(timeout=None)
        except ForkedRuntimeError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    lease.release()
