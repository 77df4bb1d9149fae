"""Historic calls: remembered, and told to whoever comes in, before anybody else can call them.

A newcomer is told by pluggy itself: it is registered with a manager of its own, in which the calls
stand as history. Nobody is remembered as told: an `Newcomer` lives for as long as somebody comes
in, and a generation that has come in was told.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal.pluggy._epoch_manager import Implementations, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pluggy

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal.pluggy._epoch_manager import Runner, State
    from epochal.pluggy._marks import Project

    Result = Callable[[], None]
    """A result on its way to the callback of the call that it answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Historic:
    """One historic call.

    Attributes:
        serial: counts up.
        name: the hook's.
        kwargs: the arguments, defaults filled in.
        callback: takes each result; None for nobody.
    """

    serial: int
    name: str
    kwargs: Mapping[str, Any]
    callback: Callable[[Any], None] | None

    def for_newcomer(self, results: list[Result]) -> tuple[Mapping[str, Any], Any]:
        """An entry of pluggy's history, whose results are kept back."""
        callback = self.callback
        if callback is None:
            return self.kwargs, None
        return self.kwargs, lambda value: results.append(partial(callback, value))


class Newcomer:
    """Somebody who comes in, and how much of the history was told so far.

    Args:
        name: what it is registered under.

    Attributes:
        told: the serial of the last historic call that it was told of, or is being told of.
        is_ready: it was told of all; whoever calls after that tells it, too.
        results: what it returned, for the callbacks.
    """

    # `told` and `is_ready` are read and written under the manager's lock; `results` is appended to.
    __slots__ = ("is_ready", "name", "results", "told")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.told = 0
        self.is_ready = False
        self.results: Final[list[Result]] = []

    def is_told(self, history: Sequence[Historic]) -> bool:
        """Whether nothing of the history is left to tell."""
        return not history or history[-1].serial <= self.told

    def take_due(self, history: Sequence[Historic]) -> list[Historic]:
        """What is left to tell, which counts as told from now on; ready if nothing is."""
        due = [call for call in history if call.serial > self.told]
        self.is_ready = not due
        if due:
            self.told = due[-1].serial
        return due


def tell(
    owner: pluggy.PluginManager,
    runner: Runner,
    state: State,
    arrival: Newcomer,
    plugin: Any,
    due: Sequence[Historic],
) -> None:
    """Call the implementations of a newcomer with what is due, as pluggy does; may raise."""
    alone = View(owner, runner, state, (), verify=False)
    for call in due:
        history = getattr(alone.hook, call.name)._call_history  # noqa: SLF001  pluggy has no other
        history.append(call.for_newcomer(arrival.results))
    alone.register(plugin, arrival.name)


class Coming:
    """A change under way, as its manager knows it: who comes in.

    Args:
        epoch: gives the epoch that would be published, while somebody else keeps it.
        arrivals: the generations that come in.
    """

    __slots__ = ("arrivals", "epoch")

    def __init__(
        self, epoch: Callable[[], Epoch | None], arrivals: Mapping[Generation, Newcomer]
    ) -> None:
        self.epoch: Final = epoch
        self.arrivals: Final = arrivals

    @property
    def results(self) -> list[Result]:
        """What the newcomers returned, for the callbacks."""
        return [result for arrival in self.arrivals.values() for result in arrival.results]


def targets_of(kind: Project, generation: Generation) -> Any:
    """A newcomer's own functions, which carry no lease, as an object to register."""
    exports = {
        name.partition(".")[2]: export
        for (other, name), export in generation.exports.items()
        if other is kind
    }
    hooks = {name: export.options.get("hook", name) for name, export in exports.items()}
    made = Implementations(generation.plugin, generation.number, hooks)
    vars(made).update({name: export.target for name, export in exports.items()})
    return made
