"""A newcomer's progress in the historic calls, and their results."""

import pytest

from epochal.pluggy._history import HistoricCall, Newcomer, PendingChange


def call(serial, callback=None):
    return HistoricCall(serial, "started", {"x": serial}, callback)


@pytest.fixture
def newcomer():
    return Newcomer("geo")


def test_each_call_is_due_once(newcomer):
    history = (call(1), call(4))
    assert newcomer.take_due(history) == list(history)
    assert newcomer.has_received(history)
    history = (*history, call(5))
    assert not newcomer.has_received(history)
    assert newcomer.take_due(history) == [history[2]]
    assert newcomer.take_due(history) == []


def test_a_newcomer_is_ready_once_nothing_is_due(newcomer):
    newcomer.take_due((call(1),))
    assert not newcomer.is_ready, "it receives the call now"
    newcomer.take_due((call(1),))
    assert newcomer.is_ready


def test_a_call_that_was_withdrawn_is_not_due_again(newcomer):
    newcomer.take_due((call(1), call(2)))
    assert newcomer.take_due((call(1),)) == []
    assert newcomer.has_received(())


def test_results_are_collected_and_delivered_later(newcomer):
    delivered = []
    _, collect = call(1, delivered.append).for_newcomer(newcomer.results)
    collect("a")
    collect("b")
    assert delivered == []
    change = PendingChange(lambda: None, {object(): newcomer})
    for result in change.results:
        result()
    assert delivered == ["a", "b"]


def test_a_call_without_a_callback_collects_nothing(newcomer):
    kwargs, collect = call(1).for_newcomer(newcomer.results)
    assert (kwargs, collect) == ({"x": 1}, None)
