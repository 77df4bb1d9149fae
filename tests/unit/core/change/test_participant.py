"""The participants of one change: each is asked once, and notified once of the end."""

import contextvars
from types import SimpleNamespace

import pytest

from epochal._core.change.participant import Participants
from epochal._core.change.plan import Deadline, Step
from epochal._core.change.plugin_calls import StepRunner
from epochal.errors import IncompatibleError, UnknownPluginError
from epochal.report import StepName

STAGING = SimpleNamespace(built="the next epoch", generations=[])
CHECK = Step(StepName.CHECK)


class Host:
    def __init__(self, error=None):
        self.ended, self._error = [], error

    def check(self, epoch, newcomers):
        assert (epoch, newcomers) == ("the next epoch", ())
        if self._error is not None:
            raise self._error
        return [SimpleNamespace(plugin="geo"), SimpleNamespace(plugin="units")]

    def finish(self, *, published):
        self.ended.append(published)
        return [f"call of {id(self)}"]


@pytest.fixture
def participants():
    return Participants(STAGING, StepRunner(1, contextvars.copy_context()), Deadline(1.0))


def test_each_newcomer_that_a_host_names_gets_a_step(participants):
    steps = participants.check(Host(), CHECK)
    assert [str(step) for step in steps] == ["prepare geo for Host", "prepare units for Host"]
    assert all(step.deadline is not None for step in steps)


def test_a_host_that_raised_is_notified_of_the_end_once(participants):
    hosts = [Host(), Host(LookupError("no")), Host()]
    participants.check(hosts[0], CHECK)
    with pytest.raises(IncompatibleError, match="refuses the change: LookupError: no"):
        participants.check(hosts[1], CHECK)
    assert participants.roll_back() == ()
    assert participants.roll_back() == ()
    assert [host.ended for host in hosts] == [[False], [False], []]


def test_an_error_of_ours_is_raised_as_it_is(participants):
    error = UnknownPluginError("geo")
    with pytest.raises(UnknownPluginError) as caught:
        participants.check(Host(error), CHECK)
    assert caught.value is error


def test_publishing_returns_the_calls_of_all_hosts_in_order(participants):
    hosts = [Host(), Host()]
    for host in hosts:
        participants.check(host, CHECK)
    assert participants.finish(published=True) == [f"call of {id(host)}" for host in hosts]
    assert participants.finish(published=True) == []
