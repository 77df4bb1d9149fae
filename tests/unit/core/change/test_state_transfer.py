"""The state of one plugin: run, then committed or rolled back, also while its code still runs."""

from contextlib import nullcontext

import pytest

from epochal._core.change.state_transfer import StateTransfer
from epochal.errors import HandOverError, IncompatibleError


class Move:
    """Notes what is done with it; its gate is its name."""

    def __init__(self, name, log, error=None):
        self.gate, self._log, self._error = name, log, error

    def _note(self, call):
        self._log.append((self.gate, call))
        if self._error is not None:
            raise self._error

    def run(self):
        self._note("run")

    def commit(self, offered):
        self._note(("commit", offered))

    def roll_back(self):
        self._note("roll back")


def transfer(*moves):
    return StateTransfer("geo", [(None, move) for move in moves], nullcontext)


def test_moves_are_rolled_back_last_first_and_only_those_that_began():
    log = []
    moving = transfer(Move("a", log), Move("b", log, LookupError("no")), Move("c", log))
    assert moving
    assert moving.gates == ["a", "b", "c"]
    with pytest.raises(HandOverError, match=r"geo.*could not be handed over: LookupError: no"):
        moving.run()
    failures = moving.roll_back()
    assert log == [("a", "run"), ("b", "run"), ("b", "roll back"), ("a", "roll back")]
    assert failures == ["ending the hand-over of the state of plugin 'geo': LookupError: no"]
    assert moving.roll_back() == []


def test_a_new_version_that_refuses_the_state_is_incompatible():
    with pytest.raises(IncompatibleError, match="ValueError: too old"):
        transfer(Move("a", [], ValueError("too old"))).run()


def test_code_that_goes_on_after_the_end_begins_nothing_more():
    log = []
    later = Move("b", log)
    first = Move("a", log)
    moving = transfer(first, later)
    first.run = lambda: log.append(("ended", moving.roll_back()))  # the change was given up here
    moving.run()
    assert log == [("a", "roll back"), ("ended", [])]


def test_a_commit_gets_what_the_new_epoch_offers():
    log = []
    moving = StateTransfer("geo", [("key", Move("a", log))], nullcontext)
    moving._begun.append(moving._handovers[0])
    assert moving.commit({"key": "offered"}) == []
    assert log == [("a", ("commit", "offered"))]
