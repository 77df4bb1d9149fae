"""Handing state over: what a change does between the last `init` and its commit.

Kinds say how the state of one export moves (`Kind.hand_over`); a plugin with `export_state()` and
`import_state(state, from_version)` moves its own. All that a plugin hands over is one
`StateTransfer`. The change closes the gates of all its moves together; a call that is inside of one
may be on its way through another, and is waited for (`gate`). Then the moves are run, dependencies
first, all of it under one time limit, and are either committed, once the new epoch is current, or
rolled back. In between a plugin's calls may have to wait, so the time is measured and reported: the
pause.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.own_state import describe, translate_errors
from epochal._core.introspect.tracebacks import format_error
from epochal._core.use.gate import GateClosure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.kind import Handover, Kind
    from epochal._core.use.gate import Gate

    Key = tuple[Kind[Any], str]


class StateTransfer:
    """All that one plugin hands over in one change.

    Made and ended by the thread that has the change; `run` may be abandoned, and then goes on in a
    thread of its own while the others are called from the one that took over. So `run` notes what
    it is about to begin *before* it looks whether all is over, and the end says that it is *before*
    it takes what was noted.

    Args:
        plugin: its id.
        handovers: the moves, each with its export, or None for the plugin's own state.
        inside: what to be inside of while they run.

    Attributes:
        plugin: as given.
    """

    __slots__ = ("_begun", "_handovers", "_inside", "_is_over", "plugin")

    def __init__(
        self,
        plugin: str,
        handovers: Iterable[tuple[Key | None, Handover]],
        inside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.plugin: Final = plugin
        self._inside: Final = inside
        self._handovers: Final = tuple(handovers)
        self._begun: Final[list[tuple[Key | None, Handover]]] = []
        self._is_over = False

    def __bool__(self) -> bool:
        return bool(self._handovers)

    @property
    def gates(self) -> list[Gate]:
        """What is to be closed while it runs."""
        gates = (handover.gate for _, handover in self._handovers)
        return [gate for gate in gates if gate is not None]

    def run(self) -> None:
        """Move everything, or raise.

        Raises:
            IncompatibleError: the new version refuses it.
            HandOverError: something raised.
        """
        for key, handover in self._handovers:
            told = f"{describe(key, self.plugin)} could not be handed over"
            with translate_errors(told, self.plugin), self._inside():
                self._begun.append((key, handover))
                if self._is_over:
                    return
                handover.run()

    def commit(self, offered: Mapping[Key, Any]) -> list[str]:
        """The new epoch is current, and offers this.

        Returns:
            What went wrong, in words.
        """
        return self._end(lambda key, handover: handover.commit(offered.get(key)))

    def roll_back(self) -> list[str]:
        """The change went back; what was begun is undone, last first.

        Returns:
            What went wrong, in words.
        """
        return self._end(lambda _, handover: handover.roll_back())

    def _end(self, how: Callable[[Any, Handover], None]) -> list[str]:
        self._is_over = True
        failures: list[str] = []
        while self._begun:
            key, handover = self._begun.pop()
            try:
                how(key, handover)
            except BaseException as error:  # noqa: BLE001  told; the others are ended
                told = describe(key, self.plugin)
                failures.append(f"ending the hand-over of {told}: {format_error(error)}")
        return failures


class StateTransfers:
    """All that one change hands over, and the gates that are closed for it.

    Belongs to the thread that has the change.

    Attributes:
        moves: of each plugin that hands something over, dependencies first.
    """

    __slots__ = ("_closing", "_started", "moves")

    def __init__(self) -> None:
        self.moves: Final[list[StateTransfer]] = []
        self._closing = GateClosure(())
        self._started = 0.0

    def __bool__(self) -> bool:
        return bool(self.moves)

    @property
    def plugins(self) -> list[str]:
        """The ids of the plugins that hand something over."""
        return [move.plugin for move in self.moves]

    def add(self, move: StateTransfer) -> None:
        """One more, if it moves anything."""
        if move:
            self.moves.append(move)

    def begin(self) -> GateClosure:
        """Begin the pause, which is one for all; returns what closes the gates."""
        self._started = perf_counter()
        self._closing = GateClosure(gate for move in self.moves for gate in move.gates)
        return self._closing

    def commit(self, epoch: Epoch) -> tuple[dict[str, list[str]], dict[str, float]]:
        """The new epoch is current: have calls go to it.

        Returns:
            For each plugin, what went wrong, and the milliseconds of its pause.
        """
        failures: dict[str, list[str]] = {}
        for move in self.moves:
            keys = epoch.generations[move.plugin].opened
            failures[move.plugin] = move.commit({key: epoch[key[0]].get(key[1]) for key in keys})
        self._closing.open()
        pauses = dict.fromkeys(self.plugins, (perf_counter() - self._started) * 1000.0)
        self.moves.clear()
        return failures, pauses

    def roll_back(self) -> list[str]:
        """The change went back: have calls go on; returns what went wrong."""
        failures = [line for move in reversed(self.moves) for line in move.roll_back()]
        self._closing.open()
        self.moves.clear()
        return failures
