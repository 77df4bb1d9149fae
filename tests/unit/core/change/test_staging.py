"""Staging brings generations up aside, and publishes them by one store, or withdraws them."""

import contextvars
import gc
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from tests.conftest import tool
from tests.unit.core.generation.modules import LOADERS, source_candidate

from epochal import Kind, LifecycleState
from epochal._core.change.plan import Deadline, Plan, Step
from epochal._core.change.plugin_calls import StepRunner
from epochal._core.change.staging import Staging
from epochal._core.generation.epoch import EpochStore
from epochal.errors import (
    ChangeCancelledError,
    ExportError,
    IncompatibleError,
    InitError,
    LinkError,
    MissingDependencyError,
)
from epochal.events import ChangeCommitted, StateChanged, StateDropped
from epochal.report import StepName

STEP = Step(StepName.LINK, deadline=Deadline(None))
TOOL = "@tool\ndef f(): return 1\n"


class Reader:
    """Has the current epoch, and notes the state of each generation when one is published."""

    def __init__(self):
        self.seen = []

    def __setattr__(self, name, value):
        if name == "epoch" and "epoch" in vars(self):
            generations = {*self.epoch.generations.values(), *value.generations.values()}
            self.seen.append({str(g): g.state.name for g in generations})
        super().__setattr__(name, value)


class Stage:
    """The stagings of one runtime, each on the test's thread."""

    def __init__(self):
        self.reader, self.events = Reader(), []
        self.store = EpochStore(self.reader, LOADERS)
        self.store.events = SimpleNamespace(emit=self.events.append)
        self.runner = StepRunner(1, contextvars.copy_context())

    def begin(self, *candidates):
        """Begin a change, and link and initialize these candidates."""
        staging = Staging(7, self.store, self.runner)
        staging.begin()
        for candidate in candidates:
            staging.link(candidate, STEP)
            staging.init(candidate.plugin, STEP)
        return staging

    def publish(self, staging, *retire, then=None):
        staging.build(Plan((), retire, ()))
        staging.publish(retire, then, STEP)

    def load(self, *candidates):
        self.publish(self.begin(*candidates))


@pytest.fixture
def stage():
    return Stage()


def moves(events):
    return [(e.old.name, e.new.name) for e in events if isinstance(e, StateChanged)]


# --- bringing a plugin up ------------------------------------------------------------------------


def test_a_linked_generation_is_in_use_by_the_change_alone(stage):
    staging = stage.begin()
    staging.link(source_candidate("geo", TOOL), STEP)
    generation = staging.new_generation("geo")
    assert generation.state is LifecycleState.LINKED
    assert generation.live_lease() is not None
    assert stage.store.generations.live() == [generation]
    assert not stage.store.current.generations
    staging.clear()
    assert generation.live_lease() is None


def test_a_generation_requires_the_staged_version_and_the_active_one_if_none_is_staged(stage):
    answer = "@tool\ndef answer(): return {}\n"
    stage.load(source_candidate("a", answer.format(1)), source_candidate("b", answer.format(1)))
    uses = "def init(ctx): log.extend(ctx.require(p).answer() for p in 'ab')\n"
    log = []
    stage.begin(
        source_candidate("b", answer.format(2)),
        source_candidate("c", uses, requires=["a", "b"], log=log),
    )
    assert log == [1, 2]


def test_missing_distributions_are_found_before_a_generation_begins(stage):
    candidate = source_candidate("geo", "1 / 0", dependencies=["no-such-distribution>=1"])
    staging = stage.begin()
    with pytest.raises(MissingDependencyError):
        staging.link(candidate, STEP)
    assert staging.generations == []


@pytest.mark.parametrize(
    ("code", "error", "was_initialized"),
    [
        ("1 / 0", LinkError, False),
        ("def init(ctx): 1 / 0", InitError, False),
        ("", None, True),
    ],
)
def test_a_withdrawn_generation_is_shut_down_only_if_its_init_succeeded(
    stage, code, error, was_initialized
):
    staging = stage.begin()
    candidate = source_candidate("geo", code)
    with pytest.raises(error) if error else nullcontext():
        staging.link(candidate, STEP)
        staging.init("geo", STEP)
    (generation,) = staging.generations
    assert staging.withdraw("geo") == ()
    assert generation.state is LifecycleState.DRAINING
    assert staging.retired == {generation: was_initialized}
    assert moves(stage.events)[-1][1] == "DRAINING"


def test_an_error_of_init_names_the_plugin_and_has_its_cause(stage):
    with pytest.raises(InitError, match=r"init\(\) of plugin 'geo' raised ZeroDiv") as caught:
        stage.begin(source_candidate("geo", "def init(ctx): 1 / 0"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_opened_export_that_cannot_be_offered_refuses_the_change_and_keeps_no_lease(stage):
    class Unoffered(Kind):
        def open(self, export):
            return export.name

        def wrap(self, instance, lease):
            raise LookupError(instance)

    code = "@kind\ndef f(): ...\n"
    staging = stage.begin()
    staging.link(source_candidate("geo", code, kind=Unoffered("unoffered")), STEP)
    with pytest.raises(ExportError, match=r"geo\.f of geo#0 cannot be offered: ") as caught:
        staging.init("geo", STEP)
    generation = staging.new_generation("geo")
    staging.clear()
    gc.collect()
    assert generation.live_lease() is None
    assert caught.value.plugin == "geo"


# --- comparing -----------------------------------------------------------------------------------


class Kept(Kind):
    """May drop an export's state, if the export is not called `must_stay`."""

    def check_removed(self, old):
        if old.name.endswith("must_stay"):
            raise ValueError("it is kept for ever")
        return "3 rows"

    def compare(self, old, new):
        if new.options != old.options or new.target.__doc__:
            raise TypeError("documented")


kept = Kept("kept")


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        ("must_stay(): ...", None, r"geo#1 cannot leave out kept geo\.must_stay of geo#0: Value"),
        ("f(): ...", "f(): 'doc'", r"kept geo\.f of geo#1 cannot replace that of geo#0: TypeError"),
    ],
)
def test_a_kind_refuses_by_raising_and_the_refusal_names_the_export(stage, old, new, refusal):
    stage.load(source_candidate("geo", f"@kept\ndef {old}\n", kept=kept))
    staging = stage.begin(source_candidate("geo", f"@kept\ndef {new}\n" if new else "", kept=kept))
    with pytest.raises(IncompatibleError, match=refusal):
        staging.compare("geo", STEP)


def test_state_that_the_new_version_has_no_place_for_is_in_the_report(stage):
    code = "@kept\ndef f(): ...\ndef export_state(): return 1\n"
    stage.load(source_candidate("geo", code, kept=kept))
    staging = stage.begin(source_candidate("geo", ""))
    staging.compare("geo", STEP)
    stage.publish(staging, "geo")
    rows, state = staging.swaps[0].dropped
    assert rows == "kept geo.f: 3 rows"
    assert "no import_state()" in state
    (event,) = (event for event in stage.events if isinstance(event, StateDropped))
    assert event.dropped == (rows, state)


def test_a_global_rule_sees_the_exports_that_would_be_active(stage):
    class Together(Kind):
        def validate_together(self, exports):
            seen.append(sorted((e.name, e.target()) for e in exports))
            if len(exports) > 2:
                raise ValueError("too many")

    seen, together = [], Together("together")

    def version(plugin, n):
        return source_candidate(plugin, f"@kind\ndef f(): return {n}\n", kind=together)

    stage.load(version("a", 1), version("b", 1), source_candidate("c", TOOL))
    staging = stage.begin(version("b", 2))
    staging.validate(["b"], STEP)
    assert seen == [[("a.f", 1), ("b.f", 2)]]
    assert stage.begin(source_candidate("c", TOOL)).global_kinds == set()
    with pytest.raises(IncompatibleError, match="kind together do not fit together: too many"):
        stage.begin(version("d", 1)).validate([], STEP)


# --- the next epoch ------------------------------------------------------------------------------


def test_swaps_list_dependencies_first_and_removed_plugins_last(stage):
    stage.load(*(source_candidate(plugin) for plugin in ("a", "b", "c", "d")))
    staging = stage.begin(source_candidate("a", version="2.0"), source_candidate("e"))
    staging.build(Plan((), ("d", "c", "a"), ()))
    assert [
        (s.plugin, s.old and s.old.version, s.new and s.new.version) for s in staging.swaps
    ] == [
        ("a", "1.0", "2.0"),
        ("e", None, "1.0"),
        ("c", "1.0", None),
        ("d", "1.0", None),
    ]
    assert list(staging.built.generations) == ["a", "b", "e"]


def test_a_cancelled_change_builds_no_epoch(stage):
    staging = stage.begin(source_candidate("geo", TOOL))
    stage.runner.cancel()
    with pytest.raises(ChangeCancelledError):
        staging.build(Plan((), (), ()))
    assert staging.next_epoch is None


def test_readers_never_see_an_epoch_whose_generations_are_not_active(stage):
    stage.load(source_candidate("geo", TOOL), source_candidate("units", TOOL))
    old = stage.store.current.generations["geo"]
    stage.reader.seen.clear()
    staging = stage.begin(source_candidate("geo", TOOL))
    stage.publish(staging, "geo")
    assert stage.reader.seen == [{"geo#0": "ACTIVE", "units#0": "ACTIVE", "geo#1": "ACTIVE"}]
    assert old.state is LifecycleState.DRAINING
    assert staging.retired == {old: True}


def test_the_pause_ends_between_the_store_and_the_first_event(stage):
    stage.load(source_candidate("geo", TOOL))
    stage.events.clear()
    ended = []

    def end_pause(old, new):
        ended.append((old.number, new.number, stage.store.current.number, list(stage.events)))

    staging = stage.begin(source_candidate("geo", TOOL))
    stage.events.clear()
    stage.publish(staging, "geo", then=end_pause)
    assert ended == [(1, 2, 2, [])]
    assert moves(stage.events) == [("INITIALIZED", "ACTIVE"), ("ACTIVE", "DRAINING")]
    committed = stage.events[-1]
    assert isinstance(committed, ChangeCommitted)
    assert (committed.change, committed.plugins) == (7, ("geo",))
    assert (committed.epoch_before, committed.epoch_after) == staging.numbers == (1, 2)


def test_a_published_change_holds_neither_epoch_nor_lease(stage):
    stage.load(source_candidate("geo", TOOL))
    old = stage.store.current.generations["geo"]
    staging = stage.begin(source_candidate("geo", TOOL))
    new = staging.new_generation("geo")
    stage.publish(staging, "geo")
    assert old.live_lease() is None
    assert new.live_lease() is not None, "the epoch has it"
    assert stage.store.current[tool]["geo.f"]() == 1
    assert (staging.old_epoch, staging.next_epoch, staging.leased) == (None, None, {})
    assert staging.is_published
