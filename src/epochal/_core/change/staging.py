"""Staging: bringing the generations of a change up, aside from what serves.

One after another, dependencies first: the code is executed, its exports are compared with those
that they would replace, `init` is called. Nothing here is seen by anybody yet, and what raises is
the change's to undo.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from epochal._core.change.plugin_calls import Abandoned
from epochal._core.generation.generation import Generation
from epochal._core.generation.states import LifecycleState
from epochal._core.introspect.tracebacks import format_error, without_variables
from epochal._core.plugin.dependencies import check_distributions
from epochal.errors import EpochalError, ExportError, IncompatibleError, InitError
from epochal.events import StateChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from epochal._core.change.journal import Journal
    from epochal._core.change.participant import Participant
    from epochal._core.change.plugin_calls import Phases
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import LeasedGeneration, Namespace
    from epochal._core.generation.operation import Operation
    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.sync.fifo_lock import FifoLock
    from epochal._core.sync.weak_registry import WeakRegistry
    from epochal.events import EventStream

    TakeOver = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class Site:
    """What the changes of one runtime work on.

    Attributes:
        turn: whose turn it is.
        events: where to tell.
        operations: the labelled operations that run.
        generations: every generation that somebody still knows of.
        read: gives the current epoch.
        publish: stores the new one, and does nothing else.
        next_number: counts the generations of a plugin; called by whoever has the turn.
        open_namespace: the loader.
        parties: who is asked whether the next epoch will do.
        journal: keeps each epoch before it is published; None for nobody.
    """

    turn: FifoLock
    events: EventStream
    operations: WeakRegistry[Operation]
    generations: WeakRegistry[Generation]
    read: Callable[[], Epoch]
    publish: Callable[[Epoch], None]
    next_number: Callable[[str], int]
    open_namespace: Callable[[Artifact, str, int, str], Namespace]
    parties: WeakRegistry[Participant]
    journal: Journal | None = None

    def tell(self, generation: Generation, old: LifecycleState, new: LifecycleState) -> None:
        """Tell that a generation moved."""
        self.events.emit(
            StateChanged(plugin=generation.plugin, generation=generation.number, old=old, new=new)
        )


class Staging:
    """What one change brings up; belongs to the thread that has the change.

    Leases and epochs stand here and in no local variable of a frame that plugin code runs under: an
    abandoned thread keeps its frames.

    Args:
        site: what the change works on.
        phases: runs plugin code.

    Attributes:
        base: the epoch that the change found; None before its turn, and once it is published or
            undone.
        staged: what is linked, by plugin.
        begun: every generation that was begun, in order.
    """

    __slots__ = ("_phases", "_site", "base", "begun", "staged")

    def __init__(self, site: Site, phases: Phases) -> None:
        self._site: Final = site
        self._phases: Final = phases
        self.base: Epoch | None = None
        self.staged: Final[dict[str, LeasedGeneration]] = {}
        self.begun: Final[list[Generation]] = []

    def clear(self) -> None:
        """Let go of everything: it is published, or on its way out."""
        self.staged.clear()
        self.begun.clear()
        self.base = None

    def bring_up(self, candidate: Candidate, take_over: TakeOver) -> None:
        """Bring one generation up to INITIALIZED.

        Args:
            candidate: what it is made of.
            take_over: goes on with the change, given the reason, where this thread is abandoned.

        Raises:
            EpochalError: the plugin is at fault, or does not fit what it replaces.
        """
        self._phases.timed("plan", lambda: check_distributions(candidate.manifest))
        number = self._site.next_number(candidate.plugin)
        generation = Generation(candidate, number, self._site.operations)
        self._site.generations.add(generation)
        self.begun.append(generation)
        generation.prepare(self._site.open_namespace, self._required(generation))
        self._foreign("link", generation, generation.link, take_over)
        self.staged[generation.plugin] = generation.carry()
        self._site.tell(generation, LifecycleState.LOADED, LifecycleState.LINKED)
        self._compare(generation, take_over)
        self._init(generation, take_over)
        self._offer(generation)

    def _required(self, generation: Generation) -> dict[str, LeasedGeneration]:
        assert self.base is not None
        return {p: self.staged.get(p) or self.base.linked(p) for p in generation.requires}

    def _compare(self, new: Generation, take_over: TakeOver) -> None:
        assert self.base is not None
        old = self.base.generations.get(new.plugin)
        if old is not None and (old.exports or old.keeps_state):
            self._foreign("compare", new, partial(_compare_exports, old, new), take_over)

    def _init(self, generation: Generation, take_over: TakeOver) -> None:
        try:
            self._foreign("init", generation, generation.init, take_over)
        except (EpochalError, Abandoned):
            raise
        except BaseException as error:
            raise InitError(
                f"init() of plugin {generation.plugin!r} raised {format_error(error)}",
                plugin=generation.plugin,
            ) from error
        self._site.tell(generation, LifecycleState.LINKED, LifecycleState.INITIALIZED)

    def _offer(self, generation: Generation) -> None:
        """Put what was opened among what the epoch will offer."""
        # Apart from `bring_up`, whose frame the plugin may keep: an error in `init` refers to it.
        # No local variable has the lease: an error's traceback would keep it.
        plugin = generation.plugin
        try:
            opened = generation.wrap(self.staged[plugin].lease)
        except BaseException as error:  # noqa: BLE001  raised again, as what it is
            raise ExportError(
                f"what {generation} opened cannot be offered: {format_error(error)}", plugin=plugin
            ) from without_variables(error)
        carried = {**self.staged[plugin].carried, **opened}
        self.staged[plugin] = replace(self.staged[plugin], carried=carried)

    def check_together(self, retire: Collection[str]) -> None:
        """Have kinds with a rule over all their exports look at what would be active.

        Args:
            retire: the plugins whose active generation goes.

        Raises:
            IncompatibleError: the exports of a kind do not fit together.
        """
        assert self.base is not None
        kinds = {kind for g in self.begun for kind, _ in g.exports if kind.has_global_rule}
        if not kinds:
            return
        stay = [g for p, g in self.base.generations.items() if p not in retire]
        exports = [e for g in (*stay, *self.begun) for e in g.exports.values()]
        for kind in kinds:
            try:
                kind.validate_together([export for export in exports if export.kind is kind])
            except (TypeError, ValueError) as error:
                told = f"the exports of kind {kind.name} do not fit together: {error}"
                raise IncompatibleError(told) from without_variables(error)

    def _foreign(
        self, phase: str, generation: Generation, work: Callable[[], None], take_over: TakeOver
    ) -> None:
        self._phases.call_plugin(phase, str(generation), work, take_over)


def _compare_exports(old: Generation, new: Generation) -> None:
    for key, before in old.exports.items():
        kind, name = key
        after = new.exports.get(key)
        told = f"{kind.name} {name} of {new} cannot replace that of {old}"
        try:
            if after is None:
                told = f"{new} cannot leave out {kind.name} {name} of {old}"
                dropped = kind.check_removed(before)
                if dropped is not None:
                    new.dropped.append(f"{kind.name} {name}: {dropped}")
            else:
                kind.compare(before, after)
        except (TypeError, ValueError) as error:
            raise IncompatibleError(f"{told}: {format_error(error)}") from without_variables(error)
    if old.entry_point("export_state") and not new.entry_point("import_state"):
        new.dropped.append("what export_state() returns: there is no import_state() to take it")
