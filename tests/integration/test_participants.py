"""Participants: hosts that take part in a runtime's changes."""

import gc
import threading
import weakref

import pytest
from tests.conftest import tool

from epochal import Runtime
from epochal.errors import IncompatibleError, NestedChangeError, PhaseTimeoutError, PrepareError

CODE = "@tool\ndef f(): return 1\ndef shutdown(): LOG.append('shutdown')\nLOG = []\n"


class Noting:
    """Notes each call, and does what a test defines."""

    def __init__(self, *, check=None, prepare=None, after=None):
        self.log = []
        self._check, self._prepare, self._after = check, prepare, after

    def check(self, epoch, newcomers):
        self.log.append(("check", epoch.number, [str(newcomer) for newcomer in newcomers]))
        if self._check is not None:
            self._check(epoch)
        return newcomers

    def prepare(self, generation):
        self.log.append(("prepare", str(generation)))
        if self._prepare is not None:
            self._prepare(generation)

    def finish(self, *, published):
        self.log.append(("finish", published))
        return [self._after] if self._after is not None else []


def fail(*_):
    raise LookupError("no")


def test_a_participant_checks_then_prepares_newcomers_then_finishes(rt, plugins):
    epochs = []
    participant = Noting(prepare=lambda _: epochs.append(rt.epoch.number))
    rt.join(participant)
    with rt.change() as change:
        change.load(plugins.write("a", CODE, requires=["b"]))
        change.load(plugins.write("b", CODE))
    rt.reload("b")
    rt.remove("a")
    assert participant.log == [
        ("check", 1, ["b#0", "a#0"]),
        ("prepare", "b#0"),
        ("prepare", "a#0"),
        ("finish", True),
        ("check", 2, ["b#1", "a#1"]),
        ("prepare", "b#1"),
        ("prepare", "a#1"),
        ("finish", True),
        ("check", 3, []),
        ("finish", True),
    ]
    assert epochs == [0, 0, 1, 1]  # before it is published


@pytest.mark.parametrize(
    ("options", "error", "asked"),
    [
        ({"check": fail}, IncompatibleError, ["check", "finish"]),
        ({"prepare": fail}, PrepareError, ["check", "prepare", "finish"]),
    ],
)
def test_an_error_of_a_participant_rolls_the_change_back(rt, plugins, options, error, asked):
    rt.load(plugins.write("a", CODE))
    epoch, participant = rt.epoch, Noting(**options)
    rt.join(participant)
    with pytest.raises(error, match="LookupError: no") as caught:
        rt.reload("a", drain_timeout=2.0)
    assert rt.epoch is epoch
    assert [entry[0] for entry in participant.log] == asked
    assert participant.log[-1] == ("finish", False)
    assert not rt.draining, caught.value.__notes__  # though the error is kept


def test_an_epoch_in_a_participants_error_is_not_held(rt, plugins):
    def check(epoch):
        exports = dict(epoch[tool])
        raise ValueError(len(exports))

    participant = Noting(check=check)
    rt.join(participant)
    with pytest.raises(IncompatibleError, match="ValueError: 1"):
        rt.load(plugins.write("a", CODE), drain_timeout=2.0)
    assert not rt.draining


def test_a_dry_run_checks_prepares_and_rolls_back(rt, plugins):
    participant = Noting(after=fail)
    rt.join(participant)
    with rt.change(dry_run=True) as change:
        change.load(plugins.write("a", CODE))
    assert participant.log == [("check", 1, ["a#0"]), ("prepare", "a#0"), ("finish", False)]


def test_calls_after_the_commit_undo_nothing_and_may_begin_changes(rt, plugins):
    path = plugins.write("b", CODE)
    participant = Noting(after=lambda: "b" in rt.epoch.generations or rt.load(path))
    rt.join(participant)
    rt.load(plugins.write("a", CODE))
    assert list(rt.epoch.generations) == ["a", "b"]
    other = Noting(after=fail)
    rt.join(other)
    with pytest.raises(LookupError, match="no") as caught:
        rt.reload("a")
    assert "the change is committed: epoch 3 is current" in caught.value.__notes__
    assert rt.generation("a").number == 1
    del other, caught
    gc.collect()
    assert rt.reload("a").reclaimed


def test_code_that_is_prepared_may_not_begin_a_change(rt, plugins):
    participant = Noting(prepare=lambda _: rt.remove("a"))
    rt.join(participant)
    with pytest.raises(NestedChangeError):
        rt.load(plugins.write("a", CODE))


def test_a_newcomer_that_does_not_return_is_abandoned(plugins):
    release = threading.Event()
    participant = Noting(prepare=lambda _: release.wait(20))
    with Runtime(phase_timeout=0.3) as rt:
        rt.join(participant)
        with pytest.raises(PhaseTimeoutError, match="prepare"):
            rt.load(plugins.write("a", CODE))
        assert participant.log[-1] == ("finish", False)
        release.set()
        participant._prepare = None
        rt.load(plugins.write("b", CODE))


def test_a_participant_is_held_weakly(rt, plugins):
    participant = Noting(check=fail)
    rt.join(participant)
    gone = weakref.ref(participant)
    del participant
    assert gone() is None
    rt.load(plugins.write("a", CODE))


def test_no_participant_keeps_a_runtime_from_closing(plugins):
    participant = Noting(after=fail)
    with Runtime() as rt:
        rt.load(plugins.write("a", CODE))
        rt.join(participant)
        participant._check = fail
    assert not rt.epoch.generations
    assert participant.log == []
