"""A runtime against a model of it: E1 to E7 hold for any requests in any order.

Hypothesis draws loads, reloads, removals, changes of several plugins, versions that fail at any
step, changes cancelled half way, captures of every sort and their releases, drains that time out
and drains that ask their holders to stop. Each is applied to a real `Runtime` and to `Model`, once
with the blocking calls and once in an event loop. After each step:

- E1, E3: a captured export answers as when it was captured, with the same generations behind it;
- E2: the epoch serves exactly the model's plugins;
- E4: a generation in use was not shut down; a removed one was, once, if it was initialized;
- E5: after a failure the epoch is the same object, and it was served until then;
- E6: each change was reported as committed or failed, once;
- E7: a removed generation left no code behind, and no leak is reported.

The examples are the same each time, but in the whole size (`make soak`, which prints each seed):
there they are new in each run, and failures are shrunk.
"""

import asyncio
import gc
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
from tests.property.holders import SINGLE_PINS, Narrow, Obedient, Pin, Task
from tests.property.ledger import LEDGER, RAISES, REQUIRES, Recipe, tool
from tests.property.model import Model, PlannedChange
from tests.sizes import IS_WHOLE, sized

from epochal import LifecycleState, Runtime
from epochal.errors import EpochalError
from epochal.events import ChangeCommitted, ChangeFailed, ChangeFinished

_COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    stateful_step_count=30,
    print_blob=True,
)
PROFILE = (
    settings(_COMMON, max_examples=200, phases=[Phase.generate, Phase.shrink])
    if IS_WHOLE
    # Failures are reported unshrunk: each step of shrinking would wait for the same time-out.
    else settings(
        _COMMON,
        max_examples=sized(5, 15),
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
)

FAULTS = ("", "", "", "", "manifest", "syntax", "link", "register", "init", "shutdown")
recipes = st.builds(
    Recipe,
    st.sampled_from(sorted(REQUIRES)),
    st.sampled_from(FAULTS),
    st.sampled_from(RAISES),
    st.sampled_from([1, 1, 1, 2]),
)
any_request = st.builds(
    PlannedChange, st.sampled_from(["load", "reload", "remove"]), recipes, st.booleans()
)


class Machine(RuleBasedStateMachine):
    """The rules and checks of both forms; a form runs a change, and cancels one."""

    def __init__(self):
        super().__init__()
        self.model = Model()
        self.rt = Runtime(drain_timeout=20.0, phase_timeout=20.0)
        LEDGER.begin(lambda: self.rt.epoch)
        self.generations = {}  # (plugin, number) -> Generation
        self.changes = {}  # number of a change -> the generations that it retired
        self.held = []
        self.attempts = 0
        self.last_error = None
        self.has_event = threading.Condition()
        self.events = []
        self.rt.events.subscribe(self._receive)

    def _receive(self, event):
        with self.has_event:
            self.events.append(event)
            self.has_event.notify_all()

    def received(self, kind):
        return [event for event in list(self.events) if type(event) is kind]

    def await_events(self, predicate, describe):
        with self.has_event:
            assert self.has_event.wait_for(predicate, timeout=20), describe()

    # --- forms -------------------------------------------------------------------------------

    def run(self, record, **limits):
        """Run a change after `record(change)`; returns its report."""
        raise NotImplementedError

    def run_and_cancel(self, record):
        """Run a change that blocks, and cancel it there."""
        raise NotImplementedError

    # --- changing ----------------------------------------------------------------------------

    @initialize()
    def load_all_plugins(self):
        self.change([PlannedChange("load", Recipe(plugin)) for plugin in REQUIRES])

    @rule(request=any_request)
    def change_one_plugin(self, request):
        self.change([request])

    @rule(recipe=recipes.filter(lambda r: r.number == 1), verb=st.sampled_from(["load", "reload"]))
    def sound_change(self, recipe, verb):
        """A change that succeeds: unrestricted draws are one too rarely."""
        self.change([PlannedChange(verb, Recipe(recipe.plugin))])

    @rule(requests=st.lists(any_request, min_size=2, max_size=4, unique_by=lambda r: r.plugin))
    def change_several(self, requests):
        self.change(requests)

    @rule(plugins=st.sets(st.sampled_from(sorted(REQUIRES)), min_size=1))
    def reload_several(self, plugins):
        active = plugins & set(self.model.active)
        self.change(
            [PlannedChange("reload", Recipe(p, number=self.number(p))) for p in sorted(active)]
        )

    @rule(request=any_request)
    def ask_holders_to_stop(self, request):
        self.change([request], cancel_holders=True)

    @rule(plugin=st.sampled_from(sorted(REQUIRES)))
    @precondition(lambda self: len(self.model.active) == len(REQUIRES))
    def block_for_ever(self, plugin):
        self.change([self.blocking(plugin)], phase_timeout=0.02)
        LEDGER.unblock()

    @rule(plugin=st.sampled_from(sorted(REQUIRES)))
    @precondition(lambda self: len(self.model.active) == len(REQUIRES))
    def cancel_a_change(self, plugin):
        LEDGER.expect(self.rt.epoch)
        before = id(self.rt.epoch)
        self.run_and_cancel(_recorder([self.blocking(plugin)]))
        self.attempts += 1
        assert id(self.rt.epoch) == before
        LEDGER.unblock()

    @rule(requests=st.lists(any_request, min_size=1, max_size=3, unique_by=lambda r: r.plugin))
    def dry_run(self, requests):
        self.try_out(requests)

    def blocking(self, plugin):
        return PlannedChange("reload", Recipe(plugin, "blocks", number=self.number(plugin)))

    def number(self, plugin):
        return self.model.recipes[plugin].number

    def change(self, requests, *, cancel_holders=False, phase_timeout=20.0):
        """Apply the requests to the runtime and to the model, and compare."""
        if not requests:
            return
        refusals = self.model.refusals(requests)
        in_use = self.in_use() & self.retiring(requests)
        limits = {
            "drain_timeout": 0.02 if in_use else 20.0,
            "phase_timeout": phase_timeout,
            "cancel_holders": cancel_holders,
        }
        LEDGER.expect(self.rt.epoch)
        before = id(self.rt.epoch)  # its id alone: a reference would be one more holder
        cutover, error = self.attempt(requests, limits)
        if refusals:
            assert error in refusals, (error, refusals)
            assert id(self.rt.epoch) == before
            return
        assert error is None, error
        retired = self.commit(requests)
        self.changes[cutover.change] = retired
        assert {(s.plugin, s.old.generation) for s in cutover.swaps if s.old} == retired
        held = {(s.plugin, s.old.generation) for s in cutover.swaps if s.old and not s.drained}
        if cancel_holders:
            assert held <= in_use
            self.held = [holder for holder in self.held if not self.was_cancelled(holder, in_use)]
        else:
            assert held == in_use, cutover.holders
        assert bool(cutover.holders) == bool(held)
        assert not cutover.leaks
        self.await_freed()

    def attempt(self, requests, limits):
        self.attempts += 1
        try:
            return self.run(_recorder(requests), **limits), None
        except EpochalError as error:
            self.last_error = error  # a log may store it too: it must delay no drain
            return None, type(error)

    def try_out(self, requests):
        """A dry run fails with the errors of the real change, and alters nothing either way."""
        before = id(self.rt.epoch)
        LEDGER.expect(self.rt.epoch)
        refusals = self.model.refusals(requests)
        cutover, error = self.attempt(requests, {"dry_run": True})
        assert (error in refusals) if refusals else (error is None), (error, refusals)
        assert cutover is None or not cutover.published
        assert id(self.rt.epoch) == before
        if error is None:
            self.attempts -= 1  # a dry run emits neither event

    def retiring(self, requests):
        leaving = self.model.removals(requests) | self.model.renewals(requests)
        return {(p, n) for p, n in self.model.active.items() if p in leaving}

    def commit(self, requests):
        current = self.rt.epoch.generations
        fresh = {plugin: current[plugin] for plugin in self.model.renewals(requests)}
        numbers = {plugin: generation.number for plugin, generation in fresh.items()}
        for plugin, number in numbers.items():
            assert (plugin, number) not in self.generations, "a generation number was used twice"
            self.generations[plugin, number] = fresh[plugin]
        return self.model.commit(requests, numbers)

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

    @rule(data=st.data(), kind=st.sampled_from((*SINGLE_PINS, Narrow)))
    @precondition(lambda self: self.model.active)
    def hold_one_generation(self, data, kind):
        pinned = data.draw(st.sampled_from(sorted(self.model.active.items())))
        if kind is Narrow:
            self.held.append(Narrow(self.rt.operation("model"), pinned))
        else:
            self.held.append(kind(self.rt, pinned))

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def release_one_holder(self, data):
        at = data.draw(st.integers(0, len(self.held) - 1))
        self.held.pop(at).release(self.model.identity)
        self.await_freed()

    def in_use(self):
        return self.model.in_use(pin for holder in self.held for pin in holder.pins)

    @staticmethod
    def was_cancelled(holder, retired):
        return holder.ends_on_cancel and bool(holder.pins & retired)

    def await_freed(self):
        """Wait until every generation that is no longer in use is removed and reclaimed."""
        freed = self.model.draining - self.in_use()
        ended = {n for n, retired in self.changes.items() if retired and retired <= freed}
        for number in ended:
            self.await_events(lambda n=number: n in self.finished(), lambda: self.holders_of(freed))
            cutover = self.finished()[number]
            assert cutover.drained
            assert cutover.reclaimed, cutover.leaks
        for generation in freed:
            self.await_removed(generation)
        self.model.draining -= freed
        self.changes = {n: retired - freed for n, retired in self.changes.items()}

    def await_removed(self, key):
        generation = self.generations[key]
        self.await_events(
            lambda: generation.state is LifecycleState.REMOVED, lambda: self.holders_of([key])
        )

    def finished(self):
        return {event.change: event.cutover for event in self.received(ChangeFinished)}

    def holders_of(self, keys):
        return {key: self.generations[key].holders() for key in keys}

    # --- invariants after each step ----------------------------------------------------------

    @invariant()
    def the_epoch_serves_the_models_plugins(self):
        epoch, active = self.rt.epoch, self.model.active
        assert epoch.number == self.model.epoch
        assert {p: g.number for p, g in epoch.generations.items()} == active
        assert {name for name in epoch[tool] if name.endswith(".whoami")} == {
            f"{plugin}.whoami" for plugin in active
        }
        for plugin, number in active.items():
            assert epoch[tool][f"{plugin}.whoami"]() == self.model.identity(plugin, number)
            assert self.generations[plugin, number].state is LifecycleState.ACTIVE

    @invariant()
    def holders_get_the_same_answers_as_before(self):
        for holder in self.held:
            holder.check(self.model.identity)

    @invariant()
    def nothing_is_shut_down_in_use_or_twice(self):
        assert not LEDGER.violations
        for key, generation in self.generations.items():
            in_use = key in self.model.draining or self.model.active.get(key[0]) == key[1]
            assert LEDGER.shutdowns[key] == (0 if in_use else 1), key
            if key in self.model.draining:
                assert generation.state is LifecycleState.DRAINING

    @invariant()
    def each_change_is_reported_once(self):
        def count():
            return len(self.received(ChangeCommitted)) + len(self.received(ChangeFailed))

        self.await_events(lambda: count() == self.attempts, lambda: f"{count()} of {self.attempts}")
        assert len(self.received(ChangeCommitted)) == self.model.epoch

    def teardown(self):
        LEDGER.unblock()
        for holder in self.held:
            holder.release(self.model.identity)
        self.held = []
        self.await_freed()
        cutover = self.rt.close()
        assert cutover.drained
        assert not cutover.leaks
        self.check_all_code_is_freed()

    def check_all_code_is_freed(self):
        """Including the code of versions that were never published."""
        started = LEDGER.initialized
        assert all(LEDGER.shutdowns[me] == (me in started) for me in LEDGER.code_refs)
        self.generations.clear()
        self.last_error = None
        for thread in threading.enumerate():  # takes back what an abandoned plugin call left
            if thread.name.startswith("epochal after "):
                thread.join(20)
        gc.collect()
        alive = {me: refs for me, refs in LEDGER.code_refs.items() if any(ref() for ref in refs)}
        assert not alive


class Blocking(Machine):
    """With the blocking calls; Ctrl-C cancels a change."""

    def run(self, record, **limits):
        change = self.rt.change(**limits)
        record(change)
        return change.run()

    def run_and_cancel(self, record):
        thread = threading.Thread(target=_interrupt_once_entered)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            self.run(record)
        thread.join(20)


class InALoop(Machine):
    """In an event loop; cancelling its task cancels a change."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        super().__init__()

    def run(self, record, **limits):
        return self.loop.run_until_complete(self.arun(record, **limits))

    async def arun(self, record, **limits):
        async with self.rt.achange(**limits) as change:
            record(change)
        return change.cutover

    def run_and_cancel(self, record):
        self.loop.run_until_complete(self.cancel_once_entered(record))

    async def cancel_once_entered(self, record):
        task = asyncio.ensure_future(self.arun(record))
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


def _recorder(requests):
    """A function that records the requests on a change."""

    def record(change):
        for request in requests:
            if request.verb == "load":
                change.load(request.recipe.artifact())
            elif request.verb == "reload":
                change.reload(request.plugin, request.recipe.artifact())
            else:
                change.remove(request.plugin, cascade=request.cascade)

    return record


def _interrupt_once_entered():
    if LEDGER.entered.wait(20):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("whole_heap")  # caches of what is frozen keep their entries
@pytest.mark.parametrize("form", [Blocking, InALoop])
def test_runtime_agrees_with_its_model(form):
    run_state_machine_as_test(form, settings=PROFILE)
