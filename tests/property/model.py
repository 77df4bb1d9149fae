"""The model: the intended behaviour of a runtime as sets and dictionaries, without threads or code.

It records the active generation of each plugin and the links between generations. From these it
computes the required outcome of a change: either the change fails with one of a set of errors and
alters nothing, or it retires an exact set of generations, of which the unpinned ones are removed
when it returns.
"""

from dataclasses import dataclass, field

from tests.property.ledger import REQUIRES

from epochal.errors import (
    AlreadyLoadedError,
    IncompatibleError,
    InitError,
    LinkError,
    ManifestError,
    MissingDependencyError,
    PhaseTimeoutError,
    RequiredByError,
    UnknownPluginError,
)

STAGING = {
    "syntax": LinkError,
    "link": LinkError,
    "register": LinkError,
    "init": InitError,
    "blocks": PhaseTimeoutError,
}
"""The error of a change if a plugin of it fails at that step."""


@dataclass(frozen=True)
class PlannedChange:
    """One request to a change: a verb, and a recipe (a removal uses only its plugin)."""

    verb: str
    recipe: object
    cascade: bool = False

    @property
    def plugin(self):
        return self.recipe.plugin


@dataclass
class Model:
    """The state of the model, and the outcome of each change.

    Attributes:
        epoch: the number of the current epoch.
        active: plugin -> the number of its active generation.
        recipes: plugin -> the recipe that is active.
        deps: (plugin, number) -> the generations that it was linked with.
        draining: retired generations that are not yet known to be removed.
    """

    epoch: int = 0
    active: dict = field(default_factory=dict)
    recipes: dict = field(default_factory=dict)
    deps: dict = field(default_factory=dict)
    draining: set = field(default_factory=set)

    def refusals(self, requests):
        """The errors with which a change may fail; empty if it must commit.

        Of several faults the earliest step's decides; within a step, any of them may.
        """
        for step in (
            self._read_errors,
            self._name_errors,
            self._dependency_errors,
            self._staging_errors,
        ):
            if errors := set(step(requests)):
                return errors
        return set()

    def _read_errors(self, requests):
        for request in requests:
            if request.verb == "reload" and request.plugin not in self.active:
                yield UnknownPluginError
            elif request.verb != "remove" and request.recipe.fault == "manifest":
                yield ManifestError

    def _name_errors(self, requests):
        for request in requests:
            if request.verb == "load" and request.plugin in self.active:
                yield AlreadyLoadedError
            if request.verb == "remove" and request.plugin not in self.active:
                yield UnknownPluginError

    def _dependency_errors(self, requests):
        staged, removed = _staged(requests), self.removals(requests)
        after = (set(self.active) | staged) - removed
        if any(set(REQUIRES[plugin]) & removed for plugin in after):
            yield RequiredByError
        elif any(set(REQUIRES[plugin]) - after for plugin in after):
            yield MissingDependencyError

    def _staging_errors(self, requests):
        for request in requests:
            if request.verb != "remove":
                if request.recipe.fault in STAGING:
                    yield STAGING[request.recipe.fault]
                old = self.recipes.get(request.plugin)
                if request.verb == "reload" and old and old.number != request.recipe.number:
                    yield IncompatibleError

    def removals(self, requests):
        """The plugins that the change removes."""
        removed = {request.plugin for request in requests if request.verb == "remove"}
        cascading = {r.plugin for r in requests if r.verb == "remove" and r.cascade}
        return removed | (_with_dependents(cascading) & set(self.active)) - _staged(requests)

    def renewals(self, requests):
        """The plugins that get a new generation: the requested ones, and their dependents."""
        staged, removed = _staged(requests), self.removals(requests)
        return (staged | _with_dependents(staged) & set(self.active)) - removed

    def commit(self, requests, numbers):
        """Record a published change.

        Args:
            requests: the requests of the change.
            numbers: plugin -> the number of its new generation.

        Returns:
            The generations that it retired.
        """
        removed = self.removals(requests)
        retired = {
            (plugin, self.active[plugin])
            for plugin in removed | set(numbers)
            if plugin in self.active
        }
        for plugin in removed:
            del self.active[plugin], self.recipes[plugin]
        self.active |= numbers
        self.recipes |= {
            request.plugin: request.recipe for request in requests if request.verb != "remove"
        }
        for plugin, number in numbers.items():
            self.deps[plugin, number] = {(name, self.active[name]) for name in REQUIRES[plugin]}
        self.draining |= retired
        self.epoch += 1
        return retired

    def in_use(self, pins):
        """The pinned generations, and those that they were linked with, transitively."""
        in_use, todo = set(), list(pins)
        while todo:
            generation = todo.pop()
            if generation not in in_use:
                in_use.add(generation)
                todo.extend(self.deps[generation])
        return in_use

    def identity(self, plugin, number):
        """A generation's expected answer: its identity, and that of each linked generation."""
        linked = dict(self.deps[plugin, number])
        return (plugin, number, tuple(self.identity(n, linked[n]) for n in REQUIRES[plugin]))


def _staged(requests):
    return {request.plugin for request in requests if request.verb != "remove"}


def _with_dependents(plugins):
    """These plugins and all that require them, directly or not."""
    above = set(plugins)
    for plugin, required in REQUIRES.items():  # in dependency order
        if above & set(required):
            above.add(plugin)
    return above
