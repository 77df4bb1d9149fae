"""The way out of a generation: drained, shut down, removed, its memory taken apart.

Several generations go at once, dependents first, but none waits for another that has nothing to do
with it: each leaves as soon as it is unused. That a dependency goes after its dependents needs no
bookkeeping here, since a dependent borrows the lease of what it requires until it is removed
itself.

The same way out serves a committed change (its old generations) and a failed one (those that it
staged). It runs in the change's own thread, which sleeps until a release wakes it. A drain that
outlasts its limit is reported, and goes on.

Threads
-------

All state is in attributes and belongs to the thread that has the change. If plugin code does not
return, the change resumes on another thread, which calls `give_up` and then `run` again: the step
that was under way is known (``_leaving``), and so is that of every other generation. ``wake`` is
written by any thread: a release puts its time there, a caller that gives up puts None.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.diagnosis import has_known_holders
from epochal._core.generation.states import LifecycleState
from epochal._core.introspect.collector import collect_soon
from epochal._core.introspect.referrers import wait_for_other_searches
from epochal._core.sync.threads import give_way
from epochal._core.use.drain_schedule import CollectionSchedule
from epochal._core.use.drain_wakeup import Waiter, Wake, wakeup_of
from epochal.events import (
    DrainTimedOut,
    EntriesLost,
    GenerationLeaked,
    HoldersAsked,
    ShutdownFailed,
    StateChanged,
)
from epochal.report import StepName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from epochal._core.change.plan import Deadline, Step
    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.reclaim import Reclaim
    from epochal.events import EventStream
    from epochal.report import Holder, Leak, Straggler, Swap

NO_SUCCESSORS: Final[Mapping[str, Generation]] = MappingProxyType({})

_STRAGGLER_LOOKS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
# Nothing wakes a drain when a thread that carries no lease leaves the plugin's code, or a caller
# lets go of an instance that the plugin keeps. So it looks again: soon at first, then twice a
# second. Only while there is such a thread or instance.

_SEARCHES_S: Final = 1.0
"""Seconds to wait for other threads' searches, which refer to what they look at."""

_LATE_S: Final = 30.0
"""A drain that nobody waits for is reported again after this time."""


class RetiringGeneration:
    """One generation on its way out, and the outcome so far.

    Attributes:
        generation: which.
        steps: what is left of its way out, the next first.
        initialized: whether its `init` succeeded, so that its `shutdown` is to be called.
        drained: whether it was shut down, unused.
        wakeup_us: microseconds from its last release to the drain waking, if it was waited for.
        stragglers: the threads and tasks that ran its code without a lease at the last look.
        reclaim: how its memory came back; None before that.
        may_let_go: whether a look may find it unused though no release wakes the drain: it keeps
            instances that callers have, too.
        lost: the entries of its successor in the host's tables that its shutdown took out.
    """

    __slots__ = (
        "_named",
        "drained",
        "generation",
        "initialized",
        "lost",
        "may_let_go",
        "reclaim",
        "steps",
        "stragglers",
        "waiter",
        "wakeup_us",
    )

    def __init__(self, generation: Generation, wake: Wake, *, initialized: bool) -> None:
        self.generation: Final = generation
        self.steps: Final[list[Step]] = []
        self.initialized: Final = initialized
        self.drained = False
        self._named: tuple[Holder, ...] = ()
        self.wakeup_us: float | None = None
        self.stragglers: tuple[Straggler, ...] = ()
        self.reclaim: Reclaim | None = None
        self.may_let_go = False
        self.lost: Sequence[str] = ()
        self.waiter: Final[Waiter] = generation.lifecycle.ledger.waiter(0, wake)

    @property
    def is_unused(self) -> bool:
        """Whether nothing uses it now.

        No lease is alive, no thread or task is in its code, and only the plugin has instances.
        """
        self.may_let_go = not self.waiter.is_satisfied and self.generation.untie_kept()
        if not self.waiter.is_satisfied:
            return False
        give_way()
        self.stragglers = self.generation.stragglers()
        return not (self.stragglers or self.generation.tie_handed_on())

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The uses that were left when the waiting was over."""
        return () if self.drained else (self._named or self.stragglers)

    def name_holders(self) -> None:
        """Find the uses of it; the garbage has been collected.

        A look through the heap stops every thread, so it comes last, where nothing else explains
        why the generation is in use.
        """
        known = self.generation.known_holders()
        self._named = known or self.generation.holders(collect=False)

    @property
    def failures(self) -> tuple[str, ...]:
        """The errors on the way, a line each."""
        return tuple(self.generation.failures)

    @property
    def _is_gone(self) -> bool:
        """Whether its memory came back, and nothing that its code began still runs."""
        is_reclaimed = self.reclaim is not None and not self.leaks
        return is_reclaimed and not self.generation.left_running

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """The references that keep its memory alive."""
        return self.reclaim.leaks if self.reclaim is not None else ()

    def outcome(self, swap: Swap) -> Swap:
        """Its part in the report, filled in as things stand."""
        reclaimed = self.reclaim.cleaned_up if self.reclaim is not None else ()
        return replace(
            swap,
            drained=self.drained,
            reclaimed=self._is_gone,
            wakeup_us=self.wakeup_us,
            holders=self.holders,
            leaks=self.leaks,
            failures=self.failures,
            cleaned_up=(*self.generation.cleaned_up, *reclaimed),
            lost=(*swap.lost, *self.lost),
        )


class Retirement:
    """Takes generations out of service, each as soon as nothing uses it.

    Args:
        generations: dependents first, and whether each is to be shut down, since its `init`
            succeeded; no lease can be taken on them any more.
        steps: the way out of each of them.
        runner: runs the steps.
        deadline: how long the plugin code in each may take.
        events: receives what happens.
        timeout_s: seconds after which `run` returns, once; None for never.
        error: the error that the generations are undone for, which never served. It is on its way
            to the caller and refers to their frames: their memory comes back when it is dropped.
        cancel_holders: when the time has run out, first ask those that use the generations to stop,
            and wait as long again.
        interrupts: when the time has run out, stop the calls of code that can be stopped for
            certain, and wait as long again.
        successors: the generations that replace them, by plugin.
        before_shutdown: called with each generation, unused by then, before its shutdown.

    Attributes:
        retiring: each generation, and what became of it.
        error: as above; None once the caller has its answer.
    """

    __slots__ = (
        "_before_shutdown",
        "_cancel_holders",
        "_deadline",
        "_events",
        "_interrupts",
        "_leaving",
        "_looks",
        "_pending",
        "_released_ns",
        "_runner",
        "_schedule",
        "_successors",
        "_timeout_s",
        "_to_ask",
        "_to_reclaim",
        "_wake",
        "_warns_late",
        "error",
        "retiring",
    )

    def __init__(
        self,
        generations: Mapping[Generation, bool],
        steps: Iterable[Step],
        runner: StepRunner,
        deadline: Deadline,
        events: EventStream,
        timeout_s: float | None,
        *,
        error: BaseException | None = None,
        cancel_holders: bool = False,
        interrupts: bool = False,
        successors: Mapping[str, Generation] = NO_SUCCESSORS,
        before_shutdown: Callable[[Generation], object] | None = None,
    ) -> None:
        self._before_shutdown: Final = before_shutdown
        self._deadline: Final = deadline
        self._successors: Final = successors
        self._wake: Final[Wake] = SimpleQueue()
        self._runner: Final = runner
        self._events: Final = events
        self.error = error
        self._timeout_s: Final = timeout_s
        self._cancel_holders = cancel_holders
        self._interrupts = interrupts
        self._schedule: CollectionSchedule | None = None  # from the first wait on
        self._warns_late = timeout_s is not None and timeout_s < _LATE_S
        self._looks = 0
        self._released_ns: int | None = None
        self.retiring: Final = tuple(
            RetiringGeneration(generation, self._wake, initialized=initialized)
            for generation, initialized in generations.items()
        )
        self._pending: Final = list(self.retiring)
        self._to_ask: Final[list[RetiringGeneration]] = []
        self._to_reclaim: Final[list[RetiringGeneration]] = []
        # The owner of the plugin code that runs; kept when its thread is abandoned.
        self._leaving: RetiringGeneration | None = None
        self._bind(steps)

    def _bind(self, steps: Iterable[Step]) -> None:
        """Make the steps run."""
        by_plugin = {retiring.generation.plugin: retiring for retiring in self.retiring}
        for step in steps:
            retiring = by_plugin[step.plugin]
            do: dict[StepName, Callable[[Step], Any]] = {
                StepName.DRAIN: self._drain,
                StepName.SHUTDOWN: partial(self._shut_down, retiring),
                StepName.RECLAIM: partial(self._reclaim, retiring),
            }
            retiring.steps.append(replace(step, do=do[step.name], deadline=self._deadline))

    def reclaim(self, steps: Iterable[Step]) -> None:
        """Have `run` take apart the memory of generations that it has shut down."""
        self._bind(steps)
        self._to_reclaim.extend(retiring for retiring in self.retiring if retiring.steps)

    @property
    def is_leaving(self) -> bool:
        """Whether plugin code of a generation runs, or was given up."""
        return self._leaving is not None

    def finish_leaving(self) -> None:
        """Finish the shutdown of a generation whose plugin code was given up, if it has begun."""
        if self._leaving is not None and self._leaving not in self._pending:
            self._leave(self._leaving)

    def answer_early(self, _: object = None) -> None:
        """Have `run` return soon, as if the time had run out. Any thread."""
        self._wake.put(None)

    def run(self) -> bool:
        """Block until every generation is removed, however long it takes.

        Returns:
            True at the end. False where the caller of the change is to wait no longer; call it
            again to go on.
        """
        self._ask_to_stop()
        if self._leaving is not None:
            self._leave(self._leaving)  # resumed: go on where its plugin code was given up
        while self._leave_unused():
            schedule = self._schedule = self._schedule or CollectionSchedule(self._timeout_s)
            if self._is_overdue(schedule) and self._name_holders():
                may_stop = self._cancel_holders or self._interrupts
                if not (may_stop and schedule.is_over):
                    self._report_timeout(schedule.waited)
                    # A caller that would not wait has its answer; an operator wants to know later.
                    is_early, self._warns_late = self._warns_late, False
                    self._schedule = CollectionSchedule(_LATE_S if is_early else None)
                    return False
                self._schedule = CollectionSchedule(self._timeout_s)
                if self._interrupts:
                    for retiring in self._pending:
                        retiring.generation.interrupt()
                if self._cancel_holders:
                    self._to_ask.extend(self._pending)
                self._cancel_holders = self._interrupts = False
                self._ask_to_stop()
        while self._to_reclaim:
            self._leave(self._to_reclaim.pop(0))
        return True

    def give_up(self, error: BaseException) -> None:
        """Note that plugin code did not return; `run` goes on behind it."""
        retiring = self._leaving
        assert retiring is not None
        retiring.generation.failures.append(str(error))
        # A shutdown is called again, and goes on: what blocked is off the list of what to close.
        # Anything else is left as it is.
        if retiring.steps and retiring.steps[0].name is StepName.RECLAIM:
            retiring.generation.revoke_borrowed(leaks=True)
            retiring.steps.clear()
        elif retiring.steps[0].name is StepName.DRAIN:
            self._leaving = None  # it was only asked to stop

    # --- waiting -----------------------------------------------------------------------------

    def _is_overdue(self, schedule: CollectionSchedule) -> bool:
        """Sleep until a release, or the next collection; returns whether the time has run out."""
        try:
            self._released_ns = self._runner.run(self._pending[0].steps[0])
        except Empty:
            self._released_ns = None
            for retiring in self._pending:
                retiring.waiter.collect(schedule)
            return schedule.is_over
        return self._released_ns is None  # put there by a caller that gives up

    def _drain(self, _: Step) -> int | None:
        assert self._schedule is not None
        until_s = self._schedule.until_next()
        if any(retiring.stragglers or retiring.may_let_go for retiring in self._pending):
            look_s = _STRAGGLER_LOOKS_S[min(self._looks, len(_STRAGGLER_LOOKS_S) - 1)]
            self._looks += 1
            until_s = min(until_s, look_s)
        return self._wake.get(timeout=until_s)

    def _name_holders(self) -> bool:
        """Find what uses the generations; returns whether any of them is in use.

        Garbage uses nothing. So it is collected first, and a generation that only garbage held, or
        that was released meanwhile, is unused: no report says "in use" and names no holder.
        """
        # Labelled operations and running calls are hardly ever garbage, and a service that is
        # reloaded under load would stop for each collection.
        known = all(has_known_holders(retiring.generation) for retiring in self._pending)
        if not known:
            wait_for_other_searches(_SEARCHES_S)  # another change's, of what it has refused
        collect_soon(seldom=known)
        if not self._leave_unused():
            return False
        for retiring in self._pending:
            retiring.name_holders()
        return self._leave_unused()

    def _report_timeout(self, waited: float) -> None:
        for retiring in self._pending:
            self._events.emit(
                DrainTimedOut(
                    plugin=retiring.generation.plugin,
                    generation=retiring.generation.number,
                    waited=waited,
                    holders=retiring.holders,
                )
            )

    def _ask_to_stop(self) -> None:
        """Ask those that use the generations to stop."""
        while self._to_ask:
            # First off the list, then asked: a holder that blocks is not asked again.
            self._leaving = retiring = self._to_ask.pop(0)
            generation = retiring.generation
            asked = self._runner.run(replace(retiring.steps[0], name=StepName.CANCEL, do=self._ask))
            self._leaving = None
            self._events.emit(
                HoldersAsked(plugin=generation.plugin, generation=generation.number, holders=asked)
            )

    def _ask(self, step: Step) -> tuple[Holder, ...]:
        # The operations' callbacks are foreign code, in this thread.
        assert self._leaving is not None
        generation = self._leaving.generation
        return self._runner.call_plugin(step, generation, generation.cancel_holders)

    # --- leaving -----------------------------------------------------------------------------

    def _leave_unused(self) -> bool:
        """Remove every generation that is unused by now; returns whether any is left."""
        wakeup_s, self._released_ns = wakeup_of(self._released_ns), None
        while unused := [retiring for retiring in self._pending if retiring.is_unused]:
            for retiring in unused:  # each may free others
                if wakeup_s is not None:
                    retiring.wakeup_us = wakeup_s * 1e6
                if retiring.steps[0].name is StepName.DRAIN:  # unless this was interrupted before
                    del retiring.steps[0]
                self._leave(retiring)
        return bool(self._pending)

    def _leave(self, retiring: RetiringGeneration) -> None:
        """Run the rest of its steps; plugin code runs in them, so each may be given up."""
        self._leaving = retiring
        while retiring.steps:
            self._runner.run(retiring.steps[0])
            del retiring.steps[0]
        self._leaving = None

    def _shut_down(self, retiring: RetiringGeneration, step: Step) -> None:
        """Shut down, then remove."""
        generation = retiring.generation
        if retiring in self._pending:
            if self._before_shutdown is not None:
                self._before_shutdown(generation)  # if it raises, there is no shutdown
            self._pending.remove(retiring)
        successor = self._successors.get(generation.plugin)
        work = partial(_shut_down_beside, successor, generation, initialized=retiring.initialized)
        retiring.lost = self._runner.call_plugin(step, generation, work)
        # Only now: its shutdown may use the plugins that it requires (E3).
        generation.return_borrowed()
        if self.error is not None:  # a rollback: it handed nothing on
            generation.revoke_borrowed(leaks=False)
        retiring.waiter.close()
        retiring.drained = True
        generation.lifecycle.finish()
        self._announce_removed(retiring)

    def _reclaim(self, retiring: RetiringGeneration, step: Step) -> None:
        """Take its memory apart; finalizers of the plugin's objects run in here."""
        generation = retiring.generation
        retiring.reclaim = self._runner.call_plugin(
            step, generation, partial(generation.release, self.error)
        )
        if retiring.leaks:
            # What leaks may refer to what it borrowed, and must not keep that in use (E3).
            generation.revoke_borrowed(leaks=True)
            self._events.emit(
                GenerationLeaked(
                    plugin=generation.plugin, generation=generation.number, leaks=retiring.leaks
                )
            )

    def _announce_removed(self, retiring: RetiringGeneration) -> None:
        generation = retiring.generation
        for failure in retiring.failures:
            self._events.emit(
                ShutdownFailed(
                    plugin=generation.plugin, generation=generation.number, error=failure
                )
            )
        successor = self._successors.get(generation.plugin)
        if successor is not None and retiring.lost:
            self._events.emit(
                EntriesLost(
                    plugin=successor.plugin,
                    generation=successor.number,
                    lost=tuple(retiring.lost),
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

    def outcome(self, swap: Swap) -> Swap:
        """A plugin's part in the report, with what became of its old generation so far."""
        for retiring in self.retiring:
            if retiring.generation.plugin == swap.plugin:
                return retiring.outcome(swap)
        return swap


def _shut_down_beside(
    successor: Generation | None, generation: Generation, *, initialized: bool
) -> Sequence[str]:
    """Shut down; returns the entries of the successor that it took out of the host's tables."""
    if successor is None:
        generation.shutdown(initialized=initialized)
        return ()
    successor.note_entries()
    generation.shutdown(initialized=initialized)
    return successor.lost_entries()
