"""Programs over whole changes of a real `Runtime`, with real plugins.

A change runs in the thread of its caller (see `hosting`). Two things are therefore not covered: a
caller that cancels its change while it runs, and the watchdog, which has no limit to watch here.

Of a whole change only the code where threads meet is stepped through (`MEETING`, or less). Reading,
linking and reclaiming memory are one step each: no other thread has a reference to those objects
yet, or any longer.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from epochal import LifecycleState
from epochal._core.change import queue as change_queue
from epochal._core.change.executor import ChangeThread, Executor
from epochal._core.change.queue import ChangeQueue
from epochal._core.change.retirement import RetiringGeneration
from epochal._core.change.staging import Staging
from epochal._core.generation.epoch import EpochStore
from epochal._core.generation.generation import LeasedGeneration
from epochal._core.generation.operation import Operation
from epochal._core.sync.fifo_lock import FifoLock
from epochal.errors import RuntimeClosedError
from epochal.events import ChangeCommitted, ChangeFinished, StateChanged
from tests.conftest import tool
from tests.interleavings.exploring import Program, every, replaced, sampled
from tests.interleavings.hosting import (
    GEO,
    GEO_2,
    ROUTES,
    UNITS,
    UNITS_2,
    all_shut_down_once,
    changes_in_their_callers,
    ended,
    reloading,
    removing,
    serving,
)

if TYPE_CHECKING:
    from types import SimpleNamespace

    from epochal._core.generation.epoch import Epoch

MEETING: Final = (
    "epochal/runtime.py",
    "_core/change/executor.py",
    "_core/change/queue.py",
    "_core/change/staging.py:Staging.publish",
    "_core/generation/epoch.py:EpochStore",
    "events.py",
    "_core/use/drain_schedule.py",
    "_core/use/drain_wakeup.py",
    "_core/generation/lifecycle.py",
    "_core/sync/weak_registry.py",
    "_core/generation/operation.py",
    "_core/change/retirement.py",
    "_core/change/request.py:Change",
    "_core/sync/fifo_lock.py",
    "interleavings/changes.py",
)
BEGINNING: Final = (
    "_core/change/queue.py",
    "_core/sync/fifo_lock.py",
    "interleavings/changes.py",
)
GIVING_UP: Final = (
    "_core/change/executor.py:Executor.start",
    "_core/change/executor.py:Executor.withdraw",
    "_core/change/plugin_calls.py:StepRunner.cancel",
    "_core/change/plugin_calls.py:StepRunner.commit",
    "interleavings/changes.py",
)
PUBLISHING: Final = (
    "_core/generation/epoch.py:EpochStore.publish",
    "_core/change/staging.py:Staging.publish",
    "interleavings/changes.py",
)
RETIRING: Final = (
    *PUBLISHING,
    "_core/change/retirement.py",
    "_core/use/drain_schedule.py",
    "_core/use/drain_wakeup.py",
    "_core/sync/weak_registry.py",
    "_core/generation/operation.py",
    ".py@g",  # the plugin itself
)


# --- capture against publish ----------------------------------------------------------------------


def reloading_both(state: Any) -> None:
    with state.rt.change() as change:
        change.reload("geo", GEO_2)
        change.reload("units", UNITS_2)
    state.cutovers["both"] = change.cutover


def capturing(state: Any) -> None:
    epoch = state.rt.epoch
    exports = epoch[tool]
    for name in ("geo.version", "units.version"):
        function = exports.get(name)
        state.seen.append((epoch.number, name, function and function()))


def saw_one_version(state: Any) -> None:
    versions = {version for _, _, version in state.seen}
    assert len(state.seen) == 2
    assert versions in ({1}, {2}), state.seen


def all_names_found(state: Any) -> None:
    assert all(version is not None for _, _, version in state.seen), state.seen


def publish_one_by_one(self: EpochStore, epoch: Epoch) -> None:
    """Publish the new generations one after another."""
    reader: Any = self._reader
    current = getattr(reader, "epoch", epoch)
    for plugin, new in epoch.generations.items():
        old = current.generations.get(plugin)
        if old is not None and old is not new:
            carried = {key: epoch[key[0]][key[1]] for key in new.exports}
            current = current.successor(
                [old], [LeasedGeneration(new, epoch.lease(plugin), carried)]
            )
            reader.epoch = current
    reader.epoch = epoch


def remove_then_publish(self: EpochStore, epoch: Epoch) -> None:
    """Publish an epoch without the replaced generations, and then the complete one."""
    reader: Any = self._reader
    current = getattr(reader, "epoch", epoch)
    new = epoch.generations
    reader.epoch = current.successor(
        [g for g in current.generations.values() if new.get(g.plugin) != g], ()
    )
    reader.epoch = epoch


# --- capture against remove -----------------------------------------------------------------------


def using(state: Any) -> None:
    function = state.rt.epoch[tool].get("geo.uses")
    if function is not None:
        state.seen.extend(function())


def never_used_after_shutdown(state: Any) -> None:
    assert all(state.seen), state.seen
    assert ended == ["geo#0"]
    assert state.cutovers["remove"].drained


always_unused = property(lambda _: True)


# --- an operation against remove ------------------------------------------------------------------


def operating(state: Any) -> None:
    with state.rt.operation("work") as operation:
        generation = operation.generations.get("geo")
        if generation is None:
            return
        operation.narrow(["geo"])
        state.states.append(generation.state)
        state.states.append(generation.state)


def never_removed_meanwhile(state: Any) -> None:
    assert all(LifecycleState.ACTIVE <= s <= LifecycleState.DRAINING for s in state.states), (
        state.states
    )
    assert ended == ["geo#0"]
    assert state.cutovers["remove"].drained


def drop_then_narrow(self: Operation, plugins: Any) -> None:
    """Drop the epoch first, and take the pins only if it is still alive."""
    held = weakref.ref(self.epoch)
    self._epoch = None
    epoch = held()
    if epoch is not None:
        self._pins = epoch.pins(plugins)


# --- reload against reload ------------------------------------------------------------------------


def ran_one_after_the_other(state: Any) -> None:
    epochs = sorted((cut.epoch_before, cut.epoch_after) for cut in state.cutovers.values())
    assert epochs == [(1, 2), (2, 3)], epochs
    all_shut_down_once(state)


def linked_to_the_current(state: Any) -> None:
    """E3: in either order, the dependent calls the current version."""
    ran_one_after_the_other(state)
    exports = state.rt.epoch[tool]
    assert exports["routes.asks"]() == exports["geo.version"]() == 2


def grant_at_once(self: FifoLock, ticket: Any) -> None:
    """Grant every ticket at once."""
    ticket.set_result(None)


# --- a change against close -----------------------------------------------------------------------


def loading(state: Any) -> None:
    try:
        state.cutovers["load"] = state.rt.load(UNITS)
    except RuntimeClosedError:
        state.refused = True


def closing(state: Any) -> None:
    state.cutovers["close"] = state.rt.close()


def nothing_is_left(state: Any) -> None:
    assert state.refused is ("load" not in state.cutovers)
    assert not state.rt.epoch.generations, state.rt.epoch.generations
    all_shut_down_once(state)


def check_then_queue(self: ChangeQueue, executor: Executor, name: str) -> None:
    """Check that the runtime is open, and queue the change afterwards."""
    self._check_open(executor.ended)
    executor.queue()
    change_queue.start_thread(executor.start, name=name)


# --- a caller that gives up against the start -----------------------------------------------------


def queued_change() -> SimpleNamespace:
    state = serving(GEO)()
    state.executor = state.rt.change().reload("geo", GEO_2)._prepare().executor
    state.executor.queue()
    return state


def starting(state: Any) -> None:
    ChangeThread(state.executor, "change").run()


def giving_up(state: Any) -> None:
    if not state.executor.withdraw():
        state.executor.cancel()
    state.refused = state.executor.answer.exception() is not None


def whole_or_not_at_all(state: Any) -> None:
    assert state.rt.epoch.number == (1 if state.refused else 2)
    assert not state.rt._epochs.turn._queue, "the turn is lost"
    assert len(ended) == len(set(ended)), ended
    assert ("geo#0" in ended) is not state.refused, ended


def start_unasked(self: Executor) -> None:
    """Run the change without the claim."""
    self.run()


# --- a subscriber against a cutover ---------------------------------------------------------------


def subscribed() -> SimpleNamespace:
    state = serving(GEO)()

    def receive(event: Any) -> None:
        state.events.append((event, state.rt.epoch.number))

    state.end = state.rt.events.subscribe(receive)
    return state


def reloading_subscribed(state: Any) -> None:
    reloading("geo", GEO_2)(state)
    state.end()


def receiving(state: Any) -> None:
    state.end.__self__._thread.run()


def events_are_complete_and_in_order(state: Any) -> None:
    kinds = [type(event) for event, _ in state.events]
    assert kinds.index(ChangeCommitted) < kinds.index(ChangeFinished) == len(kinds) - 1, kinds
    for event, current in state.events:
        if isinstance(event, ChangeCommitted):
            assert current >= event.epoch_after, f"received {event} in epoch {current}"
    moves = [e.new for e, _ in state.events if isinstance(e, StateChanged) and e.generation == 1]
    assert moves == [LifecycleState.LINKED, LifecycleState.INITIALIZED, LifecycleState.ACTIVE]


_publish = Staging.publish


def announce_then_publish(self: Staging, *options: Any) -> None:
    """Emit the commit's event before publishing."""
    before = self.numbers[0]
    self.numbers = (before, before + 1)
    self._announce_commit([])
    _publish(self, *options)


PROGRAMS = (
    Program(
        "capture-against-publish",
        "E1: one capture never mixes the versions of two plugins that change together",
        "a change is published one plugin at a time",
        serving(GEO, UNITS),
        (reloading_both, capturing),
        saw_one_version,
        replaced(EpochStore, "publish", publish_one_by_one),
        ci=every(1, at_least=100),
        soak=every(2, at_least=5000),
        where=PUBLISHING,
        around=changes_in_their_callers,
    ),
    Program(
        "look-up-against-publish",
        "E2: a name that is in both versions is found at every instant",
        "the old exports are removed before the new ones are published",
        serving(GEO, UNITS),
        (reloading_both, capturing),
        all_names_found,
        replaced(EpochStore, "publish", remove_then_publish),
        ci=every(1, at_least=100),
        soak=every(2, at_least=5000),
        where=PUBLISHING,
        around=changes_in_their_callers,
    ),
    Program(
        "capture-against-remove",
        "E4: a captured generation is not shut down during a call, nor before it is released",
        "a generation is shut down without checking for its users",
        serving(GEO),
        (using, removing),
        never_used_after_shutdown,
        replaced(RetiringGeneration, "is_unused", always_unused),
        ci=every(1, at_least=360),
        soak=every(2, at_least=20000),
        where=RETIRING,
        around=changes_in_their_callers,
    ),
    Program(
        "operation-against-remove",
        "E4: an operation's generations are not removed while it narrows, nor before its end",
        "`narrow` drops the epoch before it has pinned the remaining generations",
        serving(GEO),
        (operating, removing),
        never_removed_meanwhile,
        replaced(Operation, "narrow", drop_then_narrow),
        ci=every(1, at_least=410),
        soak=every(2, at_least=20000),
        where=RETIRING,
        around=changes_in_their_callers,
    ),
    Program(
        "reload-against-reload",
        "E1, E4: two reloads of one plugin run one after the other; each generation ends once",
        "the queue of changes grants every ticket at once",
        serving(GEO),
        (reloading("geo", GEO), reloading("geo", GEO_2)),
        ran_one_after_the_other,
        replaced(FifoLock, "acquire", grant_at_once),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=1000),
        where=MEETING,
        around=changes_in_their_callers,
    ),
    Program(
        "reload-against-reload-of-a-dependent",
        "E3: in either order, the dependent ends up linked to the current generation",
        "the queue of changes grants every ticket at once",
        serving(GEO, ROUTES),
        (reloading("geo", GEO_2), reloading("routes", ROUTES)),
        linked_to_the_current,
        replaced(FifoLock, "acquire", grant_at_once),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=1000),
        where=MEETING,
        around=changes_in_their_callers,
    ),
    Program(
        "change-against-close",
        "a change is refused, or finished before the runtime closes; no generation is left",
        "a change checks that the runtime is open, and queues in a second step",
        serving(GEO),
        (loading, closing),
        nothing_is_left,
        replaced(ChangeQueue, "begin", check_then_queue),
        ci=every(1, at_least=500),
        soak=every(2, at_least=10000),
        where=BEGINNING,
        around=changes_in_their_callers,
    ),
    Program(
        "giving-up-against-start",
        "interruption: a change that its caller takes back as its thread begins runs whole or not "
        "at all, and its turn is given back",
        "the thread of a change runs it without a claim",
        queued_change,
        (starting, giving_up),
        whole_or_not_at_all,
        replaced(Executor, "start", start_unasked),
        ci=every(1, at_least=30),
        soak=every(2, at_least=500),
        where=GIVING_UP,
        around=changes_in_their_callers,
    ),
    Program(
        "subscriber-against-cutover",
        "a subscriber receives every event in order, and a commit's only after the publishing",
        "a commit's event is emitted before the change is published",
        subscribed,
        (reloading_subscribed, receiving),
        events_are_complete_and_in_order,
        replaced(Staging, "publish", announce_then_publish),
        ci=sampled(100, preemptions=2),
        soak=every(1, at_least=300),
        where=(*PUBLISHING, "_core/change/staging.py", "_core/change/executor.py", "events.py"),
        around=changes_in_their_callers,
    ),
)
