"""The machine that runs a change: stage, publish, retire; or go back.

A change is a transaction over the set of plugins. It runs on a thread of its own, start to end, and
the caller waits for its answer. That is what makes the awkward cases plain: Ctrl-C and a cancelled
task interrupt the wait, not the change; a drain that outlasts its limit answers the caller and goes
on, in the same thread; threads and event loops use one and the same machine.

1. Wait for its turn (changes of one runtime run one after another).
2. Read artifacts and manifests, plan. No plugin code has run.
3. Stage, dependencies first: link, compare with the old exports, init. Nothing that serves is
    touched.
4. Hand over what the old generations keep: close the gates of all of it together, wait for the
    calls inside, then move it. From here to 6 calls may have to wait.
5. Commit: build the next epoch, and have the journal keep it, if there is one.
6. Publish: one reference store. It cannot fail: what could was done before, and the old epoch is
   kept until afterwards, since its last reference may run foreign finalizers. Should the process
   die between 5 and 6, the next start publishes what the journal has.
7. Give the turn back, retire the old generations.

Anything that raises in 1 to 5 retires what was staged, newest first, and is the caller's answer.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from epochal._core.change.journal import AddedGeneration, Commit, Refusal
from epochal._core.change.plan import Plan, plan_change
from epochal._core.change.plugin_calls import Abandoned
from epochal._core.change.retirement import Retirement, RetiringGeneration
from epochal._core.change.staging import Staging
from epochal._core.change.state_transfer import StateTransfer, StateTransfers
from epochal._core.generation.states import LifecycleState
from epochal._core.introspect.tracebacks import format_error, without_machinery, without_variables
from epochal.errors import EpochalError, IncompatibleError, PauseTimeoutError, WelcomeError
from epochal.events import (
    ChangeCommitted,
    ChangeFailed,
    ChangeFinished,
    ChangeStarted,
    StateDropped,
)
from epochal.report import Cutover, Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal._core.change.participant import Participant
    from epochal._core.change.plan import PlannedChange
    from epochal._core.change.plugin_calls import Phases
    from epochal._core.change.staging import Site
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a change waits, and for whom.

    Attributes:
        drain: seconds after which the caller is answered although old generations are in use.
        phase: seconds that plugin code may take for one phase.
        pause: seconds that a plugin may take to hand over what it keeps.
        cancel_holders: ask who is in the way to stop when a drain has outlasted its limit.
    """

    drain: float | None
    phase: float | None
    pause: float | None
    cancel_holders: bool = False


class ChangeRun:
    """One change, running.

    Args:
        number: of the change, for reports.
        site: what it works on.
        wishes: reads what is asked for, given the current epoch; may raise.
        phases: runs plugin code.
        limits: how long it waits.
        dry_run: stop before the commit and go back.
        reason: a label for the journal.

    Attributes:
        answer: the caller's answer: the report, or the error after everything was undone.
    """

    def __init__(
        self,
        number: int,
        site: Site,
        wishes: Callable[[Epoch], Sequence[PlannedChange]],
        phases: Phases,
        limits: Limits,
        *,
        dry_run: bool,
        reason: str = "",
    ) -> None:
        self.answer: Final[Future[Cutover]] = Future()
        # Running from the start: a cancelled task must not cancel the answer, but ask for it.
        self.answer.set_running_or_notify_cancel()
        self._cancelled: Final[Future[None]] = Future()
        self._number: Final = number
        self._site: Final = site
        self._wishes: Final = wishes
        self._phases: Final = phases
        self._limits: Final = limits
        self._dry_run: Final = dry_run
        self._reason: Final = reason
        # Queued here, in the caller's thread, so that changes run in the order of the calls.
        self._ticket: Final = site.turn.acquire()
        self._started: Final = perf_counter()
        # All below belong to the thread that has the change. Leases and epochs stand in these two,
        # and in no local variable of a frame that plugin code runs under: see `Staging`.
        self._stage: Final = Staging(site, phases)
        self._next: Epoch | None = None
        self._retired: Final[list[Generation]] = []  # those that it retires, dependents first
        self._met: Final[list[Participant]] = []
        self._moving: Final = StateTransfers()
        self._pauses: Mapping[str, float] = {}
        self._steps: tuple[str, ...] = ()
        self._swaps: tuple[Swap, ...] = ()
        self._epochs = (0, 0)

    def run(self) -> None:
        """Do it all; the change's thread runs this."""
        try:
            self._phases.timed("wait", self._await_turn)
            self._prepare()
            if self._dry_run:
                self._roll_back(None)
            else:
                retired = self._publish(self._commit())
                self._retire(retired, self._settle_parties(published=True))
        except Abandoned:
            pass  # another thread has the change
        except BaseException as error:  # noqa: BLE001  it is the caller's answer, whatever it is
            self._fail(error)
        finally:
            del self  # frames of an error that is kept lead to this one: see `blame`

    def cancel(self) -> None:
        """Give up: roll back if nothing is published yet, answer at once if it is. Any thread."""
        with suppress(InvalidStateError):
            self._cancelled.set_result(None)
        self._phases.cancel()

    # --- staging -----------------------------------------------------------------------------

    def _await_turn(self) -> None:
        wait({self._ticket, self._cancelled}, return_when=FIRST_COMPLETED)
        self._phases.check_cancelled()

    def _prepare(self) -> None:
        """All that can fail."""
        self._stage.base = self._site.read()
        self._epochs = (self._stage.base.number, self._stage.base.number)
        plan = self._plan(self._stage.base)
        for candidate in plan.stage:
            self._stage.bring_up(candidate, self._fail)
            # Before the next one's init: what that calls of this one goes where the state is.
            self._phases.call_plugin("hand over", candidate.plugin, self._plan_move, self._fail)
        self._swaps = tuple(self._planned_swaps(plan))
        self._stage.check_together(plan.retire)
        self._phases.check_cancelled()
        self._build()
        self._meet_parties()
        if self._moving:
            self._hand_over()

    def _plan(self, base: Epoch) -> Plan:
        # No closure has the epoch: an emptied frame still holds its function, and that its cells.
        wishes = self._phases.timed("read", partial(self._wishes, base))
        plan = self._phases.timed("plan", partial(plan_change, base, wishes))
        self._steps = tuple(str(step) for step in plan.steps)
        self._site.events.emit(ChangeStarted(change=self._number, steps=self._steps))
        return plan

    def _build(self) -> None:
        """Make the epoch that would be published; nothing here can fail."""
        base = self._stage.base
        assert base is not None
        swaps = reversed(self._swaps)
        self._retired.extend(base.generations[s.plugin] for s in swaps if s.old is not None)
        self._next = base.successor(self._retired, self._stage.staged.values())

    def _meet_parties(self) -> None:
        for party in self._site.parties.live():
            self._met.append(party)
            for generation in self._phases.timed("check", partial(self._ask, party)):
                self._phases.call_plugin(
                    "welcome",
                    str(generation),
                    partial(_welcome, party, generation),
                    take_over=self._fail,
                )

    def _ask(self, party: Participant) -> Sequence[Generation]:
        """Have a party look at the next epoch, of which its error must keep nothing."""
        assert self._next is not None
        try:
            return party.check(self._next, tuple(self._stage.begun))
        except EpochalError as error:
            raise error.with_traceback(None) from None  # its frames hold the epoch
        except Exception as error:  # noqa: BLE001  a host's own, whatever it is
            told = f"a host of this runtime refuses the change: {format_error(error)}"
            raise IncompatibleError(told) from without_variables(error)

    def _settle_parties(self, *, published: bool) -> list[Callable[[], object]]:
        calls = [call for party in self._met for call in party.settle(published=published)]
        self._met.clear()
        return calls

    def _plan_move(self) -> None:
        assert self._stage.base is not None
        new = self._stage.begun[-1]
        old = self._stage.base.generations.get(new.plugin)
        if old is not None:
            self._moving.add(StateTransfer(new.plugin, new.handovers(old), new.taking_over))

    def _hand_over(self) -> None:
        """Move everything, under one limit for all of it."""
        started = perf_counter()
        self._phases.timed("hand over", self._close_gates)
        for move in self._moving.moves:
            self._phases.call_plugin(
                "hand over",
                str(self._stage.staged[move.plugin].generation),
                move.run,
                self._fail,
                timeout=self._limits.pause,
                spent=perf_counter() - started,
            )
        limit = self._limits.pause
        if limit is not None and perf_counter() - started > limit:
            raise PauseTimeoutError(self._moving.plugins, limit, ())

    def _close_gates(self) -> None:
        limit, closing = self._limits.pause, self._moving.begin()
        self._cancelled.add_done_callback(lambda _: closing.give_up())
        if not closing.close(limit):
            self._phases.check_cancelled()
            assert self._stage.base is not None
            old = [self._stage.base.generations[plugin] for plugin in self._moving.plugins]
            inside = [one for generation in old for one in generation.stragglers()]
            raise PauseTimeoutError(self._moving.plugins, limit or 0.0, inside)

    # --- publishing --------------------------------------------------------------------------

    def _commit(self) -> list[Generation]:
        """Have the next epoch kept: the last of what can fail.

        Returns:
            The generations that it retires.
        """
        if self._site.journal is not None:
            self._phases.timed("journal", self._journal)
        return self._retired.copy()

    def _journal(self) -> None:
        assert self._next is not None
        assert self._site.journal is not None
        before, after = self._epochs[0], self._next.number
        brought = tuple(AddedGeneration(g.number, g.candidate) for g in self._stage.begun)
        gone = tuple(generation.plugin for generation in self._retired)
        self._site.journal.commit(
            Commit(self._number, self._reason, before, after, self._next.id, brought, gone)
        )

    def _publish(self, retired: list[Generation]) -> list[Generation]:
        started = perf_counter()
        base, epoch = self._stage.base, self._next
        assert base is not None
        assert epoch is not None
        # No foreign code, one store that readers see. The old epoch lives on in `base` meanwhile,
        # since what dies with it may have finalizers.
        for generation in self._stage.begun:
            generation.lifecycle.try_move(LifecycleState.INITIALIZED, LifecycleState.ACTIVE)
        self._site.publish(epoch)
        for generation in retired:
            generation.lifecycle.try_move(LifecycleState.ACTIVE, LifecycleState.DRAINING)
        self._end_pauses(base, epoch)
        staged = self._stage.begun.copy()
        # Published. The epoch holds what was staged; the change must not.
        self._stage.clear()
        self._next = None
        self._retired.clear()
        self._epochs = (base.number, epoch.number)
        self._phases.ms["publish"] = (perf_counter() - started) * 1000.0
        self._tell_commit(staged, retired)
        return retired

    def _end_pauses(self, base: Epoch, epoch: Epoch) -> None:
        """Let whoever waited for a hand-over go on, with what the new epoch offers."""
        failures, self._pauses = self._moving.commit(epoch)
        for plugin, lines in failures.items():
            base.generations[plugin].failures.extend(lines)

    def _retire(
        self, retired: list[Generation], told_after: Sequence[Callable[[], object]]
    ) -> None:
        self._give_turn_back()
        for call in told_after:
            try:
                call()
            except Exception as error:  # noqa: BLE001  the caller's answer
                self._fail_late(error)
        retirement = Retirement(
            retired,
            self._phases,
            self._site.events,
            self._limits.drain,
            on_timeout=lambda: self._answer(self._report(retirement.leavers)),
            on_end=lambda: self._finish(retirement.leavers),
            cancel_holders=self._limits.cancel_holders,
        )
        self._cancelled.add_done_callback(lambda _: retirement.wake.put(None))
        try:
            retirement.run()
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001  our own fault, and the caller must not wait
            self._fail_late(error)

    def _fail_late(self, error: BaseException) -> None:
        error.add_note(f"the change is committed: epoch {self._epochs[1]} is current")
        self._answer_failure(error)

    def _finish(self, leavers: Sequence[RetiringGeneration]) -> None:
        cutover = self._report(leavers)
        # Before the answer: who has it may end a subscription, which gets what came before.
        self._site.events.emit(ChangeFinished(change=self._number, cutover=cutover))
        self._answer(cutover)

    # --- going back --------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """Undo everything and answer with the error; also where another thread takes over."""
        try:
            self._roll_back(error)
        except Abandoned:
            pass  # another thread goes on with the rollback
        except BaseException as worse:  # noqa: BLE001  our own fault, and the caller must not wait
            worse.add_note(f"while rolling back after {format_error(error)}")
            self._answer_failure(worse)

    def _roll_back(self, error: BaseException | None) -> None:
        """Let the old generations go on, and take down what was staged, newest first."""
        failures = self._moving.roll_back()
        self._settle_parties(published=False)
        for line in failures:
            if error is not None:
                error.add_note(line)
        begun = list(reversed(self._stage.begun))
        numbers = {generation.plugin: generation.number for generation in begun}

        def answer() -> None:
            if error is None:
                self._give_turn_back()
                self._answer(self._report(()))
            else:
                self._note(error, retirement.leavers, numbers)
                self._answer_failure(error)

        retirement = Retirement(
            begun,
            self._phases,
            self._site.events,
            self._limits.drain,
            on_timeout=answer,
            on_end=answer,
            is_rollback=True,
        )
        for generation in begun:
            state = generation.state
            generation.lifecycle.set(LifecycleState.DRAINING)
            self._site.tell(generation, state, LifecycleState.DRAINING)
        self._stage.clear()
        self._next = None
        self._retired.clear()
        retirement.run()

    def _note(
        self,
        error: BaseException,
        leavers: Sequence[RetiringGeneration],
        numbers: Mapping[str, int],
    ) -> None:
        """Add to the error what failed on the way back, and have the refusal noted."""
        if self.answer.done():
            return
        for leaver in leavers:
            for line in (*leaver.failures, *leaver.holders):
                error.add_note(f"while rolling back {leaver.generation}: {line}")
        if self._site.journal is None or self._dry_run:
            return
        code, text = _code(error), _text(error)
        refusal = Refusal(self._number, self._reason, self._epochs[0], code, text, numbers)
        try:
            self._site.journal.refuse(refusal)
        except EpochalError as worse:
            error.add_note(f"this refusal is not in the audit log: {worse}")

    def _answer_failure(self, error: BaseException) -> None:
        """Answer with the error, once."""
        if self.answer.done():
            return
        self._give_turn_back()
        self._site.events.emit(
            ChangeFailed(change=self._number, code=_code(error), error=_text(error))
        )
        self.answer.set_exception(without_machinery(error))

    def _give_turn_back(self) -> None:
        self._site.turn.release(self._ticket)

    # --- telling -----------------------------------------------------------------------------

    def _tell_commit(self, staged: Sequence[Generation], retired: Sequence[Generation]) -> None:
        before, after = self._epochs
        for generation in staged:
            self._site.tell(generation, LifecycleState.INITIALIZED, LifecycleState.ACTIVE)
            if generation.dropped:
                self._site.events.emit(
                    StateDropped(
                        plugin=generation.plugin,
                        generation=generation.number,
                        dropped=tuple(generation.dropped),
                    )
                )
        for generation in retired:
            self._site.tell(generation, LifecycleState.ACTIVE, LifecycleState.DRAINING)
        self._site.events.emit(
            ChangeCommitted(
                change=self._number,
                epoch_before=before,
                epoch_after=after,
                plugins=tuple(swap.plugin for swap in self._swaps),
            )
        )

    def _planned_swaps(self, plan: Plan) -> list[Swap]:
        assert self._stage.base is not None
        new = {g.plugin: g for g in self._stage.begun}
        old = {p: self._stage.base.generations[p].described for p in plan.retire}
        # Dependencies first, as they came up; what only goes is put in by the reverse of its order.
        up = [p for p in reversed(plan.retire) if p not in new]
        return [
            *(Swap(p, old.get(p), g.described, dropped=tuple(g.dropped)) for p, g in new.items()),
            *(Swap(p, old[p], None) for p in up),
        ]

    def _answer(self, cutover: Cutover) -> None:
        """Give the caller the report, if it is the first one."""
        if not self.answer.done():
            self.answer.set_result(cutover)

    def _report(self, leavers: Sequence[RetiringGeneration]) -> Cutover:
        """Make the report as things stand."""
        by_plugin = {leaver.generation.plugin: leaver for leaver in leavers}
        return Cutover(
            change=self._number,
            published=not self._dry_run,
            epoch_before=self._epochs[0],
            epoch_after=self._epochs[1],
            swaps=tuple(
                _outcome(
                    replace(swap, pause_ms=self._pauses.get(swap.plugin)),
                    by_plugin.get(swap.plugin),
                )
                for swap in self._swaps
            ),
            steps=self._steps,
            phases_ms=dict(self._phases.ms),
            total_ms=(perf_counter() - self._started) * 1000.0,
        )


def _welcome(party: Participant, generation: Generation) -> None:
    """Have a party meet a newcomer; what that leaves in the process is the newcomer's own."""
    try:
        with generation.taking_over():
            party.welcome(generation)
    except EpochalError:
        raise
    except BaseException as error:
        raise WelcomeError(
            f"plugin {generation.plugin!r} raised {format_error(error)} as a host met it",
            plugin=generation.plugin,
        ) from error


def _outcome(swap: Swap, leaver: RetiringGeneration | None) -> Swap:
    if leaver is None:
        return swap
    return replace(
        swap,
        drained=leaver.drained,
        reclaimed=leaver.reclaim is not None and not leaver.leaks,
        wakeup_us=leaver.wakeup_us,
        holders=leaver.holders,
        leaks=leaver.leaks,
        failures=leaver.failures,
        cleaned_up=leaver.cleaned_up,
    )


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, EpochalError) else "internal"


def _text(error: BaseException) -> str:
    """What an event says of an error: our own say it all themselves."""
    return str(error) if isinstance(error, EpochalError) else format_error(error)
