"""The state machine (flaw 1 of the design)."""

import pytest
from tests.unit.core.generation.lifecycles import (
    active,
    at_once,
    draining,
)

from epochal import (
    LifecycleState,
    NotActiveError,
    PluginLifecycle,
)

S = LifecycleState


def test_advance_takes_every_state_in_order_and_stays_at_removed():
    lifecycle = PluginLifecycle("geo")
    assert lifecycle.state is S.LOADED
    assert [lifecycle.advance() for _ in range(6)] == [
        S.LINKED,
        S.INITIALIZED,
        S.ACTIVE,
        S.DRAINING,
        S.REMOVED,
        S.REMOVED,
    ]


def test_state_is_a_plain_attribute_not_a_locked_property():
    assert not isinstance(vars(PluginLifecycle)["state"], property)
    lifecycle = active()
    with lifecycle._lock:  # a reader passes although a writer is in the middle of a move
        assert lifecycle.state is S.ACTIVE


@pytest.mark.parametrize("callers", [2, 3, 5])
def test_concurrent_advances_take_distinct_steps(callers):
    for _ in range(200):
        lifecycle = PluginLifecycle("geo")
        steps = at_once(callers, lifecycle.advance)
        assert sorted(steps) == list(S)[1 : callers + 1]


def test_is_active_and_is_winding_down_for_each_state():
    lifecycle = PluginLifecycle("geo")
    seen = {}
    for state in S:
        lifecycle.set(state)
        seen[state] = (lifecycle.is_active, lifecycle.is_winding_down)
    assert [s for s, (is_active, _) in seen.items() if is_active] == [S.ACTIVE]
    assert [s for s, (_, down) in seen.items() if down] == [S.DRAINING, S.REMOVED]


def test_a_draining_generation_issues_no_lease():
    lifecycle, _ = draining()
    with pytest.raises(NotActiveError, match="DRAINING"):
        lifecycle.lease()
    assert len(lifecycle.ledger) == 0


def test_a_lease_ends_when_it_is_released_or_unreferenced():
    lifecycle = active()
    released, dropped = lifecycle.lease("a"), lifecycle.lease("b")
    with lifecycle.lease("c"):
        assert len(lifecycle.ledger) == 3
    released.release()
    released.release()
    assert released.released
    assert len(lifecycle.ledger) == 1
    del dropped
    assert len(lifecycle.ledger) == 0
