"""The model: what a runtime is supposed to be, as sets and dictionaries, without threads or code.

It knows which generation of each plugin is active, which generations each holder pins, and what a
change must therefore do: fail with one of these errors and alter nothing, or retire exactly these
generations, of which exactly those that nobody pins are gone when it returns.
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
"""The error of a plugin that goes wrong there."""


@dataclass(frozen=True)
class PlannedChange:
    """One thing asked of a change: a verb, and a recipe (a removal uses only its plugin)."""

    verb: str
    recipe: object
    cascade: bool = False

    @property
    def plugin(self):
        return self.recipe.plugin


@dataclass
class Model:
    """The plain state.

    Attributes:
        epoch: the number of the current epoch.
        active: plugin -> the number of its active generation.
        recipes: plugin -> the recipe that is active.
        deps: (plugin, number) -> the generations that it was linked with.
        draining: generations that are out of the current epoch and not known to be gone.
    """

    epoch: int = 0
    active: dict = field(default_factory=dict)
    recipes: dict = field(default_factory=dict)
    deps: dict = field(default_factory=dict)
    draining: set = field(default_factory=set)

    def refusals(self, wishes):
        """The errors that may answer a change; empty if it must be committed.

        Of several faults it is the earliest step's that answers; within a step, any of them.
        """
        for step in (self._unread, self._impossible, self._unfit, self._unstaged):
            if errors := set(step(wishes)):
                return errors
        return set()

    def _unread(self, wishes):
        for wish in wishes:
            if wish.verb == "reload" and wish.plugin not in self.active:
                yield UnknownPluginError
            elif wish.verb != "remove" and wish.recipe.fault == "manifest":
                yield ManifestError

    def _impossible(self, wishes):
        for wish in wishes:
            if wish.verb == "load" and wish.plugin in self.active:
                yield AlreadyLoadedError
            if wish.verb == "remove" and wish.plugin not in self.active:
                yield UnknownPluginError

    def _unfit(self, wishes):
        staged, removed = _staged(wishes), self.removals(wishes)
        after = (set(self.active) | staged) - removed
        if any(set(REQUIRES[plugin]) & removed for plugin in after):
            yield RequiredByError
        elif any(set(REQUIRES[plugin]) - after for plugin in after):
            yield MissingDependencyError

    def _unstaged(self, wishes):
        for wish in wishes:
            if wish.verb != "remove":
                if wish.recipe.fault in STAGING:
                    yield STAGING[wish.recipe.fault]
                old = self.recipes.get(wish.plugin)
                if wish.verb == "reload" and old and old.number != wish.recipe.number:
                    yield IncompatibleError

    def removals(self, wishes):
        """The plugins that go for good."""
        removed = {wish.plugin for wish in wishes if wish.verb == "remove"}
        cascading = {wish.plugin for wish in wishes if wish.verb == "remove" and wish.cascade}
        return removed | (_above(cascading) & set(self.active)) - _staged(wishes)

    def renewals(self, wishes):
        """The plugins that get a new generation: those named, and those linked again with them."""
        staged, removed = _staged(wishes), self.removals(wishes)
        return (staged | _above(staged) & set(self.active)) - removed

    def commit(self, wishes, numbers):
        """A change was published; `numbers` are those of the new generations.

        Returns:
            The generations that it retired.
        """
        removed = self.removals(wishes)
        retired = {
            (plugin, self.active[plugin])
            for plugin in removed | set(numbers)
            if plugin in self.active
        }
        for plugin in removed:
            del self.active[plugin], self.recipes[plugin]
        self.active |= numbers
        self.recipes |= {wish.plugin: wish.recipe for wish in wishes if wish.verb != "remove"}
        for plugin, number in numbers.items():
            self.deps[plugin, number] = {(name, self.active[name]) for name in REQUIRES[plugin]}
        self.draining |= retired
        self.epoch += 1
        return retired

    def in_use(self, pins):
        """What the pinned generations keep: themselves, and those that they were linked with."""
        found, todo = set(), list(pins)
        while todo:
            generation = todo.pop()
            if generation not in found:
                found.add(generation)
                todo.extend(self.deps[generation])
        return found

    def who(self, plugin, number):
        """What that generation must say of itself and of whoever computes for it."""
        linked = dict(self.deps[plugin, number])
        return (plugin, number, tuple(self.who(n, linked[n]) for n in REQUIRES[plugin]))


def _staged(wishes):
    return {wish.plugin for wish in wishes if wish.verb != "remove"}


def _above(plugins):
    """These and all that require them, however indirectly."""
    found = set(plugins)
    for plugin, required in REQUIRES.items():  # in dependency order
        if found & set(required):
            found.add(plugin)
    return found
