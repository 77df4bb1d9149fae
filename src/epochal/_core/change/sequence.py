"""The sequence of a change: its plan, made to run.

Which steps there are, and in which order, is the plan's (`plan`). Here each of them gets what it
does, how that is undone, and its deadline; nothing here decides what comes next. The first three
steps come before the plan, and the third adds the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from epochal._core.change.journal import AddedGeneration, Commit
from epochal._core.change.participant import Participants, name_of
from epochal._core.change.plan import (
    COMMITS,
    STAYS_ASIDE,
    Deadline,
    Plan,
    Step,
    plan_change,
)
from epochal._core.change.staging import Staging
from epochal._core.change.state_transfer import StateTransfers
from epochal._core.change.stop_first import StopFirst
from epochal._core.sync.completion import wait_any
from epochal.events import ChangeStarted
from epochal.report import StepName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from epochal._core.change.journal import Journal
    from epochal._core.change.participant import Participant
    from epochal._core.change.plan import PlannedChange
    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.generation.epoch import Epoch, EpochStore
    from epochal._core.sync.fifo_lock import Ticket
    from epochal._core.sync.weak_registry import WeakRegistry


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a change waits, and for what.

    Attributes:
        drain: seconds after which the caller is answered although old generations are in use.
        phase: seconds that plugin code may take for one step.
        pause: seconds that plugins may take together to hand over their state.
        cancel_holders: ask those who use the old generations to stop when a drain has outlasted its
            limit.
        interrupts: stop the calls of old generations that can be stopped for certain, then.
    """

    drain: float | None
    phase: float | None
    pause: float | None
    cancel_holders: bool = False
    interrupts: bool = False


@dataclass(frozen=True, slots=True)
class ChangeSpec:
    """What one change is to do, and how.

    Attributes:
        read: reads what is asked for, given the current epoch; may raise.
        limits: how long it waits.
        participants: the hosts that take part.
        journal: stores each epoch before it is published; None for no durable record.
        dry_run: stop before the commit and go back.
        holds: stop before any state moves, and hold what is staged until it is dropped (`Stage`).
        base: returns the epoch to start from, given the current one; None for the current one. A
            change that publishes starts from that.
        preparation: takes part after the hosts, in this change alone; None for nobody.
        reason: a label for the journal.
        caller: of the events of the change.
    """

    read: Callable[[Epoch], Sequence[PlannedChange]]
    limits: Limits
    participants: WeakRegistry[Participant]
    journal: Journal | None = None
    dry_run: bool = False
    reason: str = ""
    caller: object = None
    holds: bool = False
    base: Callable[[Epoch], Epoch] | None = None
    preparation: Participant | None = None

    def hosts(self) -> list[Participant]:
        """Who takes part now, in the order in which they are asked."""
        hosts = self.participants.live()
        return hosts if self.preparation is None else [*hosts, self.preparation]

    @property
    def stops_before(self) -> frozenset[StepName]:
        """The steps that it goes back before; none for a change that publishes."""
        if self.holds:
            return STAYS_ASIDE
        return COMMITS if self.dry_run else frozenset()


class ChangeSequence:
    """Makes the steps of one change, and has what they work on.

    Belongs to the thread that has the change.

    Args:
        number: of the change, for reports.
        epochs: what the changes of this runtime share.
        spec: what it is to do.
        runner: runs plugin code.

    Attributes:
        staging: the generations and the epoch that it brings up.
        stop_first: the generations that it stops before that; None if it stops none.
    """

    def __init__(
        self, number: int, epochs: EpochStore, spec: ChangeSpec, runner: StepRunner
    ) -> None:
        self._number: Final = number
        self._epochs: Final = epochs
        self._spec: Final = spec
        self._runner: Final = runner
        self._phase: Final = Deadline(spec.limits.phase)
        self._asked: Sequence[PlannedChange] = ()
        self.staging: Final = Staging(number, epochs, runner, spec.reason)
        self.stop_first: StopFirst | None = None

    @cached_property
    def transfers(self) -> StateTransfers:
        """The state that is handed over; made where some may be."""
        return StateTransfers(self.staging, self._runner, self._spec.limits.pause)

    @cached_property
    def participants(self) -> Participants:
        """The hosts that are asked; made where there are some."""
        return Participants(self.staging, self._runner, self._phase)

    def finish(self) -> list[Callable[[], object]]:
        """Report the publication to the hosts that were asked; returns what is to be called."""
        asked = "participants" in self.__dict__
        return self.participants.finish(published=True) if asked else []

    @property
    def pauses_ms(self) -> Mapping[str, float]:
        """By plugin, how long calls may have had to wait for its state."""
        if self.stop_first is not None and self.stop_first.pause_ms is not None:
            return dict.fromkeys(self.stop_first.plugins, self.stop_first.pause_ms)
        return self.transfers.pauses_ms if "transfers" in self.__dict__ else {}

    def begin(self, ticket: Ticket) -> list[Step]:
        """The steps that come before the plan.

        Args:
            ticket: of its turn.
        """
        return [
            Step(StepName.WAIT, detail="for its turn", do=partial(self._wait, ticket)),
            Step(StepName.READ, detail="what is asked for", do=self._read),
            Step(StepName.PLAN, detail="the other steps", do=self._plan),
        ]

    def _wait(self, ticket: Ticket, _: Step) -> None:
        wait_any((ticket, self._runner.cancelled))
        self._runner.check_cancelled()

    def _read(self, _: Step) -> None:
        self.staging.begin(self._spec.base)
        # No closure and no local variable has the epoch: clearing a frame does not clear its
        # function's cells, so the traceback of an error would keep the epoch alive.
        self._asked = self._spec.read(self.staging.old)

    def _plan(self, _: Step) -> list[Step]:
        hosts = self._spec.hosts()
        plan = plan_change(
            self.staging.old,
            self._asked,
            [name_of(host) for host in hosts],
            journal=self._spec.journal is not None,
        )
        self.staging.take_over(plan.retire)
        steps = list(self._bound(plan, hosts))
        lines = tuple(str(step) for step in steps if step.is_needed())
        self._epochs.events.emit(ChangeStarted(change=self._number, steps=lines))
        return steps

    def _bound(self, plan: Plan, hosts: Sequence[Participant]) -> Iterator[Step]:
        """The steps of a plan, made to run."""
        candidates = {candidate.plugin: candidate for candidate in plan.stage}
        unchecked = iter(hosts)
        staging, phase = self.staging, self._phase
        stopping = self._stopping(plan)
        for step in plan.steps:
            plugin = step.plugin
            match step.name:
                case StepName.PAUSE:
                    assert stopping is not None
                    yield replace(step, do=stopping.begin, deadline=phase)
                case StepName.STOP:
                    assert stopping is not None
                    yield replace(step, do=stopping.stop)
                case StepName.LINK:
                    yield replace(
                        step,
                        do=partial(staging.link, candidates[plugin]),
                        undo=partial(staging.withdraw, plugin),
                        deadline=phase,
                    )
                case StepName.COMPARE:
                    yield replace(step, do=partial(staging.compare, plugin), deadline=phase)
                case StepName.INIT:
                    yield replace(step, do=partial(self._init, plugin), deadline=phase)
                case StepName.MATCH:
                    yield replace(step, do=partial(self.transfers.match, plugin), deadline=phase)
                case StepName.VALIDATE:
                    yield replace(
                        step,
                        do=partial(staging.validate, plan.retire),
                        is_needed=lambda: bool(staging.global_kinds),
                    )
                case StepName.BUILD:
                    yield replace(step, do=partial(self._build, plan, hosts))
                case StepName.CHECK:
                    yield self._check(step, next(unchecked))
                case StepName.CLOSE:
                    yield replace(
                        step,
                        do=self.transfers.close_gates,
                        undo=self.transfers.open_gates,
                        is_needed=self.transfers.may_move,
                    )
                case StepName.HAND_OVER:
                    transfers = self.transfers
                    yield replace(
                        step,
                        do=partial(transfers.hand_over, plugin),
                        undo=partial(transfers.take_back, plugin),
                        deadline=transfers.deadline,
                        is_needed=partial(transfers.may_move, plugin),
                    )
                case StepName.JOURNAL:
                    yield replace(step, do=partial(self._store, plan.retire))
                case StepName.PUBLISH:
                    moves = any(step.name is StepName.CLOSE for step in plan.steps)
                    commit: Callable[[Epoch, Epoch], None] | None = None
                    if stopping is not None:
                        commit = stopping.end
                    elif moves:
                        commit = self.transfers.commit
                    yield replace(step, do=partial(self._publish, plan, commit))
                case _:
                    yield step  # a generation's way out: `retirement` makes it run

    def _stopping(self, plan: Plan) -> StopFirst | None:
        if plan.stops_first:
            self.stop_first = StopFirst(
                self._number, plan.retire, self.staging, self._epochs, self._spec, self._runner
            )
        return self.stop_first

    def _init(self, plugin: str, step: Step) -> None:
        self.staging.init(plugin, step)
        if self.stop_first is not None:
            self.stop_first.import_state(self.staging.new_generation(plugin), step)

    def _build(self, plan: Plan, planned: Sequence[Participant], step: Step) -> list[Step]:
        """Build the epoch; returns the checks of hosts that have joined since the plan."""
        self.staging.build(plan)
        return [
            self._check(replace(step, name=StepName.CHECK), host)
            for host in self._spec.hosts()
            if all(host is not other for other in planned)
        ]

    def _check(self, step: Step, host: Participant) -> Step:
        return replace(
            step, do=partial(self.participants.check, host), undo=self.participants.roll_back
        )

    def _publish(
        self, plan: Plan, commit: Callable[[Epoch, Epoch], None] | None, step: Step
    ) -> list[Step]:
        """Publish; returns the step that alters the host's tables, if there are entries in them."""
        staging = self.staging
        # What was stopped first has left already.
        staging.publish(() if plan.stops_first else plan.retire, commit, step)
        if not staging.registers:
            return []
        # The change is published, and cannot be given up any more.
        deadline = Deadline(self._phase.limit_s, is_cancellable=False)
        detail = "entries in the host's tables"
        name = StepName.REGISTER
        return [Step(name, detail=detail, do=staging.register, deadline=deadline)]

    def _store(self, retire: Sequence[str], _: Step) -> None:
        """Store the next epoch: the last step that can fail."""
        journal, staging = self._spec.journal, self.staging
        assert journal is not None
        before, _after = staging.numbers
        added = tuple(AddedGeneration(g.number, g.candidate) for g in staging.generations)
        journal.commit(
            Commit(
                self._number,
                self._spec.reason,
                before,
                staging.built.number,
                staging.built.id,
                added,
                tuple(retire),
            )
        )
