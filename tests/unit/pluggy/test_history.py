"""A newcomer's progress in the historic calls, and their results."""

from types import SimpleNamespace

import pytest

from epochal.pluggy._history import HistoricCall, Newcomer, PendingChange, replay


def call(serial, callback=None, name="started"):
    return HistoricCall(serial, name, {"x": serial}, callback)


def history(*calls):
    by_hook = {}
    for each in calls:
        by_hook[each.name] = (*by_hook.get(each.name, ()), each)
    return by_hook


@pytest.fixture
def newcomer():
    return Newcomer("geo", ["started"])


def test_each_call_is_due_once(newcomer):
    first, second, third = call(1), call(4), call(5)
    calls = history(first, second)
    assert newcomer.take_due(calls) == [first, second]
    assert newcomer.has_received(calls)
    calls = history(first, second, third)
    assert not newcomer.has_received(calls)
    assert newcomer.take_due(calls) == [third]
    assert newcomer.take_due(calls) == []


def test_a_newcomer_receives_the_calls_of_its_own_hooks(newcomer):
    other, own = call(2, name="stopped"), call(1)
    assert newcomer.has_received(history(other))
    assert newcomer.take_due(history(own, other)) == [own]
    assert newcomer.has_received(history(own, other))


def test_a_newcomer_is_ready_once_nothing_is_due(newcomer):
    newcomer.take_due(history(call(1)))
    assert not newcomer.is_ready, "it receives the call now"
    newcomer.take_due(history(call(1)))
    assert newcomer.is_ready


def test_a_call_that_was_withdrawn_is_not_due_again(newcomer):
    newcomer.take_due(history(call(1), call(2)))
    assert newcomer.take_due(history(call(1))) == []
    assert newcomer.has_received({"started": ()})


def test_results_are_collected_and_delivered_later(newcomer):
    delivered = []
    answers = {1: ["a"], 2: [], 3: ["b"], 4: ["c"]}
    runner = SimpleNamespace(run=lambda hook, impls, kwargs, first: answers[kwargs["x"]])
    due = [call(1, delivered.append), call(2, delivered.append), call(3), call(4, delivered.append)]
    replay(runner, newcomer, [("other", None), ("started", None)], due)
    assert delivered == []
    change = PendingChange(lambda: None, {object(): newcomer})
    for result in change.results:
        result()
    assert delivered == ["a", "c"]
