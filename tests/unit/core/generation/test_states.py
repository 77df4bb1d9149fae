"""The states and the moves between them."""

import pytest

from epochal import LifecycleState


def test_states_are_ordered_as_a_life_goes_through_them():
    names = ["LOADED", "LINKED", "INITIALIZED", "ACTIVE", "DRAINING", "REMOVED"]
    assert [state.name for state in sorted(LifecycleState)] == names


@pytest.mark.parametrize("state", list(LifecycleState)[:-1])
def test_a_state_is_followed_by_the_next_one(state):
    assert state.following == state + 1


def test_removed_is_the_end():
    assert LifecycleState.REMOVED.following is LifecycleState.REMOVED
