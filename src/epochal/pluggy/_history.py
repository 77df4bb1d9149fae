"""Historic calls: remembered, and repeated for each newcomer before any other code can call it.

The history of each hook is apart, and a newcomer looks at those of its own hooks alone: a program
that makes a historic call for each registration, as pytest does, registers in constant time. There
is no list of plugins that have received them: a `Newcomer` lives until its
generation is in the epoch, or its object is registered, and has received all of them then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal.pluggy._epoch_manager import Implementations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pluggy

    from epochal import Epoch, Generation
    from epochal.pluggy._epoch_manager import Runner
    from epochal.pluggy._marks import HookimplKind

    History = Mapping[str, tuple["HistoricCall", ...]]
    """Hook -> its historic calls, oldest first."""
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


class Newcomer:
    """A generation or host object that is about to take part, and its progress in the history.

    Args:
        name: its name in pluggy.
        hooks: the hooks that it implements; it receives no others' calls.

    Attributes:
        last_serial: of the last historic call that it received, or is receiving.
        is_ready: it received all; a later historic call must be repeated by its own caller.
        results: its results, for the callbacks.
    """

    # The thread that brings it up writes `hooks`, before it is ready; others read them after that.
    # `last_serial` and `is_ready` are read and written under the manager's lock.
    __slots__ = ("hooks", "is_ready", "last_serial", "name", "results")

    def __init__(self, name: str, hooks: Iterable[str] = ()) -> None:
        self.name: Final = name
        self.hooks = frozenset(hooks)
        self.last_serial = 0
        self.is_ready = False
        self.results: Final[list[Result]] = []

    def has_received(self, history: History) -> bool:
        """Whether it received all of the history."""
        return all(
            history[hook][-1].serial <= self.last_serial for hook in self.hooks if history.get(hook)
        )

    def take_due(self, history: History) -> list[HistoricCall]:
        """The calls that it has yet to receive, which now count as received; ready if none."""
        due = [
            call
            for hook in self.hooks
            for call in history.get(hook, ())
            if call.serial > self.last_serial
        ]
        self.is_ready = not due
        if due:
            self.last_serial = max(call.serial for call in due)
        return due


def replay(
    runner: Runner,
    newcomer: Newcomer,
    implementations: Iterable[tuple[str, pluggy.HookImpl]],
    due: Sequence[HistoricCall],
) -> None:
    """Call a newcomer's implementations with the due calls, in pluggy's order.

    Raises:
        BaseException: raised by an implementation.
    """
    for hook, implementation in implementations:
        for call in due:
            if call.name == hook:
                results = runner.run(hook, [implementation], call.kwargs, False)
                if results and call.callback is not None:
                    newcomer.results.append(partial(call.callback, results[0]))


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
    hooks = {name: kind.hook_of(export) for name, export in exports.items()}
    targets = {name: export.target for name, export in exports.items()}
    return Implementations(generation, hooks, targets)


def hooks_of(kind: HookimplKind, generation: Generation) -> set[str]:
    """The hooks that a generation implements."""
    return {
        export.options.get("specname") or kind.hook_of(export)
        for (other, _), export in generation.exports.items()
        if other is kind
    }
