"""The way out of a generation: drained, shut down, removed, its memory taken apart.

Several generations go at once, dependents first, but none waits for another that has nothing to do
with it: each leaves as soon as nobody uses it. That a dependency goes after its dependents needs no
bookkeeping here, since a dependent borrows the lease of what it requires until it is removed
itself.

The same way out serves a committed change (its old generations) and a failed one (what it staged).
It runs in the change's own thread, which sleeps until a release wakes it. A drain that outlasts its
limit is told, and goes on.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from epochal._core.generation.states import LifecycleState
from epochal._core.use.drain_schedule import CollectionSchedule
from epochal._core.use.lease import Waiter, Wake, wakeup_of
from epochal.events import (
    DrainTimedOut,
    GenerationLeaked,
    HoldersAsked,
    ShutdownFailed,
    StateChanged,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal._core.change.plugin_calls import Phases
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.reclaim import Reclaim
    from epochal.events import EventStream
    from epochal.report import Holder, Leak, Straggler

_STRAGGLER_LOOKS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
# Nothing wakes a drain when a thread that carries no lease leaves the plugin's code, so it looks
# again: soon at first, then twice a second. Only while there is such a thread.


class RetiringGeneration:
    """One generation on its way out, and what became of it.

    Written by the thread that runs the retirement; read by others only once it has settled.

    Attributes:
        generation: which.
        initialized: whether its `init` succeeded, so that it is owed a `shutdown`.
        drained: it was shut down, unused.
        wakeup_us: microseconds from its last release to the drain waking, if it was waited for.
        stragglers: who ran its code without a lease at the last look.
        reclaim: how its memory came back; None before that.
    """

    __slots__ = (
        "_named",
        "drained",
        "generation",
        "initialized",
        "reclaim",
        "stragglers",
        "waiter",
        "wakeup_us",
    )

    def __init__(self, generation: Generation, wake: Wake) -> None:
        self.generation: Final = generation
        self.initialized = generation.state >= LifecycleState.INITIALIZED
        self.drained = False
        self._named: tuple[Holder, ...] = ()
        self.wakeup_us: float | None = None
        self.stragglers: tuple[Straggler, ...] = ()
        self.reclaim: Reclaim | None = None
        self.waiter: Final[Waiter] = generation.lifecycle.ledger.waiter(0, wake)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Who still uses it, as it was when the waiting was over."""
        return () if self.drained else (self._named or self.stragglers)

    def name_holders(self) -> tuple[Holder, ...]:
        """Find out who uses it.

        A look through the heap stops every thread, so it is for those whom nothing else explains.
        """
        self._named = self.generation.known_holders() or self.generation.holders()
        return self.holders

    @property
    def failures(self) -> tuple[str, ...]:
        """What raised on the way."""
        return tuple(self.generation.failures)

    @property
    def cleaned_up(self) -> tuple[str, ...]:
        """What it had left in the process's tables."""
        reclaimed = self.reclaim.cleaned_up if self.reclaim is not None else ()
        return (*self.generation.cleaned_up, *reclaimed)

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """What keeps its memory alive."""
        return self.reclaim.leaks if self.reclaim is not None else ()


class Retirement:
    """Takes generations out of service, each as soon as nobody uses it.

    Args:
        generations: dependents first; no lease can be taken on them any more.
        phases: runs their `shutdown`.
        events: where to tell.
        timeout: seconds after which `on_timeout` is called, once; None for never.
        on_timeout: tells whoever waits that it takes longer; called early, too, when `None` is put
            on `wake` by somebody who will not wait.
        on_end: tells them that all are removed.
        is_rollback: the generations never served. The error that undid them is on its way to the
            caller and refers to their frames: their memory goes when it is dropped.
        cancel_holders: when the time has run out, first ask those who use the generations to stop,
            and wait as long again.
    """

    __slots__ = (
        "_cancel_holders",
        "_events",
        "_is_rollback",
        "_looks",
        "_on_end",
        "_on_timeout",
        "_patience",
        "_pending",
        "_phases",
        "_timeout",
        "leavers",
        "wake",
    )

    def __init__(
        self,
        generations: Sequence[Generation],
        phases: Phases,
        events: EventStream,
        timeout: float | None,
        on_timeout: Callable[[], object],
        on_end: Callable[[], object],
        *,
        is_rollback: bool = False,
        cancel_holders: bool = False,
    ) -> None:
        # A release puts its time here from any thread, a caller who gives up puts None.
        self.wake: Final[Wake] = SimpleQueue()
        self.leavers: Final = tuple(
            RetiringGeneration(generation, self.wake) for generation in generations
        )
        self._pending: list[RetiringGeneration] = list(self.leavers)
        self._phases: Final = phases
        self._events: Final = events
        self._on_timeout = on_timeout
        self._on_end = on_end
        self._is_rollback: Final = is_rollback
        self._timeout: Final = timeout
        self._cancel_holders = cancel_holders
        self._patience = CollectionSchedule(timeout)
        self._looks = 0

    def run(self) -> None:
        """Block until every generation is removed, however long it takes."""
        released_ns: int | None = None
        while self._finish_unused(released_ns):
            try:
                released_ns = self._phases.timed("drain", self._sleep)
                give_up = released_ns is None
            except Empty:
                released_ns = None
                self._patience.collect()
                give_up = self._patience.is_over
            if give_up and self._cancel_holders and self._patience.is_over:
                self._ask_to_stop()
            elif give_up:
                self._tell_timeout(self._patience.waited)
                self._patience = CollectionSchedule(None)
        # Both refer to the change, the change to its error, and they to this: no circle is left.
        on_end, self._on_end, self._on_timeout = self._on_end, _nothing, _nothing
        on_end()

    def _ask_to_stop(self) -> None:
        self._cancel_holders = False
        self._patience = CollectionSchedule(self._timeout)
        for leaver in self._pending:
            generation = leaver.generation
            # Those who are asked are foreign code, in this thread.
            asked = self._phases.call_plugin(
                "cancel",
                str(generation),
                generation.cancel_holders,
                lambda late: self._resume(leaver, late, _nobody),  # noqa: B023  called in the loop
                cancellable=False,
            )
            self._events.emit(
                HoldersAsked(plugin=generation.plugin, generation=generation.number, holders=asked)
            )

    def _sleep(self) -> int | None:
        until = self._patience.until_next()
        if any(leaver.stragglers for leaver in self._pending):
            look = _STRAGGLER_LOOKS_S[min(self._looks, len(_STRAGGLER_LOOKS_S) - 1)]
            self._looks += 1
            until = min(until, look)
        return self.wake.get(timeout=until)

    def _finish_unused(self, released_ns: int | None) -> bool:
        """Remove whoever is unused by now; each may free others. Returns whether any is left."""
        wakeup = wakeup_of(released_ns)
        progress = True
        while progress:
            unused = [leaver for leaver in self._pending if self._is_unused(leaver)]
            progress = bool(unused)
            for leaver in unused:
                if wakeup is not None:
                    leaver.wakeup_us = wakeup * 1e6
                self._finish(leaver)
        return bool(self._pending)

    def _is_unused(self, leaver: RetiringGeneration) -> bool:
        if not leaver.waiter.is_satisfied:
            return False
        leaver.stragglers = leaver.generation.stragglers()
        return not leaver.stragglers

    def _finish(self, leaver: RetiringGeneration) -> None:
        """Shut down, then remove. Foreign code runs in both; either may be taken over."""
        self._pending.remove(leaver)
        self._shut_down(leaver)
        self._remove(leaver)

    def _shut_down(self, leaver: RetiringGeneration) -> None:
        generation, initialized = leaver.generation, leaver.initialized
        self._phases.call_plugin(
            "shutdown",
            str(generation),
            lambda: generation.shutdown(initialized=initialized),
            lambda late: self._resume(leaver, late, self._finish_shutdown),
            cancellable=False,
        )

    def _finish_shutdown(self, leaver: RetiringGeneration) -> None:
        """Go on where a shutdown was given up: what blocked is off the list of what to close."""
        self._shut_down(leaver)
        self._remove(leaver)

    def _remove(self, leaver: RetiringGeneration) -> None:
        generation = leaver.generation
        generation.return_borrowed()
        leaver.waiter.close()
        leaver.drained = True
        generation.lifecycle.finish()
        self._tell_removed(leaver)
        # Finalizers of the plugin's objects run in here.
        leaver.reclaim = self._phases.call_plugin(
            "reclaim",
            str(generation),
            lambda: generation.release(thorough=not self._is_rollback),
            lambda late: self._resume(leaver, late, lambda _: None),
            cancellable=False,
        )
        if leaver.leaks:
            self._events.emit(
                GenerationLeaked(
                    plugin=generation.plugin, generation=generation.number, leaks=leaver.leaks
                )
            )

    def _resume(
        self,
        leaver: RetiringGeneration,
        late: BaseException,
        rest: Callable[[RetiringGeneration], None],
    ) -> None:
        """Go on, in a new thread, with a leaver whose code did not return, then with the others."""
        leaver.generation.failures.append(str(late))
        rest(leaver)
        self.run()

    def _tell_removed(self, leaver: RetiringGeneration) -> None:
        generation = leaver.generation
        for failure in leaver.failures:
            self._events.emit(
                ShutdownFailed(
                    plugin=generation.plugin, generation=generation.number, error=failure
                )
            )
        self._events.emit(
            StateChanged(
                plugin=generation.plugin,
                generation=generation.number,
                old=LifecycleState.DRAINING,
                new=LifecycleState.REMOVED,
            )
        )

    def _tell_timeout(self, waited: float) -> None:
        for leaver in self._pending:
            self._events.emit(
                DrainTimedOut(
                    plugin=leaver.generation.plugin,
                    generation=leaver.generation.number,
                    waited=waited,
                    holders=leaver.name_holders(),
                )
            )
        self._on_timeout()


def _nobody(leaver: RetiringGeneration) -> None:
    """Nothing more is to be done for this one now."""


def _nothing() -> None:
    """What is called once nobody waits any more."""
