"""The plan of a change: its steps, in order, made before any of them runs.

A pure function: the active plugins and what is asked for go in, an ordered plan comes out, or an
error that names every plugin concerned. Nothing is loaded, run or altered here, so a plan can be
printed and tested, and is the same for a dry run as for a real one.

Plugins come up in the order of their dependencies and go down in its reverse. A plugin whose
dependency changes is *re-linked*: it gets a new generation of its own in the same change, so no
generation ever holds an export of a generation from another epoch (E3).

Only plugins that a change can affect are looked at: those it names, and those that require them,
however indirectly. Among ten thousand plugins a reload of one that no other requires looks at one.

The steps of a plan list the work in its order; `sequence` makes them run.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any

from epochal._core.plugin.artifact import shown
from epochal.errors import (
    AlreadyLoadedError,
    DependencyCycleError,
    HostError,
    IncompatibleError,
    MissingDependencyError,
    RequiredByError,
    SourceConflictError,
    UnknownPluginError,
    VersionConflictError,
)
from epochal.report import StepName

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.plugin.manifest import Manifest


class Verb(StrEnum):
    """What the host asks for."""

    # A plugin that is not active yet.
    LOAD = "load"
    # A new generation of an active plugin.
    RELOAD = "reload"
    # An active plugin goes.
    REMOVE = "remove"


COMMITS = frozenset({StepName.PAUSE, StepName.JOURNAL, StepName.PUBLISH})
"""The steps that a dry run stops before."""

STAYS_ASIDE = COMMITS | {StepName.CHECK, StepName.CLOSE, StepName.HAND_OVER}
"""The steps that a stage stops before: it moves no state, and no host is asked about it."""

RETIRES = frozenset({StepName.DRAIN, StepName.SHUTDOWN, StepName.RECLAIM})
"""The steps of a generation's way out; they run as its last use allows: see `retirement`."""


@dataclass(slots=True)
class Deadline:
    """How long plugin code may take.

    Attributes:
        limit_s: seconds; None for ever.
        is_cancellable: whether a change that is cancelled gives the code up. Undoing is not
            cancellable.
    """

    limit_s: float | None
    is_cancellable: bool = True
    _started: float | None = None

    def start(self) -> None:
        """Run from now on, for several steps together; otherwise each step has all of it."""
        self._started = perf_counter()

    @property
    def spent_s(self) -> float:
        """The seconds since its start; 0 if it was not started."""
        return 0.0 if self._started is None else perf_counter() - self._started

    @property
    def left_s(self) -> float | None:
        """The seconds that are left for a step that begins now; None for ever."""
        return None if self.limit_s is None else max(0.0, self.limit_s - self.spent_s)


def _unbound(step: Step) -> None:
    raise NotImplementedError(f"{step} was planned, and not made to run")


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a change.

    Attributes:
        name: what it does.
        plugin: the plugin that it concerns; empty for none.
        detail: the rest of its line.
        do: runs it. It may return further steps, which follow at once.
        undo: takes back what `do` did, however far that came; None if there is nothing to undo.
            Returns what went wrong, a line each.
        deadline: how long the plugin code in it may take; None for a step of our own code.
        is_needed: asked when the step's turn has come; a step that is not needed is left out.
    """

    name: StepName
    plugin: str = ""
    detail: str = ""
    do: Callable[[Step], Any] = _unbound
    undo: Callable[[], Sequence[str]] | None = None
    deadline: Deadline | None = None
    is_needed: Callable[[], bool] = _always

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.plugin, self.detail) if part)


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One thing that the host asked for.

    Attributes:
        verb: what to do.
        plugin: with which plugin.
        candidate: the new version, for a load or a reload.
        cascade: for a removal: take along the plugins that require it.
    """

    verb: Verb
    plugin: str
    candidate: Candidate | None = None
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """An ordered change.

    Attributes:
        stage: the candidates to bring up, dependencies first.
        retire: the plugins that lose their active generation, dependents first.
        steps: all that is done, in order; not made to run yet.
        stops_first: whether the plugins that it retires are shut down before others come up.
    """

    stage: tuple[Candidate, ...]
    retire: tuple[str, ...]
    steps: tuple[Step, ...]
    stops_first: bool = False

    def __str__(self) -> str:
        return "\n".join(f"{n}. {step}" for n, step in enumerate(self.steps, 1))


def plan_change(
    epoch: Epoch,
    asked: Sequence[PlannedChange],
    hosts: Sequence[str] = (),
    *,
    journal: bool = False,
) -> Plan:
    """Order a change, or refuse it.

    Args:
        epoch: what is active.
        asked: what is asked for; the order among them does not matter.
        hosts: the names of the hosts that take part in the change.
        journal: whether the next epoch is stored.

    Raises:
        HostError: a plugin that is named twice, a load of one that is active
            (`AlreadyLoadedError`), a reload or removal of one that is not (`UnknownPluginError`).
        DependencyError: the plugins would not fit together; the message names those concerned.
        IncompatibleError: a plugin is to be stopped first, and has exports that move from its old
            version to its new one.
    """
    _check_asked(epoch, asked)
    staged = {change.plugin: change.candidate for change in asked if change.candidate is not None}
    requiring = _requiring(epoch, staged)
    removed = _removals(asked, staged, requiring)
    affected = _closure([*staged, *removed], requiring)
    for plugin in affected - removed:
        if plugin not in staged:
            staged[plugin] = epoch.generations[plugin].candidate
    _check_fit(epoch, staged, removed)
    up = _order(staged)
    down = tuple(reversed(_order(_active(epoch, affected))))
    stage = tuple(staged[plugin] for plugin in up)
    named = {change.plugin for change in asked}
    if _stops_first(epoch, staged, down):
        _check_stop(epoch, staged, down)
        steps = [*_stop_steps(epoch, down)]
        steps += (
            s for s in _staging_steps(epoch, staged, up, named) if s.name not in _SIDE_BY_SIDE
        )
        steps += _commit_steps(epoch, (), hosts, journal=journal)
        steps += (retirement_steps(epoch.generations[plugin])[-1] for plugin in down)
        return Plan(stage, down, tuple(steps), stops_first=True)
    steps = [*_staging_steps(epoch, staged, up, named)]
    steps += _commit_steps(epoch, up, hosts, journal=journal)
    for plugin in down:
        steps += retirement_steps(epoch.generations[plugin])
    return Plan(stage, down, tuple(steps))


_SIDE_BY_SIDE = frozenset({StepName.COMPARE, StepName.MATCH})


def _stops_first(epoch: Epoch, staged: Mapping[str, Candidate], down: Sequence[str]) -> bool:
    """Whether what goes is to be shut down before something comes: either version may say so."""
    candidates = [epoch.generations[plugin].candidate for plugin in down]
    candidates += [staged[plugin] for plugin in down if plugin in staged]
    return bool(staged) and any(candidate.manifest.stops_first for candidate in candidates)


def _check_stop(epoch: Epoch, staged: Mapping[str, Candidate], down: Sequence[str]) -> None:
    for plugin in down:
        for kind, name in epoch.generations[plugin].exports:
            if plugin in staged and kind.needs_both:
                raise IncompatibleError(
                    f"plugin {plugin!r} would be stopped before its new version starts (its "
                    f'manifest, or that of a plugin that it requires, says handover = "stop-first"'
                    f"), but {kind.name} {name} needs both versions side by side; export it from "
                    "another plugin"
                )


def _stop_steps(epoch: Epoch, down: Sequence[str]) -> Iterator[Step]:
    yield Step(StepName.PAUSE, detail=f"calls of {', '.join(down)}")
    stopped = ", ".join(
        f"{plugin} generation {epoch.generations[plugin].number}" for plugin in down
    )
    yield Step(StepName.STOP, detail=stopped)


def _check_asked(epoch: Epoch, asked: Sequence[PlannedChange]) -> None:
    for plugin, count in Counter(change.plugin for change in asked).items():
        if count > 1:
            sources = _sources_of(plugin, asked)
            if len(sources) > 1:
                raise SourceConflictError(plugin, sources)
            raise HostError(
                f"plugin {plugin!r} is named {count} times in one change; once is enough"
            )
    for change in asked:
        if change.verb is Verb.LOAD:
            if change.plugin in epoch.generations:
                raise AlreadyLoadedError(change.plugin)
        elif change.plugin not in epoch.generations:
            raise UnknownPluginError(change.plugin, sorted(epoch.generations))


def _sources_of(plugin: str, asked: Sequence[PlannedChange]) -> list[str]:
    """The different paths that a plugin is to be loaded from."""
    candidates = [change.candidate for change in asked if change.plugin == plugin]
    origins = [candidate.artifact.origin for candidate in candidates if candidate is not None]
    return list(dict.fromkeys(shown(origin) for origin in origins if origin is not None))


def _requiring(epoch: Epoch, staged: Mapping[str, Candidate]) -> Callable[[str], frozenset[str]]:
    """The plugins that will require a plugin once the staged versions are in, for any plugin."""
    dependents: dict[str, set[str]] = {}
    for plugin, candidate in staged.items():
        for required in _required(candidate.manifest):
            dependents.setdefault(required, set()).add(plugin)
    renewed = frozenset(staged)
    return lambda plugin: (epoch.requiring(plugin) - renewed) | dependents.get(plugin, set())


def _removals(
    asked: Sequence[PlannedChange],
    staged: Mapping[str, Candidate],
    requiring: Callable[[str], frozenset[str]],
) -> set[str]:
    """All plugins that go; refuses to leave a plugin without one that it requires."""
    removals = [change for change in asked if change.verb is Verb.REMOVE]
    removed = {removal.plugin for removal in removals}
    for removal in removals:
        if removal.cascade:
            removed |= _closure([removal.plugin], requiring) - staged.keys()
    for removal in removals:
        if left := requiring(removal.plugin) - removed:
            raise RequiredByError(removal.plugin, sorted(left))
    return removed


def _closure(seeds: Iterable[str], follow: Callable[[str], Iterable[str]]) -> set[str]:
    reached: set[str] = set()
    todo = list(seeds)
    while todo:
        plugin = todo.pop()
        if plugin not in reached:
            reached.add(plugin)
            todo.extend(follow(plugin))
    return reached


def _check_fit(epoch: Epoch, staged: Mapping[str, Candidate], removed: set[str]) -> None:
    """Refuse a change after which a staged plugin lacks one that it requires."""
    missing: list[str] = []
    unsatisfied: list[str] = []
    for plugin, candidate in staged.items():
        for requirement in candidate.manifest.requires:
            manifest = _manifest(epoch, staged, removed, requirement.plugin)
            needs = f"plugin {plugin!r} ({candidate.manifest.version}) requires {requirement}"
            if manifest is None:
                missing.append(f"{needs}, which is not active and not part of this change")
            elif not requirement.specifier.contains(manifest.version, prereleases=True):
                unsatisfied.append(f"{needs}, but {manifest.id!r} would be {manifest.version}")
    if missing:
        raise MissingDependencyError("; ".join(missing))
    if unsatisfied:
        raise VersionConflictError("; ".join(unsatisfied))


def _manifest(
    epoch: Epoch, staged: Mapping[str, Candidate], removed: set[str], plugin: str
) -> Manifest | None:
    if plugin in staged:
        return staged[plugin].manifest
    if plugin in removed or plugin not in epoch.generations:
        return None
    return epoch.generations[plugin].candidate.manifest


def _active(epoch: Epoch, plugins: Iterable[str]) -> dict[str, Candidate]:
    generations = epoch.generations
    return {p: generations[p].candidate for p in plugins if p in generations}


def _required(manifest: Manifest) -> frozenset[str]:
    return frozenset(requirement.plugin for requirement in manifest.requires)


def _order(candidates: Mapping[str, Candidate]) -> list[str]:
    """Dependencies first, by name where they leave a choice; requirements outside are ignored."""
    ordered: list[str] = []
    placed: set[str] = set()
    for seed in sorted(candidates):
        _place(seed, candidates, placed, ordered)
    return ordered


def _place(
    seed: str, candidates: Mapping[str, Candidate], placed: set[str], ordered: list[str]
) -> None:
    """Depth first, with its own stack: a chain of dependencies may be longer than Python's."""
    path: dict[str, None] = {}  # ordered, and quick to search
    stack: list[tuple[str, bool]] = [(seed, False)]
    while stack:
        plugin, leaving = stack.pop()
        if leaving:
            path.popitem()
            placed.add(plugin)
            ordered.append(plugin)
        elif plugin in path:
            circle = list(path)
            raise DependencyCycleError(circle[circle.index(plugin) :])
        elif plugin not in placed:
            path[plugin] = None
            stack.append((plugin, True))
            required = _required(candidates[plugin].manifest)
            stack.extend((p, False) for p in sorted(required, reverse=True) if p in candidates)


def _staging_steps(
    epoch: Epoch, staged: Mapping[str, Candidate], up: Iterable[str], named: Collection[str]
) -> Iterator[Step]:
    for plugin in up:
        new, old = staged[plugin].manifest.version, epoch.generations.get(plugin)
        if old is None:
            yield Step(StepName.LINK, plugin, f"{new}, new")
            yield Step(StepName.INIT, plugin)
            continue
        if plugin in named:
            detail = f"{old.version} -> {new}"
        else:
            changed = sorted(_required(staged[plugin].manifest) & staged.keys())
            detail = f"{new} again, because it requires {', '.join(changed)}"
        yield Step(StepName.LINK, plugin, detail)
        if old.exports or old.keeps_state:
            yield Step(StepName.COMPARE, plugin, f"with generation {old.number}")
        yield Step(StepName.INIT, plugin)
        if old.keeps_state:
            # Must precede the next plugin's init, which may already call this plugin and has to
            # reach the generation that has the state.
            yield Step(StepName.MATCH, plugin, f"with what generation {old.number} keeps")


def _commit_steps(
    epoch: Epoch, up: Iterable[str], hosts: Iterable[str], *, journal: bool
) -> Iterator[Step]:
    successor = f"epoch {epoch.number + 1}"
    yield Step(StepName.VALIDATE, detail="exports of all plugins together")
    yield Step(StepName.BUILD, detail=successor)
    for host in hosts:
        yield Step(StepName.CHECK, detail=f"{successor} by {host}")
    generations = epoch.generations
    keeping = [plugin for plugin in up if plugin in generations and generations[plugin].keeps_state]
    if keeping:
        yield Step(StepName.CLOSE, detail=f"of {', '.join(keeping)}")
    for plugin in keeping:
        yield Step(
            StepName.HAND_OVER, plugin, f"what generation {generations[plugin].number} keeps"
        )
    if journal:
        yield Step(StepName.JOURNAL, detail=successor)
    yield Step(StepName.PUBLISH, detail=successor)


def retirement_steps(generation: Generation) -> tuple[Step, Step, Step]:
    """The way out of a generation; not made to run yet."""
    drain = Step(StepName.DRAIN, generation.plugin, f"generation {generation.number}")
    return drain, replace(drain, name=StepName.SHUTDOWN), replace(drain, name=StepName.RECLAIM)
