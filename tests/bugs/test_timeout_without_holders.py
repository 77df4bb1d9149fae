"""Found by the interleavings: a drain that ended in its last instant was reported as timed out.

The last lease ended after the time had run out and before the leases were counted for the report,
so `wait_for_drain` raised "0 in flight", although the generation was drained.
"""

import pytest

from epochal import DrainTimeoutError, EpochFencedReload, LifecycleState, PluginLifecycle
from epochal._core.use.drain_wakeup import Waiter


@pytest.fixture
def draining():
    lifecycle = PluginLifecycle("geo")
    lifecycle.set(LifecycleState.ACTIVE)
    leases = [lifecycle.lease("one"), lifecycle.lease("other")]
    lifecycle.set(LifecycleState.DRAINING)
    return EpochFencedReload(lifecycle), leases


def test_a_drain_that_ends_as_its_time_runs_out_is_drained(draining, monkeypatch):
    reload, leases = draining
    run_out = Waiter.wait

    def wait(self, timeout):
        outcome = run_out(self, timeout)
        leases[0].release()
        return outcome

    monkeypatch.setattr(Waiter, "wait", wait)
    assert reload.wait_for_drain(threshold=1, timeout=0.0).wakeup is None
    with pytest.raises(DrainTimeoutError) as caught:
        reload.wait_for_drain(timeout=0.0)
    assert caught.value.in_flight == 1
    assert caught.value.holders
