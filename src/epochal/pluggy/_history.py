"""Historic calls: remembered, and repeated for each newcomer before any other code can call it.

pluggy itself repeats them: the newcomer is registered with a manager of its own, in which the calls
stand as history. There is no list of plugins that have received them: a `Newcomer` lives until its
generation is in the epoch, or its object is registered, and has received all of them then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal.pluggy._epoch_manager import EpochManager, Implementations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pluggy

    from epochal import Epoch, Generation
    from epochal.pluggy._epoch_manager import HostState, Runner
    from epochal.pluggy._marks import HookimplKind

    Result = Callable[[], None]
    """Passes a result to the callback of its historic call."""


@dataclass(frozen=True, slots=True, eq=False)
class HistoricCall:
    """One historic call.

    Attributes:
        serial: counts up.
        name: the hook's.
        kwargs: the arguments, defaults filled in.
        callback: gets each result; None for none.
    """

    serial: int
    name: str
    kwargs: Mapping[str, Any]
    callback: Callable[[Any], None] | None

    def for_newcomer(self, results: list[Result]) -> tuple[Mapping[str, Any], Any]:
        """An entry of pluggy's history, whose results are collected instead of delivered."""
        callback = self.callback
        if callback is None:
            return self.kwargs, None
        return self.kwargs, lambda value: results.append(partial(callback, value))


class Newcomer:
    """A generation or host object that is about to take part, and its progress in the history.

    Args:
        name: its name in pluggy.

    Attributes:
        last_serial: of the last historic call that it received, or is receiving.
        is_ready: it received all; a later historic call must be repeated by its own caller.
        results: its results, for the callbacks.
    """

    # `last_serial` and `is_ready` are read and written under the manager's lock.
    __slots__ = ("is_ready", "last_serial", "name", "results")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.last_serial = 0
        self.is_ready = False
        self.results: Final[list[Result]] = []

    def has_received(self, history: Sequence[HistoricCall]) -> bool:
        """Whether it received all of the history."""
        return not history or history[-1].serial <= self.last_serial

    def take_due(self, history: Sequence[HistoricCall]) -> list[HistoricCall]:
        """The calls that it has yet to receive, which now count as received; ready if none."""
        due = [call for call in history if call.serial > self.last_serial]
        self.is_ready = not due
        if due:
            self.last_serial = due[-1].serial
        return due


def replay(
    owner: pluggy.PluginManager,
    runner: Runner,
    state: HostState,
    newcomer: Newcomer,
    plugin: Any,
    due: Sequence[HistoricCall],
) -> None:
    """Call a newcomer's implementations (of `plugin`) with the due calls, as pluggy does.

    Raises:
        BaseException: raised by an implementation.
    """
    alone = EpochManager(owner, runner, state, (), verify=False)
    for call in due:
        history = getattr(alone.hook, call.name)._call_history  # noqa: SLF001  pluggy has no other
        history.append(call.for_newcomer(newcomer.results))
    alone.register(plugin, newcomer.name)


@dataclass(frozen=True, slots=True, eq=False)
class PendingChange:
    """A change under way, as the manager knows it.

    Attributes:
        epoch: returns the epoch that it would publish; None once that is gone (it is held weakly).
        newcomers: the generations that it adds.
    """

    epoch: Callable[[], Epoch | None]
    newcomers: Mapping[Generation, Newcomer]

    @property
    def results(self) -> list[Result]:
        """The newcomers' results, for the callbacks."""
        return [result for newcomer in self.newcomers.values() for result in newcomer.results]


def targets_of(kind: HookimplKind, generation: Generation) -> Implementations:
    """A newcomer's own functions, which carry no lease, as an object to register."""
    exports = {
        name.partition(".")[2]: export
        for (other, name), export in generation.exports.items()
        if other is kind
    }
    hooks = {name: export.options.get("hook", name) for name, export in exports.items()}
    targets = {name: export.target for name, export in exports.items()}
    return Implementations(generation.plugin, generation.number, hooks, targets)
