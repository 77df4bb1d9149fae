"""Parties: hosts that have a say in a runtime's changes."""

import gc
import threading
import weakref

import pytest
from tests.conftest import tool

from epochal import Runtime
from epochal.errors import IncompatibleError, NestedChangeError, PhaseTimeoutError, PrepareError

CODE = "@tool\ndef f(): return 1\ndef shutdown(): LOG.append('shutdown')\nLOG = []\n"


class Participant:
    """Notes what it is asked, and does what a test wants."""

    def __init__(self, *, check=None, prepare=None, after=None):
        self.log = []
        self._check, self._prepare, self._after = check, prepare, after

    def check(self, epoch, newcomers):
        self.log.append(("check", epoch.number, [str(one) for one in newcomers]))
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


def test_a_party_is_asked_then_meets_who_comes_in_then_hears_how_it_went(rt, plugins):
    epochs = []
    party = Participant(prepare=lambda _: epochs.append(rt.epoch.number))
    rt.join(party)
    with rt.change() as change:
        change.load(plugins.write("a", CODE, requires=["b"]))
        change.load(plugins.write("b", CODE))
    rt.reload("b")
    rt.remove("a")
    assert party.log == [
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
def test_what_a_party_raises_rolls_the_change_back(rt, plugins, options, error, asked):
    rt.load(plugins.write("a", CODE))
    epoch, party = rt.epoch, Participant(**options)
    rt.join(party)
    with pytest.raises(error, match="LookupError: no") as caught:
        rt.reload("a", drain_timeout=2.0)
    assert rt.epoch is epoch
    assert [entry[0] for entry in party.log] == asked
    assert party.log[-1] == ("finish", False)
    assert not rt.draining, caught.value.__notes__  # though the error is kept


def test_a_party_that_keeps_the_epoch_in_its_error_holds_nothing(rt, plugins):
    def check(epoch):
        kept = dict(epoch[tool])
        raise ValueError(len(kept))

    party = Participant(check=check)
    rt.join(party)
    with pytest.raises(IncompatibleError, match="ValueError: 1"):
        rt.load(plugins.write("a", CODE), drain_timeout=2.0)
    assert not rt.draining


def test_a_dry_run_asks_and_goes_back(rt, plugins):
    party = Participant(after=fail)
    rt.join(party)
    with rt.change(dry_run=True) as change:
        change.load(plugins.write("a", CODE))
    assert party.log == [("check", 1, ["a#0"]), ("prepare", "a#0"), ("finish", False)]


def test_what_a_party_does_afterwards_undoes_nothing_and_may_ask_for_changes(rt, plugins):
    path = plugins.write("b", CODE)
    party = Participant(after=lambda: "b" in rt.epoch.generations or rt.load(path))
    rt.join(party)
    rt.load(plugins.write("a", CODE))
    assert list(rt.epoch.generations) == ["a", "b"]
    other = Participant(after=fail)
    rt.join(other)
    with pytest.raises(LookupError, match="no") as caught:
        rt.reload("a")
    assert "the change is committed: epoch 3 is current" in caught.value.__notes__
    assert rt.generation("a").number == 1
    del other, caught
    gc.collect()
    assert rt.reload("a").reclaimed


def test_a_newcomer_may_not_ask_for_a_change_as_it_is_met(rt, plugins):
    party = Participant(prepare=lambda _: rt.remove("a"))
    rt.join(party)
    with pytest.raises(NestedChangeError):
        rt.load(plugins.write("a", CODE))


def test_a_newcomer_that_does_not_return_is_given_up(plugins):
    release = threading.Event()
    party = Participant(prepare=lambda _: release.wait(20))
    with Runtime(phase_timeout=0.3) as rt:
        rt.join(party)
        with pytest.raises(PhaseTimeoutError, match="prepare"):
            rt.load(plugins.write("a", CODE))
        assert party.log[-1] == ("finish", False)
        release.set()
        party._prepare = None
        rt.load(plugins.write("b", CODE))


def test_a_party_goes_with_its_host(rt, plugins):
    party = Participant(check=fail)
    rt.join(party)
    gone = weakref.ref(party)
    del party
    assert gone() is None
    rt.load(plugins.write("a", CODE))


def test_nobody_keeps_a_runtime_from_closing(plugins):
    party = Participant(after=fail)
    with Runtime() as rt:
        rt.load(plugins.write("a", CODE))
        rt.join(party)
        party._check = fail
    assert not rt.epoch.generations
    assert party.log == []
