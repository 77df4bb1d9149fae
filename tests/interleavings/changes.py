"""Programs over whole changes of a real `Runtime`, with real plugins.

A change runs in the thread of its caller (see `hosting`). Not covered is therefore what a caller
does while its own change runs (to give it up), and the watchdog, whose limits are off here.

Of a whole change only the code where threads meet is stepped through (`MEETING`, or less). Reading,
linking and taking memory apart are one step each: they touch what no other thread has yet, or has
any more.
"""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from epochal import LifecycleState
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

    from epochal._core.change.queue import RunningChange
    from epochal._core.generation.epoch import Epoch

MEETING: Final = (
    "epochal/runtime.py",
    "_core/change/executor.py",
    "_core/change/queue.py",
    "_core/change/staging.py:Staging.publish",
    "_core/generation/epoch.py:EpochStore",
    "events.py",
    "_core/use/drain_schedule.py",
    "_core/use/lease.py",
    "_core/generation/lifecycle.py",
    "_core/sync/weak_registry.py",
    "_core/generation/operation.py",
    "_core/change/retirement.py",
    "_core/change/request.py:Change",
    "_core/sync/fifo_lock.py",
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
    "_core/use/lease.py",
    "_core/sync/weak_registry.py",
    "_core/generation/operation.py",
    ".py@g",  # the plugin itself
)


# --- capture against publish ----------------------------------------------------------------------


def reloading_both(at: Any) -> None:
    with at.rt.change() as change:
        change.reload("geo", GEO_2)
        change.reload("units", UNITS_2)
    at.cut["both"] = change.cutover


def capturing(at: Any) -> None:
    epoch = at.rt.epoch
    exports = epoch[tool]
    for name in ("geo.version", "units.version"):
        function = exports.get(name)
        at.seen.append((epoch.number, name, function and function()))


def of_one_version(at: Any) -> None:
    versions = {version for _, _, version in at.seen}
    assert len(at.seen) == 2
    assert versions in ({1}, {2}), at.seen


def found(at: Any) -> None:
    assert all(version is not None for _, _, version in at.seen), at.seen


def one_by_one(self: EpochStore, epoch: Epoch) -> None:
    """Publish the new generations one after another."""
    reader: Any = self._reader
    base = getattr(reader, "epoch", epoch)
    for plugin, new in epoch.generations.items():
        old = base.generations.get(plugin)
        if old is not None and old is not new:
            carried = {key: epoch[key[0]][key[1]] for key in new.exports}
            base = base.successor([old], [LeasedGeneration(new, epoch.lease(plugin), carried)])
            reader.epoch = base
    reader.epoch = epoch


def removed_first(self: EpochStore, epoch: Epoch) -> None:
    """Publish the epoch without what is replaced, then the one with what replaces it."""
    reader: Any = self._reader
    base = getattr(reader, "epoch", epoch)
    new = epoch.generations
    reader.epoch = base.successor(
        [g for g in base.generations.values() if new.get(g.plugin) != g], ()
    )
    reader.epoch = epoch


# --- capture against remove -----------------------------------------------------------------------


def using(at: Any) -> None:
    function = at.rt.epoch[tool].get("geo.uses")
    if function is not None:
        at.seen.extend(function())


def never_used_after_shutdown(at: Any) -> None:
    assert all(at.seen), at.seen
    assert ended == ["geo#0"]
    assert at.cut["remove"].drained


without_looking = property(lambda _: True)


# --- an operation against remove ------------------------------------------------------------------


def operating(at: Any) -> None:
    with at.rt.operation("work") as operation:
        generation = operation.generations.get("geo")
        if generation is None:
            return
        operation.narrow(["geo"])
        at.states.append(generation.state)
        at.states.append(generation.state)


def never_removed_meanwhile(at: Any) -> None:
    assert all(LifecycleState.ACTIVE <= s <= LifecycleState.DRAINING for s in at.states), at.states
    assert ended == ["geo#0"]
    assert at.cut["remove"].drained


def narrow_too_late(self: Operation, plugins: Any) -> None:
    """Let the epoch go first, and take the pins of whatever is there then."""
    held = weakref.ref(self.epoch)
    self._epoch = None
    epoch = held()
    if epoch is not None:
        self._pins = epoch.pins(plugins)


# --- reload against reload ------------------------------------------------------------------------


def one_after_the_other(at: Any) -> None:
    epochs = sorted((cut.epoch_before, cut.epoch_after) for cut in at.cut.values())
    assert epochs == [(1, 2), (2, 3)], epochs
    all_shut_down_once(at)


def linked_to_the_current(at: Any) -> None:
    """E3: whatever the order, the dependent asks the version that is current."""
    one_after_the_other(at)
    exports = at.rt.epoch[tool]
    assert exports["routes.asks"]() == exports["geo.version"]() == 2


def no_queue(self: FifoLock) -> Any:
    """Everybody has the turn at once."""
    ticket: Any = Future()
    ticket.set_result(None)
    return ticket


# --- a change against close -----------------------------------------------------------------------


def loading(at: Any) -> None:
    try:
        at.cut["load"] = at.rt.load(UNITS)
    except RuntimeClosedError:
        at.refused = True


def closing(at: Any) -> None:
    at.cut["close"] = at.rt.close()


def nothing_is_left(at: Any) -> None:
    assert at.refused is ("load" not in at.cut)
    assert not at.rt.epoch.generations, at.rt.epoch.generations
    all_shut_down_once(at)


def torn_begin(self: ChangeQueue, spec: Any) -> RunningChange:
    """Looks whether the runtime is open, and then queues."""
    self.check_open()
    return self._start(spec)


# --- a subscriber against a cutover ---------------------------------------------------------------


def subscribed() -> SimpleNamespace:
    at = serving(GEO)()

    def hear(event: Any) -> None:
        at.heard.append((event, at.rt.epoch.number))

    at.end = at.rt.events.subscribe(hear)
    return at


def reloading_heard(at: Any) -> None:
    reloading("geo", GEO_2)(at)
    at.end()


def hearing(at: Any) -> None:
    at.end.__self__._thread.run()


def heard_in_order_and_only_when_so(at: Any) -> None:
    kinds = [type(event) for event, _ in at.heard]
    assert kinds.index(ChangeCommitted) < kinds.index(ChangeFinished) == len(kinds) - 1, kinds
    for event, current in at.heard:
        if isinstance(event, ChangeCommitted):
            assert current >= event.epoch_after, f"heard {event}, saw epoch {current}"
    moves = [e.new for e, _ in at.heard if isinstance(e, StateChanged) and e.generation == 1]
    assert moves == [LifecycleState.LINKED, LifecycleState.INITIALIZED, LifecycleState.ACTIVE]


_publish = Staging.publish


def emitted_early(self: Staging, *how: Any) -> None:
    """Emit the commit, then publish."""
    before = self.numbers[0]
    self.numbers = (before, before + 1)
    self._announce_commit([])
    _publish(self, *how)


PROGRAMS = (
    Program(
        "capture-against-publish",
        "E1: one capture never mixes the versions of two plugins that change together",
        "a change is published one plugin at a time",
        serving(GEO, UNITS),
        (reloading_both, capturing),
        of_one_version,
        replaced(EpochStore, "publish", one_by_one),
        ci=every(1, at_least=100),
        soak=every(2, at_least=5000),
        where=PUBLISHING,
        around=changes_in_their_callers,
    ),
    Program(
        "look-up-against-publish",
        "E2: a name that is in both versions is found at every instant",
        "the old exports go before the new ones are in",
        serving(GEO, UNITS),
        (reloading_both, capturing),
        found,
        replaced(EpochStore, "publish", removed_first),
        ci=every(1, at_least=100),
        soak=every(2, at_least=5000),
        where=PUBLISHING,
        around=changes_in_their_callers,
    ),
    Program(
        "capture-against-remove",
        "E4: what was captured is not shut down while it is called, nor before it is let go",
        "a generation is shut down without a look at its uses",
        serving(GEO),
        (using, removing),
        never_used_after_shutdown,
        replaced(RetiringGeneration, "is_unused", without_looking),
        ci=every(1, at_least=360),
        soak=every(2, at_least=20000),
        where=RETIRING,
        around=changes_in_their_callers,
    ),
    Program(
        "operation-against-remove",
        "E4: what an operation pins is not removed while it narrows, nor before its end",
        "narrow lets the epoch go before it has pinned what it keeps",
        serving(GEO),
        (operating, removing),
        never_removed_meanwhile,
        replaced(Operation, "narrow", narrow_too_late),
        ci=every(1, at_least=410),
        soak=every(2, at_least=20000),
        where=RETIRING,
        around=changes_in_their_callers,
    ),
    Program(
        "reload-against-reload",
        "E1, E4: two reloads of one plugin run one after the other; each generation ends once",
        "everybody has the turn at once",
        serving(GEO),
        (reloading("geo", GEO), reloading("geo", GEO_2)),
        one_after_the_other,
        replaced(FifoLock, "acquire", no_queue),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=1000),
        where=MEETING,
        around=changes_in_their_callers,
    ),
    Program(
        "reload-against-reload-of-a-dependent",
        "E3: whichever is first, the dependent ends up linked to the current generation",
        "everybody has the turn at once",
        serving(GEO, ROUTES),
        (reloading("geo", GEO_2), reloading("routes", ROUTES)),
        linked_to_the_current,
        replaced(FifoLock, "acquire", no_queue),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=1000),
        where=MEETING,
        around=changes_in_their_callers,
    ),
    Program(
        "change-against-close",
        "a change is refused, or finished before the runtime is closed; nothing is left",
        "a change looks whether the runtime is open, and queues afterwards",
        serving(GEO),
        (loading, closing),
        nothing_is_left,
        replaced(ChangeQueue, "begin", torn_begin),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=700),
        where=MEETING,
        around=changes_in_their_callers,
    ),
    Program(
        "subscriber-against-cutover",
        "a subscriber receives every event, in order, and that of a commit once it is current",
        "a commit is emitted before it is published",
        subscribed,
        (reloading_heard, hearing),
        heard_in_order_and_only_when_so,
        replaced(Staging, "publish", emitted_early),
        ci=sampled(100, preemptions=2),
        soak=every(1, at_least=300),
        where=(*PUBLISHING, "_core/change/staging.py", "_core/change/executor.py", "events.py"),
        around=changes_in_their_callers,
    ),
)
