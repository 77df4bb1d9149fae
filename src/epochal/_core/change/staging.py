"""Staging: the generations and the epoch of a change, aside from those that serve.

The generations come up one after another, dependencies first: the code is executed, its exports are
compared with those that they would replace, `init` is called. Then the next epoch is built, and
published. Until then nothing refers to any of it but the change, and whatever raises is undone.

Leases and epochs are attributes of `Staging`, and in no local variable of a frame that plugin code
runs under: an abandoned thread keeps its frames, and an error keeps those that it passed. So each
method here that calls plugin code, and each that such a method calls, looks them up where it needs
them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from epochal._core.change.load_hints import hint_for
from epochal._core.change.plugin_calls import Abandoned
from epochal._core.generation.generation import Generation
from epochal._core.generation.own_state import NO_IMPORT_STATE
from epochal._core.generation.states import LifecycleState
from epochal._core.generation.table_succession import TableSuccession
from epochal._core.introspect.tracebacks import without_variables
from epochal._core.sync.threads import begin_giving_way
from epochal.errors import (
    EpochalError,
    ExportError,
    IncompatibleError,
    InitError,
    LinkError,
    format_error,
    reason_of,
)
from epochal.events import ChangeCommitted, EntriesLost, StateDropped
from epochal.report import Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from epochal._core.change.plan import Plan, Step
    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.generation.epoch import Epoch, EpochStore
    from epochal._core.generation.generation import LeasedGeneration
    from epochal._core.generation.kind import Kind
    from epochal._core.plugin.candidate import Candidate


class Staging:
    """The generations and the epoch of one change; belongs to the thread that has the change.

    Args:
        change: the number of the change.
        epochs: what the changes of this runtime share.
        runner: runs plugin code.
        reason: by whom and why, for the event.

    Attributes:
        old_epoch: the epoch that the change started from; None before its turn, and once the change
            is published or undone.
        next_epoch: the epoch that it would publish, once that is built; None like `old_epoch`.
        leased: what is linked, by plugin.
        generations: every generation that was begun, in order.
        retired: the generations to be taken out, and whether each is to be shut down, since its
            `init` succeeded: those that are replaced or removed, dependents first; or those that
            were staged and are undone, newest first.
        swaps: what happens to each plugin, once the next epoch is built.
        numbers: the numbers of the epochs that are current before and after the change.
        successors: the generations that are new, by plugin, once the next epoch is published.
        lost: by plugin, a line for each entry in the host's tables that could not be made.
    """

    __slots__ = (
        "_altering",
        "_change",
        "_epochs",
        "_reason",
        "_registering",
        "_runner",
        "_tables",
        "_was_published",
        "generations",
        "leased",
        "lost",
        "next_epoch",
        "numbers",
        "old_epoch",
        "retired",
        "successors",
        "swaps",
    )

    def __init__(
        self, change: int, epochs: EpochStore, runner: StepRunner, reason: str = ""
    ) -> None:
        self._change: Final = change
        self._reason: Final = reason
        self._epochs: Final = epochs
        self._runner: Final = runner
        self._tables: TableSuccession | None = None
        self.old_epoch: Epoch | None = None
        self.next_epoch: Epoch | None = None
        self.leased: Final[dict[str, LeasedGeneration]] = {}
        self.generations: Final[list[Generation]] = []
        self.retired: Final[dict[Generation, bool]] = {}
        self.swaps: tuple[Swap, ...] = ()
        self.numbers = (0, 0)
        self._was_published = False
        self.successors: Mapping[str, Generation] = {}
        self.lost: Final[dict[str, list[str]]] = defaultdict(list)
        self._registering: list[tuple[Generation | None, Generation | None]] = []
        self._altering: Generation | None = None

    def begin(self, base: Callable[[Epoch], Epoch] | None = None) -> None:
        """Start from the epoch that is current now, in the change's turn, or from one beside it.

        Args:
            base: returns the epoch to start from, given the current one; None for that one.
        """
        self.old_epoch = self._epochs.current if base is None else base(self._epochs.current)
        self.numbers = (self.old_epoch.number, self.old_epoch.number)
        # Before the first epoch there are no operations: a start of a thousand plugins pauses for
        # none.
        self._runner.gives_way = self.old_epoch.number > 0
        if self._runner.gives_way:
            begin_giving_way()

    @property
    def is_published(self) -> bool:
        """Whether the next epoch became current."""
        # The store itself decides, not a note beside it: a thread that is interrupted between the
        # two would roll back what every reader has.
        return self._was_published or self._epochs.current is self.next_epoch

    @property
    def old(self) -> Epoch:
        """The epoch that the change started from."""
        assert self.old_epoch is not None
        return self.old_epoch

    @property
    def built(self) -> Epoch:
        """The epoch that the change would publish."""
        assert self.next_epoch is not None
        return self.next_epoch

    def old_generation(self, plugin: str) -> Generation:
        """The active generation of a plugin."""
        return self.old.generations[plugin]

    def new_generation(self, plugin: str) -> Generation:
        """The staged generation of a plugin."""
        return self.leased[plugin].generation

    def clear(self) -> None:
        """Let go of every lease: they are published, or on their way out."""
        self.leased.clear()
        for generation in self.generations:
            generation.succeed(None)
        self._tables = None
        self.generations.clear()
        self.next_epoch = self.old_epoch = None

    def take_over(self, retire: Sequence[str]) -> None:
        """Have the new generations see the host as it is without those that retire.

        Args:
            retire: the plugins that lose their active generation.
        """
        going = [
            generation
            for generation in self._epochs.generations.live()
            if generation.state is LifecycleState.DRAINING
            or (generation.is_active and generation.plugin in retire)
        ]
        puts = [put for generation in going for put in generation.table_puts()]
        items = [item for generation in going for item in generation.table_items()]
        self._tables = TableSuccession(puts, items) if puts or items else None

    # --- bringing a plugin up ------------------------------------------------------------------

    def link(self, candidate: Candidate, step: Step) -> None:
        """Begin a generation and execute its code."""
        if candidate.manifest.dependencies:
            # Brings `importlib.metadata`, and with it the email package.
            from epochal._core.plugin.dependencies import check_distributions

            check_distributions(candidate.manifest)
        generation = Generation(
            candidate,
            self._epochs.next_number(candidate.plugin),
            self._epochs.operations,
            self._epochs.ambient,
        )
        self._epochs.generations.add(generation)
        self.generations.append(generation)
        # Before the first epoch there are no operations that compiling could hold up.
        loader = self._epochs.loaders[candidate.artifact.language]
        make_namespace = partial(loader, in_subprocess=self.old.number > 0)
        generation.prepare(make_namespace, self._required(generation))
        old = self.old.generations.get(candidate.plugin)
        if old is not None:
            generation.watch_entries(old)
        generation.succeed(self._tables)
        try:
            self._runner.call_plugin(step, generation, generation.link)
        except LinkError as error:
            error.args = (f"{error}{self._hint(error.__cause__, generation)}",)
            raise
        self.leased[generation.plugin] = generation.carry()
        self._epochs.announce(generation, LifecycleState.LOADED, LifecycleState.LINKED)

    def _hint(self, error: BaseException | None, generation: Generation) -> str:
        if error is None:
            return ""
        old = self.old.generations.get(generation.plugin)
        return hint_for(error, generation, old if old is not None and old.is_active else None)

    def _required(self, generation: Generation) -> dict[str, LeasedGeneration]:
        return {p: self.leased.get(p) or self.old.linked(p) for p in generation.requires}

    def compare(self, plugin: str, step: Step) -> None:
        """Have kinds compare the exports with those that they would replace."""
        old, new = self.old_generation(plugin), self.new_generation(plugin)
        self._runner.call_plugin(step, new, partial(_compare_exports, old, new))

    def init(self, plugin: str, step: Step) -> None:
        """Call `init`, open what kinds open, and put that among what the epoch will offer."""
        generation, old = self.new_generation(plugin), self.old.generations.get(plugin)
        try:
            self._runner.call_plugin(step, generation, partial(generation.init, old))
        except (EpochalError, Abandoned):
            raise
        except BaseException as error:
            hint = self._hint(error, generation)
            what = f"opening {generation.opening}" if generation.opening else "init()"
            raise InitError(
                f"{what} of plugin {plugin!r} raised {format_error(error)}{hint}", plugin=plugin
            ) from error
        self._epochs.announce(generation, LifecycleState.LINKED, LifecycleState.INITIALIZED)
        self._offer(generation)

    def _offer(self, generation: Generation) -> None:
        # Apart from `init`, whose frame an error in the plugin's own refers to. No local variable
        # has the lease: the traceback of an error here would keep it.
        plugin = generation.plugin
        try:
            opened = generation.wrap(self.leased[plugin].lease)
        except BaseException as error:  # noqa: BLE001  raised again, as what it is
            raise ExportError(
                f"{generation.opening} of {generation} cannot be offered: {format_error(error)}",
                plugin=plugin,
            ) from without_variables(error)
        carried = {**self.leased[plugin].carried, **opened}
        self.leased[plugin] = replace(self.leased[plugin], carried=carried)

    def withdraw(self, plugin: str) -> Sequence[str]:
        """Undo `link`, and all that came after it: the generation is on its way out."""
        for generation in self.generations:
            if generation.plugin == plugin:
                state = generation.state
                # Noted first: undone again, a generation is found draining.
                self.retired.setdefault(generation, state >= LifecycleState.INITIALIZED)
                generation.lifecycle.set(LifecycleState.DRAINING)
                self._epochs.announce(generation, state, LifecycleState.DRAINING)
        return ()

    # --- the next epoch ------------------------------------------------------------------------

    @property
    def global_kinds(self) -> set[Kind[Any]]:
        """The kinds of staged exports that have a rule over all their exports."""
        return {kind for g in self.generations for kind, _ in g.exports if kind.has_global_rule}

    def validate(self, retire: Sequence[str], _: Step) -> None:
        """Have these kinds look at all exports that would be active.

        Args:
            retire: the plugins that lose their active generation.

        Raises:
            IncompatibleError: the exports of a kind do not fit together.
        """
        stay = [g for p, g in self.old.generations.items() if p not in retire]
        exports = [e for g in (*stay, *self.generations) for e in g.exports.values()]
        for kind in self.global_kinds:
            try:
                kind.validate_together([export for export in exports if export.kind is kind])
            except BaseException as error:  # noqa: BLE001  a kind's own, of any type
                reason = reason_of(error)
                refusal = f"the exports of kind {kind.name} do not fit together: {reason}"
                raise IncompatibleError(refusal) from without_variables(error)

    def build(self, plan: Plan) -> None:
        """Make the epoch that would be published, and the list of what happens to each plugin."""
        self._runner.check_cancelled()
        self.swaps = tuple(self._planned_swaps(plan))
        retired = [self.old_generation(plugin) for plugin in plan.retire]
        self.next_epoch = self.old.successor(retired, self.leased.values())

    def _planned_swaps(self, plan: Plan) -> list[Swap]:
        new = {g.plugin: g for g in self.generations}
        old = {p: self.old_generation(p).described for p in plan.retire}
        # Dependencies first, as they came up; plugins that only go follow in the same order.
        removed = [p for p in reversed(plan.retire) if p not in new]
        return [
            *(Swap(p, old.get(p), g.described, dropped=tuple(g.dropped)) for p, g in new.items()),
            *(Swap(p, old[p], None) for p in removed),
        ]

    def publish(
        self, retire: Sequence[str], then: Callable[[Epoch, Epoch], None] | None, _: Step
    ) -> None:
        """Make the next epoch the current one. Cannot fail; runs no foreign code before it is done.

        Called again, if it was interrupted behind its store, it does the rest.

        Args:
            retire: the plugins that lose their active generation.
            then: ends the pause, given the old epoch and the new one, if there was one.
        """
        if self.next_epoch is None:
            return  # all of it was done
        old_epoch, epoch = self.old, self.next_epoch
        if not self.is_published:
            for generation in self.generations:
                generation.lifecycle.try_move(LifecycleState.INITIALIZED, LifecycleState.ACTIVE)
            # One store that readers see: they have the old epoch or the new one, whole (E1, E2).
            # The old epoch lives on in `old_epoch`, since its end may run finalizers (E6).
            self._epochs.publish(epoch)
        # After the store: a thread that still reads the old epoch must not find it draining, and a
        # change that fails before it retires what it staged alone.
        for plugin in retire:
            self.retired[old_epoch.generations[plugin]] = True
        if self._tables is not None:
            self._tables.install()
        for generation in self.retired:
            generation.lifecycle.try_move(LifecycleState.ACTIVE, LifecycleState.DRAINING)
        if then is not None:
            then(old_epoch, epoch)
        self.numbers = (old_epoch.number, epoch.number)
        self._was_published = True
        staged = self.generations.copy()
        self._note_registrations(staged)
        # The epoch holds what was staged; from here on the change must not (E4).
        self.clear()
        self._announce_commit(staged)

    # --- the host's tables ---------------------------------------------------------------------

    def _note_registrations(self, staged: Sequence[Generation]) -> None:
        self.successors = {generation.plugin: generation for generation in staged}
        for generation in staged:
            if generation.registrations is not None:
                generation.registrations.activate()
        old = {generation.plugin: generation for generation in self.retired}
        pairs = [(new, old.pop(new.plugin, None)) for new in staged]
        self._registering = [
            pair
            for pair in (*pairs, *((None, generation) for generation in old.values()))
            if any(generation is not None and generation.registrations for generation in pair)
        ]

    @property
    def registers(self) -> bool:
        """Whether entries in the host's tables come or go; known once the epoch is published."""
        return bool(self._registering)

    def register(self, step: Step) -> None:
        """Put the entries of the new generations into the host's tables, and the old ones out.

        Run again after an abandoned call, it continues with the next plugin.
        """
        while self._registering:
            # Off the list before the call: the tables' own code runs in it.
            new, old = self._registering.pop(0)
            generation = new if new is not None else old
            assert generation is not None
            self._altering = generation
            lines = self._runner.call_plugin(step, generation, partial(_register, new, old))
            self.note_lost(generation, lines)

    def give_up(self, error: BaseException) -> None:
        """Note that a table of the host's did not return; `register` goes on behind it."""
        assert self._altering is not None
        self.note_lost(self._altering, [str(error)])

    def note_lost(self, generation: Generation, lines: Sequence[str]) -> None:
        """Report entries in the host's tables that are not there."""
        if lines:
            self.lost[generation.plugin].extend(lines)
            self._epochs.events.emit(
                EntriesLost(
                    plugin=generation.plugin, generation=generation.number, lost=tuple(lines)
                )
            )

    def _announce_commit(self, staged: Sequence[Generation]) -> None:
        events = self._epochs.events
        for generation in staged:
            self._epochs.announce(generation, LifecycleState.INITIALIZED, LifecycleState.ACTIVE)
            if generation.dropped:
                dropped = tuple(generation.dropped)
                events.emit(
                    StateDropped(
                        plugin=generation.plugin, generation=generation.number, dropped=dropped
                    )
                )
        for generation in self.retired:
            self._epochs.announce(generation, LifecycleState.ACTIVE, LifecycleState.DRAINING)
        before, after = self.numbers
        events.emit(
            ChangeCommitted(
                change=self._change,
                epoch_before=before,
                epoch_after=after,
                plugins=tuple(swap.plugin for swap in self.swaps),
                swaps=self.swaps,
                reason=self._reason,
            )
        )


def _register(new: Generation | None, old: Generation | None) -> list[str]:
    before = old.registrations if old is not None else None
    if new is not None and new.registrations is not None:
        return new.registrations.put_all(before)
    return before.take_out() if before is not None else []


def _compare_exports(old: Generation, new: Generation) -> None:
    for key, before in old.exports.items():
        kind, name = key
        after = new.exports.get(key)
        refusal = f"{kind.name} {name} of {new} cannot replace that of {old}"
        try:
            if after is None:
                refusal = f"{new} cannot leave out {kind.name} {name} of {old}"
                state = kind.check_removed(before)
                new.dropped.append(f"{kind.name} {name}" + (f": {state}" if state else ""))
            else:
                kind.compare(before, after)
        except BaseException as error:  # noqa: BLE001  a kind's own, of any type
            text = f"{refusal}: {format_error(error)}"
            raise IncompatibleError(text) from without_variables(error)
    if old.entry_point("export_state") and not new.entry_point("import_state"):
        new.dropped.append(NO_IMPORT_STATE)
