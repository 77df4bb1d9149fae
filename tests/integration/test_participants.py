"""Participants: hosts that take part in a runtime's changes."""

import gc
import threading
import weakref

import pytest
from tests.conftest import tool

from epochal import Runtime
from epochal.errors import (
    HostError,
    IncompatibleError,
    NestedChangeError,
    PhaseTimeoutError,
    PrepareError,
)

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


def test_a_change_is_prepared_as_it_was_told_before_it_is_published(rt, plugins):
    seen = []

    def prepare(epoch):
        seen.append((epoch.id, sorted(epoch.generations), rt.epoch.number))

    rt.join(participant := Noting(check=lambda _: seen.append("host")))
    rt.load(plugins.write("a", CODE), prepare=prepare)
    first = rt.epoch.id
    with rt.change(prepare=prepare) as change:
        change.load(plugins.write("b", CODE))
        change.remove("a")
    second = rt.epoch.id
    rt.reload("b", prepare=None)  # it was for that change alone
    with rt.stage(plugins.write("c", CODE)) as stage:
        third = stage.epoch.id
        stage.promote(prepare=prepare)
    assert seen == [
        *("host", (first, ["a"], 0)),
        *("host", (second, ["b"], 1)),
        "host",
        *("host", (third, ["c"], 3)),
    ]
    assert participant.log[-1] == ("finish", True)


def refuse_at_once(epoch):
    raise HostError(f"no room for {len(epoch.generations)}")


def refuse_because(epoch):
    try:
        epoch.generations["not there"]
    except KeyError:
        refuse_at_once(epoch)


def fail_because(epoch):
    try:
        refuse_because(epoch)
    except HostError as error:
        raise LookupError("no room for 1") from error


def fail_in_parts(epoch):
    try:
        refuse_because(epoch)
    except HostError as error:
        raise ExceptionGroup("no room for 1", [error]) from None


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (refuse_at_once, HostError),
        (refuse_because, HostError),
        (fail_because, IncompatibleError),
        (fail_in_parts, IncompatibleError),
    ],
)
def test_what_cannot_be_prepared_is_not_published_nor_used(rt, plugins, prepare, error):
    rt.load(plugins.write("a", CODE))
    before = rt.epoch.id
    with pytest.raises(error, match="no room for 1") as raised:
        rt.reload("a", plugins.write("a", CODE + "\n# new\n"), prepare=prepare)
    assert rt.epoch.id == before
    assert not rt.draining, raised.value  # nothing in its error keeps the new one in use
    assert rt.reload("a").drained
