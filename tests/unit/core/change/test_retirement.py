"""The way out of a generation: drained, shut down, removed, reclaimed, each as soon as unused."""

import contextvars
from types import SimpleNamespace

import pytest
from tests.conftest import tool
from tests.unit.core.generation.modules import link, source_candidate

from epochal import LifecycleState
from epochal._core.change.plan import Deadline, retirement_steps
from epochal._core.change.plugin_calls import Abandoned, StepRunner
from epochal._core.change.retirement import Retirement
from epochal.errors import PhaseTimeoutError
from epochal.events import (
    DrainTimedOut,
    GenerationLeaked,
    HoldersAsked,
    ShutdownFailed,
    StateChanged,
)
from epochal.report import StepName, Swap

CODE = """
@tool
def f(): return 1
def shutdown(): log.append("{plugin}")
"""


class Runner(StepRunner):
    """Calls `before(step)` for each step, and abandons the plugin code in steps of some names."""

    __slots__ = ("abandons", "before")

    def __init__(self):
        super().__init__(1, contextvars.copy_context())
        self.abandons, self.before = [], lambda step: None

    def run(self, step):
        self.before(step)
        return super().run(step)

    def call_plugin(self, step, generation, work):
        if step.name in self.abandons:
            self.abandons.remove(step.name)
            raise Abandoned
        return super().call_plugin(step, generation, work)


class WayOut:
    """Generations on their way out, and all that was noted of it."""

    def __init__(self):
        self.log, self.events, self.runner = [], [], Runner()

    def link(self, plugin, code=CODE, required=None):
        candidate = source_candidate(
            plugin, code.format(plugin=plugin), requires=required or (), log=self.log
        )
        return link(candidate, required=required)

    def retire(self, *generations, initialized=True, timeout_s=None, **options):
        """Begin the retirement of these generations, dependents first."""
        for generation in generations:
            generation.lifecycle.set(LifecycleState.DRAINING)
        return Retirement(
            dict.fromkeys(generations, initialized),
            [step for generation in generations for step in retirement_steps(generation)],
            self.runner,
            Deadline(None, is_cancellable=False),
            SimpleNamespace(emit=self.events.append),
            timeout_s,
            **options,
        )

    def emitted(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def way_out():
    return WayOut()


def swap(plugin="geo"):
    return Swap(plugin, None, None)


# --- draining ------------------------------------------------------------------------------------


def test_an_unused_generation_leaves_without_a_wait(way_out):
    generation = way_out.link("geo").generation
    retirement = way_out.retire(generation)
    assert retirement.run()
    assert way_out.log == ["geo"]
    assert generation.state is LifecycleState.REMOVED
    assert set(way_out.runner.ms) == {"shutdown", "reclaim"}
    (event,) = way_out.emitted(StateChanged)
    assert (event.plugin, event.old.name, event.new.name) == ("geo", "DRAINING", "REMOVED")
    outcome = retirement.outcome(swap())
    assert (outcome.drained, outcome.reclaimed, outcome.wakeup_us) == (True, True, None)


def test_a_generation_in_use_stays_and_the_answer_names_its_holders(way_out):
    leased = way_out.link("geo")
    retirement = way_out.retire(leased.generation, timeout_s=0.0)
    assert not retirement.run()
    assert way_out.log == []
    assert leased.generation.state is LifecycleState.DRAINING
    (timed_out,) = way_out.emitted(DrainTimedOut)
    outcome = retirement.outcome(swap())
    assert (outcome.drained, outcome.reclaimed) == (False, False)
    assert outcome.holders == timed_out.holders != ()
    del leased, timed_out, outcome
    assert retirement.run(), "it goes on after the answer"
    assert way_out.log == ["geo"]
    assert retirement.outcome(swap()).holders == ()


def test_a_release_between_the_look_and_the_sleep_wakes_the_drain(way_out):
    leased = way_out.link("geo")
    retirement = way_out.retire(leased.generation)

    def release(step):
        if step.name is StepName.DRAIN:
            leased.lease.release()

    way_out.runner.before = release
    assert retirement.run()
    assert way_out.log == ["geo"]
    assert retirement.outcome(swap()).wakeup_us > 0.0


def test_a_change_that_is_given_up_answers_at_once_and_the_drain_goes_on(way_out):
    leased = way_out.link("geo")
    retirement = way_out.retire(leased.generation)
    retirement.answer_early()
    assert not retirement.run()
    assert len(way_out.emitted(DrainTimedOut)) == 1
    leased.lease.release()
    assert retirement.run()
    assert len(way_out.emitted(DrainTimedOut)) == 1


def test_no_generation_waits_for_one_that_it_has_nothing_to_do_with(way_out):
    used, unused = way_out.link("geo"), way_out.link("units").generation
    retirement = way_out.retire(used.generation, unused, timeout_s=0.0)
    assert not retirement.run()
    assert way_out.log == ["units"]
    used.lease.release()
    assert retirement.run()
    assert way_out.log == ["units", "geo"]


BORROWS = """
def init(ctx):
    global borrowed
    borrowed = ctx.require("units").f
    ctx.defer(lambda: log.append(borrowed()))
"""


def test_a_dependency_leaves_after_its_dependent_even_one_that_leaks(way_out):
    units = way_out.link("units")
    geo = way_out.link("geo", BORROWS + CODE, {"units": units})
    geo.generation.init()
    leaked = geo.carried[tool, "geo.f"].__globals__
    retirement = way_out.retire(units.generation, geo.generation, timeout_s=0.0)
    del units
    assert not retirement.run()
    assert way_out.log == []
    geo.lease.release()
    assert retirement.run()
    # The dependent's resources may use the dependency until they are closed.
    assert way_out.log == ["geo", 1, "units"]
    assert "borrowed" in leaked


def test_a_drain_that_outlasts_its_limit_is_reported_once(way_out):
    leased, drains = way_out.link("geo"), []
    retirement = way_out.retire(leased.generation, timeout_s=0.0)
    assert not retirement.run()

    def release_in_the_second(step):
        drains.append(step)
        if len(drains) == 2:
            leased.lease.release()

    way_out.runner.before = release_in_the_second
    assert retirement.run()
    assert len(way_out.emitted(DrainTimedOut)) == 1


def test_holders_are_asked_once_to_stop_when_the_time_is_over(way_out):
    leased = way_out.link("geo")
    generation, asked = leased.generation, []
    generation.operations.add(operation := Operation(leased.lease, asked))
    del leased
    retirement = way_out.retire(generation, timeout_s=0.0, cancel_holders=True)
    assert not retirement.run(), "the operation does not stop"
    assert asked == ["asked"]
    (event,) = way_out.emitted(HoldersAsked)
    assert [holder.name for holder in event.holders] == ["nightly report"]
    assert len(way_out.emitted(DrainTimedOut)) == 1
    operation.lease = None
    assert retirement.run()
    assert asked == ["asked"]


class Operation:
    """A labelled operation that goes on when it is asked to stop."""

    label, age = "nightly report", 1.0

    def __init__(self, lease, asked):
        self.lease, self._asked = lease, asked

    def holds(self, lease, plugin):
        return lease is self.lease

    def cancel(self):
        self._asked.append("asked")


# --- leaving -------------------------------------------------------------------------------------


def test_a_generation_without_init_is_removed_without_its_shutdown(way_out):
    generation = way_out.link("geo").generation
    assert way_out.retire(generation, initialized=False).run()
    assert way_out.log == []
    assert generation.state is LifecycleState.REMOVED


def test_each_error_of_a_shutdown_is_reported_and_stops_nothing(way_out):
    generation = way_out.link("geo", "def shutdown(): raise OSError('stuck')\n").generation
    retirement = way_out.retire(generation)
    assert retirement.run()
    (event,) = way_out.emitted(ShutdownFailed)
    assert event.error == "shutdown() of geo#0 raised OSError: stuck"
    assert retirement.outcome(swap()).failures == (event.error,)
    assert generation.state is LifecycleState.REMOVED


def test_a_leak_is_reported_unless_the_error_of_a_rollback_leads_to_it(way_out):
    def failed(kept):
        raise ValueError(len(kept))

    for is_rollback in (False, True):
        leased = way_out.link("geo")
        generation, kept = leased.generation, leased.carried[tool, "geo.f"].__globals__
        del leased
        error = None
        if is_rollback:
            with pytest.raises(ValueError, match=r"\d") as raised:
                failed(kept)
            error, kept = raised.value, None
            del raised
        retirement = way_out.retire(generation, error=error)
        assert retirement.run()
        outcome = retirement.outcome(swap())
        assert outcome.drained
        assert outcome.reclaimed is is_rollback
        kept = error.__traceback__.tb_next.tb_frame.f_locals["kept"] if is_rollback else kept
        assert kept["__name__"] == "_geo_0"
    (event,) = way_out.emitted(GenerationLeaked)
    assert event.leaks


def test_the_swap_of_a_plugin_that_stays_is_left_as_it_is(way_out):
    retirement = way_out.retire(way_out.link("geo").generation)
    other = swap("units")
    assert retirement.outcome(other) is other


# --- plugin code that does not return ------------------------------------------------------------


def abandoned(step_name):
    return PhaseTimeoutError(step_name.value, "geo#0", 1.0, "epochal change 1")


def test_an_abandoned_shutdown_goes_on_on_the_next_thread(way_out):
    generation = way_out.link("geo").generation
    retirement = way_out.retire(generation)
    way_out.runner.abandons = [StepName.SHUTDOWN]
    with pytest.raises(Abandoned):
        retirement.run()
    assert generation.state is LifecycleState.DRAINING
    retirement.give_up(abandoned(StepName.SHUTDOWN))
    assert retirement.run()
    assert way_out.log == ["geo"]
    assert generation.state is LifecycleState.REMOVED
    assert len(way_out.emitted(ShutdownFailed)) == 1


def test_an_abandoned_reclaim_is_left_as_it_is(way_out):
    generations = [way_out.link(plugin).generation for plugin in ("geo", "units")]
    retirement = way_out.retire(*generations)
    way_out.runner.abandons = [StepName.RECLAIM]
    with pytest.raises(Abandoned):
        retirement.run()
    retirement.give_up(abandoned(StepName.RECLAIM))
    assert retirement.run()
    assert way_out.log == ["geo", "units"]
    geo, units = (retirement.outcome(swap(plugin)) for plugin in ("geo", "units"))
    assert (geo.drained, geo.reclaimed, len(geo.failures)) == (True, False, 1)
    assert (units.drained, units.reclaimed, units.failures) == (True, True, ())


def test_a_holder_that_blocks_when_asked_is_asked_no_more_and_the_drain_goes_on(way_out):
    leased = way_out.link("geo")
    generation = leased.generation
    retirement = way_out.retire(generation, timeout_s=0.0, cancel_holders=True)
    way_out.runner.abandons = [StepName.CANCEL]
    with pytest.raises(Abandoned):
        retirement.run()
    retirement.give_up(abandoned(StepName.CANCEL))
    assert not retirement.run()
    assert generation.state is LifecycleState.DRAINING
    assert way_out.log == []
    leased.lease.release()
    assert retirement.run()
    assert way_out.log == ["geo"]
    assert len(generation.failures) == 1
