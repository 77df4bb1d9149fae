"""Handing state over, between the last `init` of a change and its commit.

Kinds say how the state of one export moves (`Kind.hand_over`); a plugin with `export_state()` and
`import_state(state, from_version)` moves its own. All that a plugin hands over is one
`StateTransfer`. The change closes the gates of all its transfers together: a call that is inside
one gate may be on its way through another, and is waited for (`gate`). Then the transfers are run,
dependencies first, all of them under one time limit, and are either committed, once the new epoch
is current, or rolled back. Meanwhile calls may have to wait, so the time is measured and reported:
the pause.

Threads
-------

A transfer is made and ended by the thread that has the change. Its `run` may be abandoned, and then
goes on in a thread of its own while the thread that took over ends the transfer. So `run` notes
what it is about to begin *before* it looks whether the transfer is over, and the end says that it
is over *before* it takes what was noted: either `run` sees the end and begins nothing, or the end
sees what `run` began and undoes it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal._core.change.plan import Deadline
from epochal._core.generation.own_state import describe, translate_errors
from epochal._core.introspect.tracebacks import reported
from epochal._core.use.gate import GateClosure
from epochal.errors import PauseTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from epochal._core.change.plan import Step
    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.change.staging import Staging
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Handover, Kind
    from epochal._core.use.gate import Gate

    Key = tuple[Kind[Any], str]


class StateTransfer:
    """All that one plugin hands over in one change.

    Args:
        plugin: its id.
        handovers: the state of each export, by its key; None for the plugin's own state.
        inside: the context that each of them runs in.
    """

    __slots__ = ("_begun", "_handovers", "_inside", "_is_over", "_plugin")

    def __init__(
        self,
        plugin: str,
        handovers: Iterable[tuple[Key | None, Handover]],
        inside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._plugin: Final = plugin
        self._inside: Final = inside
        self._handovers: Final = tuple(handovers)
        self._begun: Final[list[tuple[Key | None, Handover]]] = []
        self._is_over = False

    def __bool__(self) -> bool:
        return bool(self._handovers)

    @property
    def gates(self) -> list[Gate]:
        """The gates that are to be closed while it runs."""
        gates = (handover.gate for _, handover in self._handovers)
        return [gate for gate in gates if gate is not None]

    def run(self) -> None:
        """Move all of it.

        Raises:
            IncompatibleError: the new version refuses it.
            HandOverError: plugin code raised.
        """
        for key, handover in self._handovers:
            failure = f"{describe(key, self._plugin)} could not be handed over"
            with translate_errors(failure, self._plugin), self._inside():
                # First noted, then the look whether it is over: see above.
                self._begun.append((key, handover))
                if self._is_over:
                    return
                handover.run()

    def commit(self, offered: Mapping[Key, Any]) -> list[str]:
        """The new epoch is current, and offers these exports; returns the failures, a line each."""
        return self._end(lambda key, handover: handover.commit(offered.get(key)))

    def roll_back(self) -> list[str]:
        """Undo whatever was begun, last first; returns the failures, a line each."""
        return self._end(lambda _, handover: handover.roll_back())

    def _end(self, end: Callable[[Any, Handover], None]) -> list[str]:
        # First over, then what was noted is taken: see above.
        self._is_over = True
        failures: list[str] = []
        while self._begun:
            key, handover = self._begun.pop()
            try:
                end(key, handover)
            except BaseException as error:  # noqa: BLE001  reported; the others are ended
                state = describe(key, self._plugin)
                failures.append(f"ending the hand-over of {state}: {reported(error)}")
        return failures


class StateTransfers:
    """All that one change hands over, and the gates that are closed for it.

    Belongs to the thread that has the change.

    Args:
        staging: the generations that hand over and take over.
        runner: runs plugin code.
        limit_s: seconds that all of it may take together; None for ever.

    Attributes:
        deadline: the one of all hand-overs together.
        pauses_ms: by plugin, how long calls may have had to wait; empty before the commit.
    """

    __slots__ = ("_closure", "_runner", "_staging", "_transfers", "deadline", "pauses_ms")

    def __init__(self, staging: Staging, runner: StepRunner, limit_s: float | None) -> None:
        self._staging: Final = staging
        self._runner: Final = runner
        self._transfers: Final[dict[str, StateTransfer]] = {}
        self._closure: GateClosure | None = None
        self.deadline: Final = Deadline(limit_s)
        self.pauses_ms: Mapping[str, float] = {}

    def may_move(self, plugin: str | None = None) -> bool:
        """Whether a plugin's state is to move, or any; True while that is not known yet."""
        if self._staging.next_epoch is None:
            return True
        return bool(self._transfers) if plugin is None else plugin in self._transfers

    def match(self, plugin: str, step: Step) -> None:
        """Find out what moves from a plugin's old generation to its new one; moves nothing."""
        old, new = self._staging.old_generation(plugin), self._staging.generations[-1]
        transfer = self._runner.call_plugin(step, new, partial(_transfer, old, new))
        if transfer:
            self._transfers[plugin] = transfer

    def close_gates(self, step: Step) -> None:
        """Begin the pause, which is one for all, and wait for the calls inside.

        Raises:
            PauseTimeoutError: calls inside did not end in time.
            ChangeCancelledError: the change was cancelled meanwhile.
        """
        limit_s = self.deadline.limit_s
        self.deadline.start()
        gates = (gate for transfer in self._transfers.values() for gate in transfer.gates)
        self._closure = closure = GateClosure(gates)
        self._runner.cancelled.add_done_callback(lambda _: closure.give_up())
        if not closure.close(limit_s):
            self._runner.check_cancelled()
            old = [self._staging.old_generation(plugin) for plugin in self._transfers]
            inside = [holder for generation in old for holder in generation.stragglers()]
            raise PauseTimeoutError(list(self._transfers), limit_s or 0.0, inside)

    def hand_over(self, plugin: str, step: Step) -> None:
        """Move a plugin's state.

        Raises:
            PauseTimeoutError: all of it together has taken too long.
        """
        new = self._staging.new_generation(plugin)
        self._runner.call_plugin(step, new, self._transfers[plugin].run)
        # The code returned; but calls have waited for longer than the host allows.
        if self.deadline.left_s == 0.0:
            raise PauseTimeoutError(list(self._transfers), self.deadline.limit_s or 0.0, ())

    def commit(self, old_epoch: Epoch, epoch: Epoch) -> None:
        """The new epoch is current: have calls go to it, and end the pause."""
        if self._closure is None:
            return
        for plugin, transfer in self._transfers.items():
            keys = epoch.generations[plugin].opened
            failures = transfer.commit({key: epoch[key[0]].get(key[1]) for key in keys})
            old_epoch.generations[plugin].failures.extend(failures)
        # After every commit: a call that is let through must find its new generation.
        self._closure.open()
        self.pauses_ms = dict.fromkeys(self._transfers, self.deadline.spent_s * 1000.0)
        self._transfers.clear()

    def take_back(self, plugin: str) -> Sequence[str]:
        """Undo the move of a plugin's state, however far it came; returns the failures."""
        return self._transfers[plugin].roll_back()

    def open_gates(self) -> Sequence[str]:
        """Have the calls that wait go on, to the old generations."""
        if self._closure is not None:
            self._closure.open()
        return ()


def _transfer(old: Generation, new: Generation) -> StateTransfer:
    return StateTransfer(new.plugin, new.handovers(old), new.taking_over)
