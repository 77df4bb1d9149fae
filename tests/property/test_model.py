"""A runtime against a model of it: whatever is asked for, in whatever order, E1 to E7 hold.

Hypothesis draws loads, reloads, removals, changes of several plugins, versions that go wrong at any
step, changes given up half way, captures of every sort and their releases, drains that time out and
drains that ask their holders to stop; each is done to a real `Runtime` and to `Model`, once with
the blocking calls and once in an event loop. After each step:

- E1, E3: whatever was captured answers as when it was captured, as does whoever computes for it;
- E2: what is served is exactly what the model says;
- E4: a generation in use was not shut down; one that is gone was, once, if it ever began;
- E5: after a failure the epoch is the same object; while a version begins, nothing else is served;
- E6: each change was told of as committed or failed, once;
- E7: whoever is gone left no code behind, and no leak is reported.

The profile is named by `EPOCHAL_PROFILE`: `ci` (the default; the same examples each time) or `soak`
(new ones, again and again, and what fails is shrunk; run by `make soak`, which prints each seed).
"""

import asyncio
import gc
import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.property.holders import OF_ONE, Narrow, Obedient, Pin, Task
from tests.property.ledger import LEDGER, RAISES, REQUIRES, Recipe, tool
from tests.property.model import Model, PlannedChange

from epochal import LifecycleState, Runtime
from epochal.errors import EpochalError
from epochal.events import ChangeCommitted, ChangeFailed, ChangeFinished

_COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=30,
    print_blob=True,
)
PROFILES = {
    # What fails is told at once: to shrink it takes as long again as it takes to time out.
    "ci": settings(
        _COMMON, max_examples=30, derandomize=True, database=None, phases=[Phase.generate]
    ),
    "soak": settings(_COMMON, max_examples=200, phases=[Phase.generate, Phase.shrink]),
}
PROFILE = PROFILES[os.environ.get("EPOCHAL_PROFILE", "ci")]

FAULTS = ("", "", "", "", "manifest", "syntax", "link", "register", "init", "shutdown")
recipes = st.builds(
    Recipe,
    st.sampled_from(sorted(REQUIRES)),
    st.sampled_from(FAULTS),
    st.sampled_from(RAISES),
    st.sampled_from([1, 1, 1, 2]),
)
wishes = st.builds(
    PlannedChange, st.sampled_from(["load", "reload", "remove"]), recipes, st.booleans()
)


class Machine(RuleBasedStateMachine):
    """What both forms share; a form says how a change is run and given up."""

    def __init__(self):
        super().__init__()
        self.model = Model()
        self.rt = Runtime(drain_timeout=20.0, phase_timeout=20.0)
        LEDGER.begin(lambda: self.rt.epoch)
        self.generations = {}  # (plugin, number) -> Generation
        self.changes = {}  # number of a change -> the generations that it retired
        self.held = []
        self.asked = 0
        self.kept = None
        self.told = threading.Condition()
        self.events = []
        self.rt.events.subscribe(self._hear)

    def _hear(self, event):
        with self.told:
            self.events.append(event)
            self.told.notify_all()

    def heard(self, kind):
        return [event for event in list(self.events) if type(event) is kind]

    def await_told(self, predicate, what):
        with self.told:
            assert self.told.wait_for(predicate, timeout=20), what()

    # --- forms -------------------------------------------------------------------------------

    def run(self, asked, **limits):
        """Run a change for which `asked(change)` records what is wanted; its report."""
        raise NotImplementedError

    def run_and_give_up(self, asked):
        """Run a change that blocks, and give it up there."""
        raise NotImplementedError

    # --- changing ----------------------------------------------------------------------------

    @initialize()
    def all_plugins(self):
        self.change([PlannedChange("load", Recipe(plugin)) for plugin in REQUIRES])

    @rule(wish=wishes)
    def change_one(self, wish):
        self.change([wish])

    @rule(recipe=recipes.filter(lambda r: r.number == 1), verb=st.sampled_from(["load", "reload"]))
    def sound_change(self, recipe, verb):
        """The usual case, which draws of anything at all are too rarely."""
        self.change([PlannedChange(verb, Recipe(recipe.plugin))])

    @rule(several=st.lists(wishes, min_size=2, max_size=4, unique_by=lambda wish: wish.plugin))
    def change_several(self, several):
        self.change(several)

    @rule(plugins=st.sets(st.sampled_from(sorted(REQUIRES)), min_size=1))
    def reload_several(self, plugins):
        active = plugins & set(self.model.active)
        self.change(
            [PlannedChange("reload", Recipe(p, number=self.number(p))) for p in sorted(active)]
        )

    @rule(wish=wishes)
    def ask_holders_to_stop(self, wish):
        self.change([wish], cancel_holders=True)

    @rule(plugin=st.sampled_from(sorted(REQUIRES)))
    @precondition(lambda self: len(self.model.active) == len(REQUIRES))
    def block_for_ever(self, plugin):
        self.change([self.blocking(plugin)], phase_timeout=0.02)
        LEDGER.unblock()

    @rule(plugin=st.sampled_from(sorted(REQUIRES)))
    @precondition(lambda self: len(self.model.active) == len(REQUIRES))
    def give_up(self, plugin):
        LEDGER.expect(self.rt.epoch)
        before = id(self.rt.epoch)
        self.run_and_give_up(_asking([self.blocking(plugin)]))
        self.asked += 1
        assert id(self.rt.epoch) == before
        LEDGER.unblock()

    @rule(several=st.lists(wishes, min_size=1, max_size=3, unique_by=lambda wish: wish.plugin))
    def dry_run(self, several):
        self.try_out(several)

    def blocking(self, plugin):
        return PlannedChange("reload", Recipe(plugin, "blocks", number=self.number(plugin)))

    def number(self, plugin):
        return self.model.recipes[plugin].number

    def change(self, asked, *, cancel_holders=False, phase_timeout=20.0):
        """Do it to both, and compare."""
        if not asked:
            return
        refusals = self.model.refusals(asked)
        in_use = self.in_use() & self.retiring(asked)
        limits = {
            "drain_timeout": 0.02 if in_use else 20.0,
            "phase_timeout": phase_timeout,
            "cancel_holders": cancel_holders,
        }
        LEDGER.expect(self.rt.epoch)
        before = id(self.rt.epoch)  # the model holds the epoch no longer than the runtime does
        cutover, error = self.attempt(asked, limits)
        if refusals:
            assert error in refusals, (error, refusals)
            assert id(self.rt.epoch) == before
            return
        assert error is None, error
        retired = self.commit(asked)
        self.changes[cutover.change] = retired
        assert {(s.plugin, s.old.generation) for s in cutover.swaps if s.old} == retired
        held = {(s.plugin, s.old.generation) for s in cutover.swaps if s.old and not s.drained}
        if cancel_holders:
            assert held <= in_use
            self.held = [holder for holder in self.held if not self.obeyed(holder, in_use)]
        else:
            assert held == in_use, cutover.holders
        assert bool(cutover.holders) == bool(held)
        assert not cutover.leaks
        self.await_freed()

    def attempt(self, asked, limits):
        self.asked += 1
        try:
            return self.run(_asking(asked), **limits), None
        except EpochalError as error:
            self.kept = error  # as a log might: it must hold nothing up
            return None, type(error)

    def try_out(self, asked):
        """A dry run fails as the real one would, and changes nothing either way."""
        before = id(self.rt.epoch)
        LEDGER.expect(self.rt.epoch)
        refusals = self.model.refusals(asked)
        cutover, error = self.attempt(asked, {"dry_run": True})
        assert (error in refusals) if refusals else (error is None), (error, refusals)
        assert cutover is None or not cutover.published
        assert id(self.rt.epoch) == before
        if error is None:
            self.asked -= 1  # told of as neither

    def retiring(self, asked):
        going = self.model.removals(asked) | self.model.renewals(asked)
        return {(p, n) for p, n in self.model.active.items() if p in going}

    def commit(self, asked):
        current = self.rt.epoch.generations
        fresh = {plugin: current[plugin] for plugin in self.model.renewals(asked)}
        numbers = {plugin: generation.number for plugin, generation in fresh.items()}
        for plugin, number in numbers.items():
            assert (plugin, number) not in self.generations, "a number was given twice"
            self.generations[plugin, number] = fresh[plugin]
        return self.model.commit(asked, numbers)

    # --- holding -----------------------------------------------------------------------------

    @rule(kind=st.sampled_from(["epoch", "operation", "obedient"]))
    def pin(self, kind):
        pins = self.model.active.items()
        if kind == "epoch":
            self.held.append(Pin(self.rt.epoch, pins))
        elif kind == "operation":
            self.held.append(Pin(self.rt.operation("model"), pins))
        else:
            self.held.append(Obedient(self.rt.operation("model"), pins))

    @rule(data=st.data(), kind=st.sampled_from((*OF_ONE, Narrow)))
    @precondition(lambda self: self.model.active)
    def hold_one(self, data, kind):
        pinned = data.draw(st.sampled_from(sorted(self.model.active.items())))
        if kind is Narrow:
            self.held.append(Narrow(self.rt.operation("model"), pinned))
        else:
            self.held.append(kind(self.rt, pinned))

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def release_one(self, data):
        at = data.draw(st.integers(0, len(self.held) - 1))
        self.held.pop(at).release(self.model.who)
        self.await_freed()

    def in_use(self):
        return self.model.in_use(pin for holder in self.held for pin in holder.pins)

    @staticmethod
    def obeyed(holder, asked):
        return holder.obeys and bool(holder.pins & asked)

    def await_freed(self):
        """What nobody holds any more goes, wholly and by itself."""
        freed = self.model.draining - self.in_use()
        ended = {n for n, retired in self.changes.items() if retired and retired <= freed}
        for number in ended:
            self.await_told(lambda n=number: n in self.finished(), lambda: self.who_holds(freed))
            cutover = self.finished()[number]
            assert cutover.drained
            assert cutover.reclaimed, cutover.leaks
        for generation in freed:
            self.await_removed(generation)
        self.model.draining -= freed
        self.changes = {n: retired - freed for n, retired in self.changes.items()}

    def await_removed(self, key):
        generation = self.generations[key]
        self.await_told(
            lambda: generation.state is LifecycleState.REMOVED, lambda: self.who_holds([key])
        )

    def finished(self):
        return {event.change: event.cutover for event in self.heard(ChangeFinished)}

    def who_holds(self, keys):
        return {key: self.generations[key].holders() for key in keys}

    # --- what holds after each step ----------------------------------------------------------

    @invariant()
    def serves_what_the_model_says(self):
        epoch, active = self.rt.epoch, self.model.active
        assert epoch.number == self.model.epoch
        assert {p: g.number for p, g in epoch.generations.items()} == active
        assert {name for name in epoch[tool] if name.endswith(".whoami")} == {
            f"{plugin}.whoami" for plugin in active
        }
        for plugin, number in active.items():
            assert epoch[tool][f"{plugin}.whoami"]() == self.model.who(plugin, number)
            assert self.generations[plugin, number].state is LifecycleState.ACTIVE

    @invariant()
    def whoever_holds_is_served_as_before(self):
        for holder in self.held:
            holder.check(self.model.who)

    @invariant()
    def nothing_is_shut_down_in_use_or_twice(self):
        assert not LEDGER.wrong
        for key, generation in self.generations.items():
            in_use = key in self.model.draining or self.model.active.get(key[0]) == key[1]
            assert LEDGER.downs[key] == (0 if in_use else 1), key
            if key in self.model.draining:
                assert generation.state is LifecycleState.DRAINING

    @invariant()
    def each_change_was_told_of_once(self):
        def told():
            return len(self.heard(ChangeCommitted)) + len(self.heard(ChangeFailed))

        self.await_told(lambda: told() == self.asked, lambda: f"{told()} of {self.asked}")
        assert len(self.heard(ChangeCommitted)) == self.model.epoch

    def teardown(self):
        LEDGER.unblock()
        for holder in self.held:
            holder.release(self.model.who)
        self.held = []
        self.await_freed()
        cutover = self.rt.close()
        assert cutover.drained
        assert not cutover.leaks
        self.all_code_is_gone()

    def all_code_is_gone(self):
        """Also that of versions which never served."""
        started = LEDGER.initialized
        assert all(LEDGER.downs[me] == (me in started) for me in LEDGER.born)
        self.generations.clear()
        self.kept = None
        gc.collect()
        alive = {me: refs for me, refs in LEDGER.born.items() if any(ref() for ref in refs)}
        assert not alive


class Blocking(Machine):
    """With the blocking calls; a change is given up by Ctrl-C."""

    def run(self, asked, **limits):
        change = self.rt.change(**limits)
        asked(change)
        return change.run()

    def run_and_give_up(self, asked):
        thread = threading.Thread(target=_interrupt_once_entered)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            self.run(asked)
        thread.join(20)


class InALoop(Machine):
    """In an event loop; a change is given up by cancelling its task."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        super().__init__()

    def run(self, asked, **limits):
        return self.loop.run_until_complete(self.arun(asked, **limits))

    async def arun(self, asked, **limits):
        async with self.rt.achange(**limits) as change:
            asked(change)
        return change.cutover

    def run_and_give_up(self, asked):
        self.loop.run_until_complete(self.cancel_once_entered(asked))

    async def cancel_once_entered(self, asked):
        task = asyncio.ensure_future(self.arun(asked))
        assert await asyncio.to_thread(LEDGER.entered.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @rule(data=st.data())
    @precondition(lambda self: self.model.active)
    def hold_in_a_task(self, data):
        pinned = data.draw(st.sampled_from(sorted(self.model.active.items())))
        self.held.append(Task(self.rt, pinned, self.loop))

    def teardown(self):
        super().teardown()
        self.loop.close()


def _asking(asked):
    """What records these wishes on a change."""

    def record(change):
        for wish in asked:
            if wish.verb == "load":
                change.load(wish.recipe.artifact())
            elif wish.verb == "reload":
                change.reload(wish.plugin, wish.recipe.artifact())
            else:
                change.remove(wish.plugin, cascade=wish.cascade)

    return record


def _interrupt_once_entered():
    if LEDGER.entered.wait(20):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("form", [Blocking, InALoop])
def test_the_runtime_is_its_model(form):
    run_state_machine_as_test(form, settings=PROFILE)
