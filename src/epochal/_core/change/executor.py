"""The machine that runs a change: its steps forward, or backward if one of them fails.

A change is a transaction over the set of plugins. It runs on a thread of its own, start to end, and
the caller waits for its answer. That makes the awkward cases plain: Ctrl-C and a cancelled task
interrupt the wait, not the change; a drain that outlasts its limit answers the caller and goes on,
in the same thread; threads and event loops use one and the same machine.

The steps (`plan`, `sequence`) are run in order. Up to the commit each of them can fail. Then what
ran is undone backward, the generations that were staged are retired like any others (`retirement`),
newest first, and the error is the caller's answer. A dry run stops before the commit and goes the
same way back. A stage (`stage`) stops there, too, answers, and goes back once it is dropped, on
another thread. Publishing is one reference store that cannot fail: everything that could was done
before. Should our own code fail all the same (there is no memory, another thread raises an
exception in this one), the change goes on from its attributes, once: backward, or if it is
published, with the retirement; and the failure is the caller's answer. Should the process die
between the journal's step and publishing, the next start publishes the epoch that the journal has
(E8).

Threads
-------

All state is in attributes and belongs to the thread that has the change: the change's own, until
plugin code under it does not return; then the one that `resume` runs on, and so on. ``answer`` is
set once, by that thread, and read by the caller. `cancel` may be called from any thread.

Making an executor acquires nothing, and its owner can always give back what it acquires later:
`queue` and the start of the thread may be interrupted at any instant, even where it is not known
whether there is a thread. Then `withdraw` and that thread (`ChangeThread`) race for one entry,
``_owner``, which is set in one step. Either the change was taken back and its thread, if there is
one, touches nothing; or it runs, and the caller is to `cancel` it and wait for its answer. A thread
that dies before it runs the change, for want of memory, gives it back as well. Taking it back may
be interrupted, too: so it can be repeated, and is when the last object that could begin it dies.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from time import perf_counter
from typing import TYPE_CHECKING, Final

from epochal._core.change.journal import RefusedChange
from epochal._core.change.plan import COMMITS, RETIRES, Deadline, retirement_steps
from epochal._core.change.plugin_calls import Abandoned
from epochal._core.change.retirement import Retirement
from epochal._core.change.sequence import ChangeSequence
from epochal._core.introspect.tracebacks import without_machinery
from epochal._core.sync.completion import Completion
from epochal._core.sync.fifo_lock import Ticket
from epochal._core.sync.threads import start_thread
from epochal.errors import (
    ChangeCancelledError,
    EpochalError,
    IncompatibleError,
    NoThreadError,
    format_error,
)
from epochal.events import ChangeFailed, ChangeFinished
from epochal.report import Cutover

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.change.plan import Step
    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.change.sequence import ChangeSpec
    from epochal._core.change.stop_first import StopFirst
    from epochal._core.generation.epoch import Epoch, EpochStore


class _Owner(Enum):
    THREAD = auto()
    NOBODY = auto()
    """It was taken back."""


class ChangeThread:
    """The reference that a change's thread has to it.

    Args:
        executor: the change.
        name: of the thread.
    """

    __slots__ = ("_executor", "_name")

    def __init__(self, executor: Executor, name: str) -> None:
        self._executor: Final = executor
        self._name: Final = name

    def run(self) -> None:
        """Run the change, unless it was taken back."""
        try:
            self._executor.start()
        finally:
            del self  # as in `Executor.run`

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if not (self._executor.ended.done() or is_exiting()):
            # Where the thread was not started, the caller has an error of its own.
            self._executor.withdraw(NoThreadError(self._name, "it ended before it began"))


class Executor:
    """One change.

    Args:
        number: of the change, for reports.
        epochs: what the changes of this runtime share.
        spec: what it is to do.
        runner: runs its steps.

    Attributes:
        answer: the caller's answer: the report, or the error after everything was undone.
        ended: done once nothing of the change runs any more.
    """

    def __init__(
        self, number: int, epochs: EpochStore, spec: ChangeSpec, runner: StepRunner
    ) -> None:
        self.answer: Final[Completion[Cutover]] = Completion()
        self.ended: Final[Completion[None]] = Completion()
        self._number: Final = number
        self._epochs: Final = epochs
        self._spec: Final = spec
        self._runner: Final = runner
        self._owner: Final[dict[None, _Owner]] = {}  # its one entry is set once
        self._ticket: Final = Ticket()
        self._started: Final = perf_counter()
        self._change: Final = ChangeSequence(number, epochs, spec, runner)
        self._steps: Final = self._change.begin(self._ticket)
        self._at = 0  # of the step that runs
        self._lines: tuple[str, ...] = ()
        self._retirement: Retirement | None = None
        self._error: BaseException | None = None  # that the change is rolled back for
        self._fault: BaseException | None = None  # our own
        self._undone: Step | None = None  # the last one that was tried
        # Written by `drop` before its thread starts, which alone goes on with what is held.
        self._is_dropped = False
        runner.machine = self

    # --- the beginning, in the caller's thread -----------------------------------------------

    def queue(self) -> None:
        """Queue up for the turn: in the caller's thread, so in the order of the calls."""
        self._epochs.turn.acquire(self._ticket)

    def start(self) -> None:
        """Run all of it, unless it was taken back; on the change's thread."""
        try:
            if self._owner.setdefault(None, _Owner.THREAD) is _Owner.THREAD:
                self.run()
        except BaseException as error:  # noqa: BLE001  our own fault, between two instructions
            self._end(error)
        finally:
            del self  # as in `run`

    def withdraw(self, error: BaseException | None = None) -> bool:
        """Take the change back before its thread begins. Idempotent, also if it was interrupted.

        Args:
            error: the answer, for a caller that waits for one.

        Returns:
            False if that was too late: it runs, or has run.
        """
        if self._owner.setdefault(None, _Owner.NOBODY) is _Owner.THREAD:
            return False
        self._runner.cancel()
        self._end(error)
        return True

    @property
    def is_withdrawn(self) -> bool:
        """Whether it was taken back; that may have been interrupted."""
        return self._owner.get(None) is _Owner.NOBODY

    @property
    def forbid_commit(self) -> Callable[[], object]:
        """A call that gives the change up, unless it commits; in one step of C code."""
        return self._runner.forbid_commit

    @property
    def commits(self) -> bool:
        """Whether it is too late to give it up, and it has not failed all the same."""
        is_refused = self.answer.done() and not self._change.staging.is_published
        return self._runner.commits and not is_refused

    @property
    def published(self) -> int | None:
        """The number of the epoch that it published; None before that."""
        staging = self._change.staging
        return staging.numbers[1] if staging.is_published else None

    # --- on the change's thread --------------------------------------------------------------

    def run(self) -> None:
        """Run all of it, or go on with it; the thread that has the change calls this."""
        try:
            if self._run():
                self._end()
        except Abandoned:
            return  # another thread has the change: touch nothing
        except BaseException as error:  # noqa: BLE001  our own fault, and the caller must not wait
            self._end(error)
        finally:
            del self  # frames of an error that is kept lead to this one: see `tracebacks`

    def _run(self) -> bool:
        """Go on; returns False where the change is held, and another thread may have it."""
        try:
            return self._go_on()
        except Abandoned:
            raise
        except BaseException as error:
            if self._fault is not None:
                self._fail(self._fault)
                raise
            self._fault = without_machinery(error)
            return self._run()
        finally:
            del self  # as above

    def _go_on(self) -> bool:
        try:
            if self._retirement is None and self._goes_forward:
                self._forward()
            if self._retirement is None and self._change.staging.is_published:
                self._commit()
            elif self._retirement is None:
                if self._stays():
                    self._hold()
                    return False
                self._backward()
            if self._change.staging.is_published:
                self._release_turn()
            # The leases of what was staged end here: a retirement on the way back waits for them.
            self._change.staging.clear()
            self._retire()
            return True
        finally:
            del self  # as above

    @property
    def _goes_forward(self) -> bool:
        # What is published cannot be undone, only done to its end.
        return self._change.staging.is_published or self._error is self._fault is None

    def resume(self, error: BaseException) -> None:
        """Go on, on a new thread, after plugin code of a step did not return in time."""
        stopping = self._change.stop_first
        is_its_own = stopping is not None and stopping.give_up(error)
        if self._retirement is not None:
            if not is_its_own:
                self._retirement.give_up(error)
        elif self._change.staging.is_published:
            self._change.staging.give_up(error)  # a table of the host's; the rest goes on
        else:
            self._error = error
        try:
            self.run()
        finally:
            del self, error  # as above

    def cancel(self) -> None:
        """Give up: roll back, or if it `commits` by then, answer at once. Any thread."""
        self._runner.cancel()

    # --- forward -----------------------------------------------------------------------------

    def _forward(self) -> None:
        try:
            while (step := self._next()) is not None:
                if step.name in COMMITS:
                    self._runner.commit()
                further = self._runner.run(step)
                # First put behind it: a step that is interrupted here is run again.
                self._steps[self._at + 1 : self._at + 1] = further or ()
                self._at += 1
        except Abandoned:
            raise
        except BaseException as error:
            if self._change.staging.is_published:
                raise
            # Without our frames: they hold what the way back waits for.
            self._error = without_machinery(error)
        finally:
            del self  # as above

    def _next(self) -> Step | None:
        """The next step; those that turn out not to be needed leave the list."""
        while self._at < len(self._steps):
            step = self._steps[self._at]
            if step.name in RETIRES or step.name in self._spec.stops_before:
                return None
            if step.is_needed():
                return step
            del self._steps[self._at]
        return None

    # --- held --------------------------------------------------------------------------------

    @property
    def held(self) -> Epoch | None:
        """The epoch that is staged, and not published; None once the way back has begun."""
        return None if self._is_dropped else self._change.staging.next_epoch

    def _stays(self) -> bool:
        """Whether what is staged is to be held now."""
        if not self._spec.holds or self._is_dropped or self._error or self._fault:
            return False
        if self._change.staging.next_epoch is None:
            self._error = IncompatibleError(
                "a plugin that stops before its new version starts (its manifest says handover = "
                '"stop-first") cannot be staged beside the one that serves; stage it without '
                "compare=True"
            )
        return self._error is None

    def _hold(self) -> None:
        """Answer, and leave everything as it is. Last of all: then another thread may go on."""
        self._lines = tuple(map(str, self._steps[: self._at]))
        # A stage may be held for hours: what it was compared with drains meanwhile.
        self._change.staging.old_epoch = None
        self._release_turn()
        self.answer.set_result(self._report())

    def drop(self) -> None:
        """Take down what is held, on a thread of its own; `ended` is done after that. Once.

        Raises:
            NoThreadError: no thread can be started; it is held as before.
        """
        self._is_dropped = True
        try:
            start_thread(self.run, name=f"epochal stage {self._number}, dropped")
        except NoThreadError:
            self._is_dropped = False
            raise

    def _commit(self) -> None:
        """It is published: let the next change have its turn, and retire the old generations."""
        stopping = self._change.stop_first
        retirement = self._retire_replaced() if stopping is None else self._retire_stopped(stopping)
        self._runner.cancelled.add_done_callback(retirement.answer_early)
        self._lines = tuple(map(str, self._steps))
        self._retirement = retirement
        self._steps.clear()  # and with them the hosts that take part
        calls = self._change.finish()
        self._release_turn()
        for call in calls:
            try:
                call()
            except Exception as error:  # noqa: BLE001  the caller's answer
                self._fail(without_machinery(error))

    def _retire_replaced(self) -> Retirement:
        return Retirement(
            self._change.staging.retired,
            self._steps[self._at :],
            self._runner,
            Deadline(self._spec.limits.phase, is_cancellable=False),
            self._epochs.events,
            self._spec.limits.drain,
            cancel_holders=self._spec.limits.cancel_holders,
            interrupts=self._spec.limits.interrupts,
            successors=self._change.staging.successors,
        )

    def _retire_stopped(self, stopping: StopFirst) -> Retirement:
        """What was shut down before the new generations came up is only to be taken apart."""
        retirement = stopping.retirement
        assert retirement is not None
        retirement.reclaim(self._steps[self._at :])
        return retirement

    # --- backward ----------------------------------------------------------------------------

    def _backward(self) -> None:
        """Undo the steps that ran, the one that failed included, last first."""
        self._lines = self._lines or tuple(map(str, self._steps))
        del self._steps[self._at + 1 :]
        while self._steps:
            self._undo(self._steps[-1])
            self._steps.pop()
        retired = self._change.staging.retired
        self._retirement = Retirement(
            retired,
            [step for generation in retired for step in retirement_steps(generation)],
            self._runner,
            Deadline(self._spec.limits.phase, is_cancellable=False),
            self._epochs.events,
            self._spec.limits.drain,
            error=self._error,
        )

    def _undo(self, step: Step) -> None:
        """Undo a step; one that was tried before, and failed, is left as it is."""
        if step.undo is None or step is self._undone:
            return
        try:
            failures = step.undo()
        except BaseException:
            # The first time, go back to this step. The second time, the other steps matter more.
            if self._fault is not None:
                self._undone = step
            raise
        for failure in failures:
            if self._error is not None:
                self._error.add_note(failure)

    # --- the end -----------------------------------------------------------------------------

    def _retire(self) -> None:
        assert self._retirement is not None
        while not self._retirement.run():
            self._go_back()  # calls wait for it
            self._answer(self._retirement)  # the caller waits no longer; the drain goes on
        self._go_back()
        self._finish(self._retirement)

    def _go_back(self) -> None:
        """Serve the old versions again, if they were stopped for a change that failed."""
        stopping = self._change.stop_first
        if stopping is not None and self._error is not None:
            stopping.go_back()

    def _end(self, error: BaseException | None = None) -> None:
        """Give everything back, whatever happened before. Idempotent."""
        self._release_turn()
        if self.answer.done():
            self.answer.wake()  # again: the thread that answered may have been interrupted
        else:
            error = error or ChangeCancelledError("the change was taken back before it began")
            # Whatever is raised: without an answer its caller would wait for ever.
            with suppress(BaseException):
                without_machinery(error)
            self.answer.set_exception(error)
        # An error refers to our frames, and they to it: leave no circle.
        self._error = self._fault = None
        if self._retirement is not None:
            self._retirement.error = None
        if (stopping := self._change.stop_first) is not None:
            stopping.end(None, self._epochs.current)  # whatever happened, no call waits for ever
        with suppress(AttributeError):
            del self._runner.machine
        self.ended.set_result(None)

    def _finish(self, retirement: Retirement) -> None:
        if self._change.staging.is_published:
            cutover = self._report(retirement)
            # Before the answer: a caller that has it may end a subscription, which is still to get
            # what came before.
            self._epochs.events.emit(
                ChangeFinished(change=self._number, cutover=cutover, caller=self._spec.caller)
            )
        self._answer(retirement)

    def _answer(self, retirement: Retirement) -> None:
        """Answer the caller as things stand, if it has no answer yet."""
        if self.answer.done():
            return
        if self._fault is not None:
            self._fail(self._fault)
        elif self._error is not None:
            self._note(self._error, retirement)
            self._answer_failure(self._error)
        else:
            self._release_turn()
            self.answer.set_result(self._report(retirement))

    def _fail(self, error: BaseException) -> None:
        """Answer with an error that undoes nothing any more: of a callback, or our own."""
        if (epoch := self.published) is not None:
            error.add_note(f"the change is committed: epoch {epoch} is current")
        elif self._error is not None:
            error.add_note(f"while rolling back after {format_error(self._error)}")
        self._answer_failure(error)

    def _note(self, error: BaseException, retirement: Retirement) -> None:
        """Add to the error what failed on the way back, and record the refusal."""
        for retiring in retirement.retiring:
            for line in (*retiring.failures, *retiring.holders):
                error.add_note(f"while rolling back {retiring.generation}: {line}")
            for leak in retiring.leaks:
                error.add_note(f"{retiring.generation} could not be taken back wholly: {leak}")
        stopping = self._change.stop_first
        for line in stopping.notes if stopping is not None else ():
            error.add_note(line)
        if self._spec.journal is None or self._spec.dry_run:
            return
        numbers = {r.generation.plugin: r.generation.number for r in retirement.retiring}
        if stopping is not None:
            numbers |= stopping.restarted
        epoch = self._change.staging.numbers[0]
        refusal = RefusedChange(
            self._number, self._spec.reason, epoch, _code(error), _text(error), numbers
        )
        try:
            self._spec.journal.refuse(refusal)
        except EpochalError as worse:
            error.add_note(f"this refusal is not in the audit log: {worse}")

    def _answer_failure(self, error: BaseException) -> None:
        if self.answer.done():
            return
        self._release_turn()
        self._epochs.events.emit(
            ChangeFailed(
                change=self._number,
                code=_code(error),
                error=_text(error),
                phases_ms=dict(self._runner.ms),
                reason=self._spec.reason,
                caller=self._spec.caller,
            )
        )
        self.answer.set_exception(error)

    def _release_turn(self) -> None:
        self._epochs.turn.release(self._ticket)

    def _report(self, retirement: Retirement | None = None) -> Cutover:
        """The report as things stand."""
        staging, pauses_ms = self._change.staging, self._change.pauses_ms
        swaps = [
            replace(s, pause_ms=pauses_ms.get(s.plugin), lost=tuple(staging.lost.get(s.plugin, ())))
            for s in staging.swaps
        ]
        if retirement is not None and staging.is_published:
            swaps = [retirement.outcome(swap) for swap in swaps]
        return Cutover(
            change=self._number,
            published=staging.is_published,
            epoch_before=staging.numbers[0],
            epoch_after=staging.numbers[1],
            swaps=tuple(swaps),
            steps=self._lines,
            phases_ms=dict(self._runner.ms),
            total_ms=(perf_counter() - self._started) * 1000.0,
        )


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, EpochalError) else "internal"


def _text(error: BaseException) -> str:
    """An error as an event has it: those of our own have all of it in their text."""
    return str(error) if isinstance(error, EpochalError) else format_error(error)
