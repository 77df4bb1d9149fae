"""The sequence of a change: the steps of its plan, each made to run."""

import contextvars
import threading
from types import SimpleNamespace

import pytest
from tests.unit.core.generation.modules import LOADERS, source_candidate

from epochal import Kind
from epochal._core.change.plan import RETIRES, PlannedChange, Step, Verb
from epochal._core.change.plugin_calls import StepRunner
from epochal._core.change.sequence import ChangeSequence, ChangeSpec, Limits
from epochal._core.generation.epoch import EpochStore
from epochal._core.sync.fifo_lock import Ticket
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import ChangeCancelledError
from epochal.events import ChangeStarted
from epochal.report import StepName

TOOL = "@tool\ndef f(): return 1\n"
KEEPS = TOOL + "def export_state(): return 1\ndef import_state(state, version): ...\n"


class Together(Kind):
    """A kind with a rule over all its exports."""

    def validate_together(self, exports):
        pass


class Host:
    """Takes part in changes, and accepts each."""

    def __init__(self):
        self.checked, self.ended = [], []

    def check(self, epoch, newcomers):
        self.checked.append(epoch.number)
        return ()

    def finish(self, *, published):
        self.ended.append(published)
        return [self.checked.clear]


class Changes:
    """The changes of one runtime, each run step by step on the test's thread."""

    def __init__(self):
        self.store = EpochStore(SimpleNamespace(), LOADERS)
        self.events, self.hosts, self.number = [], WeakRegistry(), 0
        self.store.events = SimpleNamespace(emit=self.events.append)
        self.runner = StepRunner(1, contextvars.copy_context())

    def begin(self, *asked, phase=None, pause=None, **spec):
        spec = ChangeSpec(lambda epoch: asked, Limits(None, phase, pause), self.hosts, **spec)
        self.number += 1
        return ChangeSequence(self.number, self.store, spec, self.runner)

    def run(self, sequence, *, until=None):
        """Run as the executor does, to the step of a name; returns the steps, and the index."""
        ticket = self.store.turn.acquire(Ticket())
        steps, at = sequence.begin(ticket), 0
        while at < len(steps) and steps[at].name not in {until, *RETIRES}:
            if steps[at].is_needed():
                further = self.runner.run(steps[at])
                at += 1
                steps[at:at] = further or ()
            else:
                del steps[at]
        self.store.turn.release(ticket)
        return steps, at

    def load(self, source, **given):
        candidate = source_candidate("geo", source, **given)
        verb = Verb.RELOAD if "geo" in self.store.current.generations else Verb.LOAD
        return PlannedChange(verb, "geo", candidate)


@pytest.fixture
def changes():
    return Changes()


def names(steps):
    return [str(step.name) for step in steps]


def test_every_step_up_to_the_publish_is_made_to_run(changes):
    changes.run(changes.begin(changes.load(KEEPS)))
    steps, at = changes.run(changes.begin(changes.load(KEEPS)))
    unbound = Step(StepName.LINK).do
    assert names(steps[at:]) == ["drain", "shutdown", "reclaim"]
    assert [step.do is unbound for step in steps] == [False] * at + [True] * 3
    assert names(step for step in steps if step.undo) == ["link", "close gates", "hand over"]
    assert names(step for step in steps if step.deadline) == [
        *("link", "compare", "init", "match", "hand over")
    ]
    assert changes.store.current.number == 2


def test_the_steps_of_plugin_code_share_no_deadline_but_the_pause_is_one(changes):
    changes.run(changes.begin(changes.load(KEEPS)))
    sequence = changes.begin(changes.load(KEEPS), phase=7.0, pause=3.0)
    steps, _ = changes.run(sequence)
    limits = {str(step.name): step.deadline.limit_s for step in steps if step.deadline}
    assert limits == {"link": 7.0, "compare": 7.0, "init": 7.0, "match": 7.0, "hand over": 3.0}


def test_a_cancelled_change_leaves_the_queue_without_its_turn(changes):
    held = changes.store.turn.acquire(Ticket())
    wait, *_ = changes.begin().begin(changes.store.turn.acquire(Ticket()))
    changes.runner.cancel()
    with pytest.raises(ChangeCancelledError):
        changes.runner.run(wait)
    assert held.done()


def test_the_turn_is_waited_for(changes):
    held, ticket = changes.store.turn.acquire(Ticket()), changes.store.turn.acquire(Ticket())
    wait, *_ = changes.begin().begin(ticket)
    waiting = threading.Thread(target=changes.runner.run, args=(wait,), daemon=True)
    waiting.start()
    # Bounded: the thread waits within a few switches of the interpreter.
    assert any(ticket._callbacks for _ in range(1_000_000))
    changes.store.turn.release(held)
    waiting.join(20)
    assert set(changes.runner.ms) == {"wait"}


def test_the_start_is_reported_with_the_steps_that_are_needed_so_far(changes):
    changes.run(changes.begin(changes.load(TOOL)))
    (started,) = (event for event in changes.events if isinstance(event, ChangeStarted))
    assert started.steps == ("link geo 1.0, new", "init geo", "build epoch 1", "publish epoch 1")


def test_exports_are_validated_together_only_for_a_kind_with_such_a_rule(changes):
    steps, at = changes.run(changes.begin(changes.load(TOOL)))
    assert "validate" not in names(steps[:at])
    together = Together("together")
    code = "@together\ndef f(): ...\n"
    steps, at = changes.run(changes.begin(changes.load(code, together=together)))
    assert "validate" in names(steps[:at])


def test_a_host_that_joins_after_the_plan_is_asked_once_like_the_others(changes):
    early, late = Host(), Host()
    changes.hosts.add(early)
    sequence = changes.begin(changes.load(f"join()\n{TOOL}", join=lambda: changes.hosts.add(late)))
    steps, at = changes.run(sequence)
    assert [str(step) for step in steps[:at] if step.name is StepName.CHECK] == [
        *("check epoch 1", "check epoch 1 by Host"),
    ]
    assert (early.checked, late.checked) == ([1], [1])


def test_the_publication_is_reported_to_the_hosts_that_were_asked(changes):
    host = Host()
    changes.hosts.add(host)
    sequence = changes.begin(changes.load(TOOL))
    changes.run(sequence)
    (call,) = sequence.finish()
    assert host.ended == [True]
    call()
    assert host.checked == []


def test_without_hosts_and_state_nothing_is_made_for_them(changes):
    sequence = changes.begin(changes.load(TOOL))
    changes.run(sequence)
    assert sequence.finish() == []
    assert sequence.pauses_ms == {}
    assert not {"participants", "transfers"} & vars(sequence).keys()


def test_the_next_epoch_is_stored_before_it_is_published(changes):
    stored, store = [], changes.store

    class Journal:
        def commit(self, commit):
            stored.append((commit, store.current.number))

    changes.run(changes.begin(changes.load(TOOL)))
    asked = changes.load(TOOL, version="2.0")
    sequence = changes.begin(asked, journal=Journal(), reason="a fix")
    steps, at = changes.run(sequence)
    assert names(steps[:at])[-2:] == ["journal", "publish"]
    ((commit, published),) = stored
    assert published == 1
    assert (commit.change, commit.reason, commit.gone) == (2, "a fix", ("geo",))
    assert (commit.epoch_before, commit.epoch) == (1, 2)
    assert commit.id == store.current.id
    assert [(added.number, added.candidate) for added in commit.brought] == [(1, asked.candidate)]


def test_a_journal_that_raises_leaves_the_old_epoch_current(changes):
    class Journal:
        def commit(self, commit):
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        changes.run(changes.begin(changes.load(TOOL), journal=Journal()))
    assert changes.store.current.number == 0
