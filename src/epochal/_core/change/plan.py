"""What a change would do, worked out before any of it is done.

A pure function: the active plugins and the wishes go in, an ordered plan comes out, or an error
that names every plugin concerned. Nothing is loaded, run or altered here, which is what makes a
plan printable, testable, and the same for a dry run as for a real one.

The order is the dependencies' order for what comes up, and its reverse for what goes down. A plugin
whose dependency changes is *re-linked*: it gets a new generation of its own in the same change, so
no generation ever holds an export of a generation from another epoch.

Only what a change can affect is looked at: the plugins it names and whoever requires them, however
indirectly. Among ten thousand plugins a reload of one that nobody requires looks at one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from epochal.errors import (
    AlreadyLoadedError,
    DependencyCycleError,
    HostError,
    MissingDependencyError,
    RequiredByError,
    UnknownPluginError,
    VersionConflictError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.plugin.manifest import Manifest


class Verb(Enum):
    """What a wish asks for."""

    # A plugin that is not active yet.
    LOAD = "load"
    # A new generation of an active plugin.
    RELOAD = "reload"
    # An active plugin goes.
    REMOVE = "remove"


class Action(Enum):
    """One step of a plan."""

    # Execute the plugin's code, check its exports.
    LINK = "link"
    # Compare each export that both versions have.
    COMPARE = "compare"
    # Call init().
    INIT = "init"
    # Give the new generation what the old one keeps.
    HAND_OVER = "hand over"
    # Store the new epoch: the instant of the change.
    PUBLISH = "publish"
    # Wait for the old generation's last use, then shut it down.
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One thing that the host asked for.

    Attributes:
        verb: what to do.
        plugin: with which plugin.
        candidate: the new version, for a load or a reload.
        cascade: for a removal: take along those that require it.
    """

    verb: Verb
    plugin: str
    candidate: Candidate | None = None
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as a person reads it."""

    action: Action
    plugin: str
    detail: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.action.value, self.plugin, self.detail) if part)


@dataclass(frozen=True, slots=True)
class Plan:
    """An ordered change.

    Attributes:
        stage: the candidates to bring up, dependencies first.
        retire: the plugins whose active generation goes, dependents first.
        steps: all of it, a line each.
    """

    stage: tuple[Candidate, ...]
    retire: tuple[str, ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "\n".join(f"{n}. {step}" for n, step in enumerate(self.steps, 1))


def plan_change(epoch: Epoch, wishes: Sequence[PlannedChange]) -> Plan:
    """Order a change, or refuse it.

    Args:
        epoch: what is active.
        wishes: what is asked for; the order among them does not matter.

    Raises:
        HostError: a plugin that is named twice, a load of what is active (`AlreadyLoadedError`), a
            reload or removal of what is not (`UnknownPluginError`).
        DependencyError: the plugins would not fit together; the message names those concerned.
    """
    _check_wishes(epoch, wishes)
    staged = {wish.plugin: wish.candidate for wish in wishes if wish.candidate is not None}
    requiring = _requiring(epoch, staged)
    removed = _removals(wishes, staged, requiring)
    affected = _closure([*staged, *removed], requiring)
    for plugin in affected - removed:
        if plugin not in staged:
            staged[plugin] = epoch.generations[plugin].candidate
    _check_fit(epoch, staged, removed)
    up = _order(staged)
    down = tuple(p for p in reversed(_order(_active(epoch, affected))))
    named = {wish.plugin for wish in wishes}
    return Plan(
        stage=tuple(staged[plugin] for plugin in up),
        retire=down,
        steps=tuple(_steps(epoch, staged, up, down, named)),
    )


def _check_wishes(epoch: Epoch, wishes: Sequence[PlannedChange]) -> None:
    for plugin, count in Counter(wish.plugin for wish in wishes).items():
        if count > 1:
            raise HostError(
                f"plugin {plugin!r} is named {count} times in one change; once is enough"
            )
    for wish in wishes:
        if wish.verb is Verb.LOAD:
            if wish.plugin in epoch.generations:
                raise AlreadyLoadedError(wish.plugin)
        elif wish.plugin not in epoch.generations:
            raise UnknownPluginError(wish.plugin, sorted(epoch.generations))


def _requiring(epoch: Epoch, staged: Mapping[str, Candidate]) -> Callable[[str], frozenset[str]]:
    """Who will require a plugin once the staged versions are in."""
    wanting: dict[str, set[str]] = {}
    for plugin, candidate in staged.items():
        for required in _required(candidate.manifest):
            wanting.setdefault(required, set()).add(plugin)
    renewed = frozenset(staged)
    return lambda plugin: (epoch.requiring(plugin) - renewed) | wanting.get(plugin, set())


def _removals(
    wishes: Sequence[PlannedChange],
    staged: Mapping[str, Candidate],
    requiring: Callable[[str], frozenset[str]],
) -> set[str]:
    """Everything that goes; refuses to leave a plugin without what it requires."""
    goers = [wish for wish in wishes if wish.verb is Verb.REMOVE]
    removed = {wish.plugin for wish in goers}
    for wish in goers:
        if wish.cascade:
            removed |= _closure([wish.plugin], requiring) - staged.keys()
    for wish in goers:
        if left := requiring(wish.plugin) - removed:
            raise RequiredByError(wish.plugin, sorted(left))
    return removed


def _closure(seeds: Iterable[str], follow: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(seeds)
    while todo:
        plugin = todo.pop()
        if plugin not in found:
            found.add(plugin)
            todo.extend(follow(plugin))
    return found


def _check_fit(epoch: Epoch, staged: Mapping[str, Candidate], removed: set[str]) -> None:
    """Every staged plugin (re-linked dependents are staged) finds what it requires."""
    missing: list[str] = []
    unsatisfied: list[str] = []
    for plugin, candidate in staged.items():
        for requirement in candidate.manifest.requires:
            found = _version(epoch, staged, removed, requirement.plugin)
            needs = f"plugin {plugin!r} ({candidate.manifest.version}) requires {requirement}"
            if found is None:
                missing.append(f"{needs}, which is not active and not part of this change")
            elif not requirement.specifier.contains(found.version, prereleases=True):
                unsatisfied.append(f"{needs}, but {found.id!r} would be {found.version}")
    if missing:
        raise MissingDependencyError("; ".join(missing))
    if unsatisfied:
        raise VersionConflictError("; ".join(unsatisfied))


def _version(
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


def _steps(
    epoch: Epoch,
    staged: Mapping[str, Candidate],
    up: Sequence[str],
    down: Sequence[str],
    named: set[str],
) -> Iterable[Step]:
    generations = epoch.generations
    for plugin in up:
        new = staged[plugin].manifest.version
        old = generations.get(plugin)
        if old is None:
            detail = f"{new}, new"
        elif plugin in named:
            detail = f"{old.version} -> {new}"
        else:
            changed = sorted(_required(staged[plugin].manifest) & staged.keys())
            detail = f"{new} again, because it requires {', '.join(changed)}"
        yield Step(Action.LINK, plugin, detail)
        if old is not None:
            yield Step(Action.COMPARE, plugin, f"with generation {old.number}")
        yield Step(Action.INIT, plugin, "")
    for plugin in up:
        old = generations.get(plugin)
        if old is not None and old.keeps_state:
            yield Step(Action.HAND_OVER, plugin, f"what generation {old.number} keeps")
    yield Step(Action.PUBLISH, "", f"epoch {epoch.number + 1}")
    for plugin in down:
        yield Step(Action.RETIRE, plugin, f"generation {generations[plugin].number}, when unused")
