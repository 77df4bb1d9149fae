"""Handing state over: what a change does between the last `init` and its commit.

Kinds say how the state of one export moves (`Kind.hand_over`); a plugin with `export_state()` and
`import_state(state, from_version)` moves its own. All that a plugin hands over is one `Move`. First
every move of the change is quiesced, dependents first: a call that is inside a dependent may be
about to call what it requires, and would wait there for a hand-over that waits for it. Then they
are run, dependencies first, all under one time limit, and then either committed, once the new epoch
is current, or rolled back. From its beginning to its end a plugin's calls may have to wait, so the
time between is measured and reported: the pause.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from epochal._core.blame import said
from epochal.errors import EpochalError, HandOverError, IncompatibleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from epochal._core.kind import Handover, Kind

    Key = tuple[Kind[Any], str]


class PluginState:
    """The state of a plugin's own: what `export_state()` returns is given to `import_state`.

    Nobody waits meanwhile: what the old generation's functions do to its state after it was
    exported is not in it. Where nothing may be lost, the state belongs in a service, whose calls
    wait (`epochal.kinds.service`).
    """

    def __init__(
        self,
        export_state: Callable[[], Any],
        import_state: Callable[[Any, str], object],
        from_version: str,
    ) -> None:
        self._export: Final = export_state
        self._import: Final = import_state
        self._from_version: Final = from_version

    def quiesce(self) -> None:
        """Nobody is made to wait."""

    def run(self) -> None:
        """Export, then import."""
        self._import(self._export(), self._from_version)

    def commit(self, offered: Any) -> None:
        """Nothing waits for it."""

    def roll_back(self) -> None:
        """The old generation has all that it had."""


class Move:
    """All that one plugin hands over in one change.

    Made and ended by the thread that has the change; `quiesce` and `run` may be abandoned, and then
    go on in a thread of their own while the others are called from the one that took over: so what
    was begun is noted before it begins.

    Args:
        plugin: its id.
        handovers: the moves, each with its export, or None for the plugin's own state.
        inside: what to be inside of while they run.

    Attributes:
        pause_ms: milliseconds from the beginning to the end; None before the end.
    """

    __slots__ = ("_begun", "_handovers", "_inside", "_started", "pause_ms", "plugin")

    def __init__(
        self,
        plugin: str,
        handovers: Iterable[tuple[Key | None, Handover]],
        inside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.plugin: Final = plugin
        self._inside: Final = inside
        self._handovers: Final = list(handovers)
        self._begun: Final[list[tuple[Key | None, Handover]]] = []
        self._started = 0.0
        self.pause_ms: float | None = None

    def __bool__(self) -> bool:
        return bool(self._handovers)

    def quiesce(self) -> None:
        """Have calls wait that would change what is moved, or raise as `run`."""
        self._started = perf_counter()
        for key, handover in self._handovers:
            self._begun.append((key, handover))
            self._step(key, handover.quiesce)

    def run(self) -> None:
        """Move everything, or raise.

        Raises:
            IncompatibleError: the new version refuses it.
            HandOverError: something raised.
        """
        for key, handover in self._handovers:
            self._step(key, handover.run)

    def _step(self, key: Key | None, step: Callable[[], object]) -> None:
        try:
            with self._inside():
                step()
        except EpochalError:
            raise
        except BaseException as error:
            told = f"{self._named(key)} could not be handed over: {said(error)}"
            if isinstance(error, (TypeError, ValueError)):
                raise IncompatibleError(told) from error
            raise HandOverError(told, plugin=self.plugin) from error

    def commit(self, offered: Mapping[Key, Any]) -> list[str]:
        """The new epoch is current, and offers this; end the pause.

        Returns:
            What went wrong, in words.
        """
        failures = self._end(lambda key, handover: handover.commit(offered.get(key)))
        self.pause_ms = (perf_counter() - self._started) * 1000.0
        return failures

    def roll_back(self) -> list[str]:
        """The change went back; what was begun is undone, last first.

        Returns:
            What went wrong, in words.
        """
        self._begun.reverse()
        return self._end(lambda _, handover: handover.roll_back())

    def _end(self, how: Callable[[Any, Handover], None]) -> list[str]:
        failures: list[str] = []
        for key, handover in self._begun:
            try:
                how(key, handover)
            except BaseException as error:  # noqa: BLE001  told; the others are ended
                failures.append(f"ending the hand-over of {self._named(key)}: {said(error)}")
        self._handovers.clear()
        self._begun.clear()
        return failures

    def _named(self, key: Key | None) -> str:
        return f"the state of plugin {self.plugin!r}" if key is None else f"{key[0].name} {key[1]}"
