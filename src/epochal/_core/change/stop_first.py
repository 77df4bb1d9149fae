"""A change whose old generations are shut down before the new ones come up.

The problem: some plugins cannot be there twice. They listen on a port, or register in a registry
that refuses a second entry of a name. Such a plugin declares `handover = "stop-first"`.

All that the change replaces is stopped first, dependents first: a plugin that requires a stopped
one cannot run without it, and an operation must not see one plugin of a change old and another new
(E1). In order:

1. *pause*: the current epoch is replaced by the same one with stand-ins (`use.pause`) for the
   exports of these plugins. Their calls wait from here on. No name is ever missing (E2).
2. *stop*: the old generations drain, under the limit of a pause, and are shut down (E4). What they
   export as state (`export_state`) is kept.
3. link, init, …, publish, as in any change; then the calls go on.

Failures lead back to the old version:

| what fails | what then serves |
|---|---|
| a call inside does not end in time; the change is cancelled | the old generations, as before |
| an `export_state` raises or does not return | those that are not shut down, as before |
| a shutdown does not return; link, init or a later step fails | the old artifacts, started again |
| that, too | the other plugins; the error says which are gone |

A generation that was shut down cannot go on, so it is started again as a new one of the same
artifact, configuration and grants: the epoch has the same number and the same id as before (E5, as
far as it can be kept). What was shut down is not running twice at any time.

Belongs to the thread of the change, like all of its state.
"""

from __future__ import annotations

import sys
import weakref
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from epochal._core.change.journal import AddedGeneration, Commit
from epochal._core.change.participant import Participants
from epochal._core.change.plan import Deadline, Step, retirement_steps
from epochal._core.change.plugin_calls import Abandoned
from epochal._core.change.retirement import Retirement
from epochal._core.change.staging import Staging
from epochal._core.generation.generation import LeasedGeneration
from epochal._core.generation.own_state import (
    NO_IMPORT_STATE,
    describe,
    export_state,
    import_state,
    translate_errors,
)
from epochal._core.generation.states import LifecycleState
from epochal._core.use.drain_wakeup import Ledger
from epochal._core.use.pause import Pause
from epochal.errors import EpochalError, StopTimeoutError, format_error
from epochal.report import StepName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.change.sequence import ChangeSpec
    from epochal._core.generation.epoch import Epoch, EpochStore
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Kind


class StopFirst:
    """The generations that one change stops first, and the way back to them.

    Args:
        change: the number of the change.
        plugins: what is stopped, dependents first.
        staging: of the change.
        epochs: what the changes of this runtime share.
        spec: what the change is to do.
        runner: runs plugin code.

    Attributes:
        retirement: of the old generations; None before they are stopped.
        pause_ms: milliseconds for which calls had to wait; None before the end of the pause.
        notes: lines for the error of a change that was refused.
        restarted: by plugin, the number of the generation that was started again.
    """

    __slots__ = (
        "_before",
        "_began",
        "_change",
        "_deadline",
        "_epochs",
        "_is_at_work",
        "_old",
        "_pause",
        "_registering",
        "_restarting",
        "_runner",
        "_spec",
        "_staging",
        "_states",
        "notes",
        "pause_ms",
        "restarted",
        "retirement",
    )

    def __init__(
        self,
        change: int,
        plugins: Sequence[str],
        staging: Staging,
        epochs: EpochStore,
        spec: ChangeSpec,
        runner: StepRunner,
    ) -> None:
        self._change: Final = change
        self._staging: Final = staging
        self._epochs: Final = epochs
        self._spec: Final = spec
        self._runner: Final = runner
        self._deadline: Final = Deadline(spec.limits.phase, is_cancellable=False)
        self._is_at_work = False  # plugin code that is given up was run from here
        # By plugin, dependents first.
        self._old: Final = {plugin: staging.old_generation(plugin) for plugin in plugins}
        self._registering: Final[list[Generation]] = []
        self._before: weakref.ref[Epoch] | None = None
        self._pause: Pause | None = None
        self._began = 0.0
        self._states: Final[dict[str, tuple[Any, str]]] = {}
        self._restarting: Staging | None = None
        self.retirement: Retirement | None = None
        self.pause_ms: float | None = None
        self.notes: Final[list[str]] = []
        self.restarted: Final[dict[str, int]] = {}

    @property
    def plugins(self) -> tuple[str, ...]:
        """What is stopped, dependents first."""
        return tuple(self._old)

    # --- forward -----------------------------------------------------------------------------

    def begin(self, step: Step) -> None:
        """Begin the pause: publish the same epoch, with stand-ins for what is stopped."""
        self._began = perf_counter()
        old = self._old
        self._before = weakref.ref(self._staging.old)
        self._pause = pause = Pause(partial(_admit, old))
        ledger = Ledger()  # of nothing: what is stopped has no lease in this epoch
        stand_ins = [
            LeasedGeneration(
                generation,
                ledger.issue("the pause of a change"),
                {
                    key: pause.stand_in(export.target, *key)
                    for key, export in generation.exports.items()
                },
            )
            for generation in old.values()
        ]
        epochs, staging = self._epochs, self._staging
        paused = staging.old.successor(old.values(), stand_ins, number=staging.old.number)
        epochs.publish(paused)
        # Nothing of the change may hold the epoch that was current: its leases must end.
        staging.old_epoch = paused
        for generation in old.values():
            if generation.registrations:
                self._runner.call_plugin(step, generation, generation.registrations.withdraw)

    def stop(self, step: Step) -> None:
        """Drain the old generations and shut them down.

        Raises:
            StopTimeoutError: they are in use for longer than a pause may last.
            ChangeCancelledError: the change was cancelled meanwhile.
        """
        limits = self._spec.limits
        limit_s = limits.drain if limits.pause is None else limits.pause
        for generation in self._old.values():
            generation.lifecycle.try_move(LifecycleState.ACTIVE, LifecycleState.DRAINING)
            self._epochs.announce(generation, LifecycleState.ACTIVE, LifecycleState.DRAINING)
        steps = [step for old in self._old.values() for step in retirement_steps(old)[:2]]
        self.retirement = retirement = Retirement(
            dict.fromkeys(self._old.values(), True),
            steps,
            self._runner,
            self._deadline,
            self._epochs.events,
            limit_s,
            before_shutdown=self._export_state,
        )
        self._runner.cancelled.add_done_callback(retirement.answer_early)
        self._is_at_work = True
        try:
            stopped = retirement.run()
        except Abandoned:
            raise  # another thread has the change: touch nothing
        except BaseException:
            self._is_at_work = False
            raise
        self._is_at_work = False
        if not stopped:
            self._runner.check_cancelled()
            left = [r for r in retirement.retiring if not r.drained]
            holders = [str(holder) for r in left for holder in r.holders]
            plugins = [r.generation.plugin for r in left]
            raise StopTimeoutError(plugins, limit_s or 0.0, holders)

    def _export_state(self, generation: Generation) -> None:
        """Keep what a generation exports as state, before its shutdown.

        Raises:
            IncompatibleError: for a `TypeError` or `ValueError` of its code.
            HandOverError: for any other exception.
        """
        if generation.entry_point("export_state") is None:
            return
        step = Step(StepName.STOP, deadline=self._deadline)
        state = self._runner.call_plugin(step, generation, partial(_export_state, generation))
        self._states[generation.plugin] = state, generation.version

    def import_state(self, generation: Generation, step: Step) -> None:
        """Hand the stopped generation's state to the one that takes its place, after its init."""
        if generation.plugin not in self._states:
            return
        if generation.entry_point("import_state") is None:
            generation.dropped.append(NO_IMPORT_STATE)
            return
        take_over = partial(_import_state, generation, *self._states[generation.plugin])
        self._runner.call_plugin(step, generation, take_over)

    def end(self, _: Epoch | None, epoch: Epoch) -> None:
        """The next epoch is current: the calls go on."""
        # Out of its slot: it has the epoch, and the objects of a change refer to one another.
        pause, self._pause = self._pause, None
        if pause is not None:
            self.pause_ms = (perf_counter() - self._began) * 1000.0
            pause.end(epoch)
        self._states.clear()

    # --- backward ----------------------------------------------------------------------------

    def give_up(self, error: BaseException) -> bool:
        """Note that plugin code did not return; returns False if it was not run from here."""
        if not self._is_at_work:
            return False
        if self.retirement is not None and self.retirement.is_leaving:
            self.retirement.give_up(error)
        else:
            self.notes.append(str(error))
        return True

    def go_back(self) -> None:
        """Serve the old versions again, those that were shut down as new generations.

        Called after everything that the change had staged was taken down. Run again after an
        abandoned call, it goes on with the next plugin.
        """
        self._is_at_work = True
        if self._pause is not None:
            if self.retirement is not None:
                self.retirement.finish_leaving()
            self._serve_again()
        while self._registering:
            generation = self._registering.pop()
            step = Step(StepName.REGISTER, generation.plugin, deadline=self._deadline)
            lines = self._runner.call_plugin(step, generation, generation.register_again)
            self.notes.extend(lines)
        self._is_at_work = False

    def _serve_again(self) -> None:
        again = self._restarting
        if again is None:
            again = self._restarting = Staging(self._change, self._epochs, self._runner)
            again.begin()
            before = self._before() if self._is_intact() and self._before is not None else None
            if before is not None:
                again.clear()
                self._publish(before)
                return
        for plugin in reversed(self._old):
            if plugin not in again.leased and plugin not in self.restarted:
                self.restarted[plugin] = -1  # begun; not tried again if it is abandoned
                self._bring_back(again, plugin)
        self._publish_again(again)

    def _is_intact(self) -> bool:
        return all(g.state is not LifecycleState.REMOVED for g in self._old.values())

    def _bring_back(self, again: Staging, plugin: str) -> None:
        generation = self._old[plugin]
        if generation.state is not LifecycleState.REMOVED:
            again.leased[plugin] = generation.carry_again()
            return
        step = Step(StepName.INIT, plugin, deadline=self._deadline)
        try:
            again.link(generation.candidate, step)
            again.init(plugin, step)
            self.import_state(again.new_generation(plugin), step)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001  noted in the error of the change
            self.notes.append(f"{plugin} could not be started again: {format_error(error)}")
            again.leased.pop(plugin, None)
        else:
            self.restarted[plugin] = again.new_generation(plugin).number

    def _publish_again(self, again: Staging) -> None:
        gone = [plugin for plugin in self._old if plugin not in again.leased]
        for plugin in gone:
            again.withdraw(plugin)
        again.generations[:] = [g for g in again.generations if g.plugin not in gone]
        asked = self._prepare(again)
        old = again.old
        number = old.number + 1 if gone else old.number
        epoch = old.successor(self._old.values(), again.leased.values(), number=number)
        if gone:
            self._record(again, epoch, gone)
        for generation in again.generations:
            generation.lifecycle.try_move(LifecycleState.INITIALIZED, LifecycleState.ACTIVE)
        restarted = [g for g in again.generations if g.plugin in self.restarted]
        again.clear()
        self._publish(epoch)
        del epoch, old
        for call in asked.finish(published=True):
            call()
        self._registering.extend(g for g in restarted if g.registrations)
        for generation in restarted:
            self.notes.append(f"{generation.plugin} was started again, as {generation}")
            self._epochs.announce(generation, LifecycleState.INITIALIZED, LifecycleState.ACTIVE)
        if again.retired:
            self._take_down(again.retired)

    def _prepare(self, again: Staging) -> Participants:
        """Have hosts prepare what was started again; what they refuse is noted."""
        asked = Participants(again, self._runner, self._deadline)
        if not again.generations:
            return asked
        again.next_epoch = again.old.successor(self._old.values(), again.leased.values())
        for host in self._spec.participants.live():
            try:
                for step in asked.check(host, Step(StepName.CHECK)):
                    step.do(step)
            except Abandoned:
                raise
            except Exception as error:  # noqa: BLE001  noted
                self.notes.append(f"a host refuses what was started again: {format_error(error)}")
        again.next_epoch = None
        return asked

    def _record(self, again: Staging, epoch: Epoch, gone: Sequence[str]) -> None:
        """Store that plugins are gone: after a crash they must not seem to be active."""
        if self._spec.journal is None:
            return
        added = tuple(AddedGeneration(g.number, g.candidate) for g in again.generations)
        reason = f"{self._spec.reason}: {', '.join(gone)} could not be started again"
        commit = Commit(
            self._change, reason, epoch.number - 1, epoch.number, epoch.id, added, self.plugins
        )
        try:
            self._spec.journal.commit(commit)
        except EpochalError as error:
            self.notes.append(f"this is not in the store: {error}")

    def _publish(self, epoch: Epoch) -> None:
        for generation in self._old.values():
            if generation.state is LifecycleState.DRAINING:
                generation.lifecycle.set(LifecycleState.ACTIVE)
                self._epochs.announce(generation, LifecycleState.DRAINING, LifecycleState.ACTIVE)
            if generation.is_active and generation.registrations:
                self._registering.append(generation)
        self._epochs.publish(epoch)
        self.end(None, epoch)
        self.notes.append(f"calls of {', '.join(self._old)} waited for {self.pause_ms:.0f} ms")

    def _take_down(self, retired: dict[Generation, bool]) -> None:
        steps = [step for generation in retired for step in retirement_steps(generation)]
        events, limit_s = self._epochs.events, self._spec.limits.drain
        Retirement(retired, steps, self._runner, self._deadline, events, limit_s).run()


def _export_state(generation: Generation) -> Any:
    function, plugin = generation.entry_point("export_state"), generation.plugin
    assert function is not None
    with translate_errors(f"{describe(None, plugin)} could not be exported", plugin):
        return export_state(function)


def _import_state(generation: Generation, state: Any, version: str) -> None:
    function, plugin = generation.entry_point("import_state"), generation.plugin
    assert function is not None
    failure = f"{describe(None, plugin)} could not be handed over"
    with translate_errors(failure, plugin), generation.taking_over():
        import_state(function, state, version)


def _admit(old: dict[str, Generation], kind: Kind[Any], name: str) -> Any:
    """The old generation's export, for a call that comes from inside the code that drains."""
    globals_ids = frozenset[int]().union(*(g.globals_ids() for g in old.values()))
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  the stack has no other name
    while frame is not None and id(frame.f_globals) not in globals_ids:
        frame = frame.f_back
    generation = old.get(name.partition(".")[0])
    return None if frame is None or generation is None else generation.carried_export((kind, name))
