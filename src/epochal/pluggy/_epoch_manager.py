"""A view: pluggy's manager over one epoch, built once for it and never altered.

pluggy's manager and its callers refer to each other, so it would hold the epoch's functions until a
collection. The callers of a view refer to a `Runner` instead, which the program's manager shares
with all its views and which refers to none: a view goes when the last who uses it lets it go, and a
caller, or a bound method of it, that was taken out goes on with the functions that it was taken
with. Nor does a view keep the program's manager: an epoch has views, and outlives managers.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from epochal._core.generation.epoch import Epoch
    from epochal.pluggy._marks import Project

    Place = tuple[int, int, int]


class Implementations:
    """What is registered with pluggy for one generation: its functions, as attributes.

    Attributes:
        __name__: the plugin's id.
    """

    __slots__ = ("__dict__", "__weakref__", "_hooks", "number", "plugin")

    def __init__(self, plugin: str, number: int, hooks: Mapping[str, str]) -> None:
        self.plugin: Final = plugin
        self.number: Final = number
        # Attribute -> hook, where a second function of one hook was given a number.
        self._hooks: Final = {name: hook for name, hook in hooks.items() if name != hook}
        vars(self)["__name__"] = plugin

    def hook_of(self, name: str) -> str | None:
        """Which hook an attribute implements, if that is not its name."""
        return self._hooks.get(name)

    def __repr__(self) -> str:
        return f"<plugin {self.plugin}#{self.number}>"


@dataclass(frozen=True, slots=True, eq=False)
class Registered:
    """An object of the host's own, with its place among the plugins.

    Attributes:
        name: what it is registered under.
        plugin: the object; compared by identity, whatever it says of itself.
        place: behind the plugins of the epoch that was current, before those that came later.
    """

    name: str
    plugin: Any
    place: Place


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What the host has told its manager; replaced whole.

    Attributes:
        version: counts up.
        specs: the namespaces of specifications.
        hosts: the host's own objects.
        blocked: names that do not take part.
    """

    version: int = 0
    specs: tuple[Any, ...] = ()
    hosts: tuple[Registered, ...] = ()
    blocked: tuple[str, ...] = ()


class NameTakenError(ValueError):
    """A plugin of the runtime and an object of the host's have one name; `plugin` is that."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        super().__init__(
            f"{plugin!r} is the id of a plugin of the runtime, and the name of an object that the "
            "host registered: register the object under another name, or unregister it"
        )


class Runner:
    """Runs the calls of a manager's views.

    Attributes:
        inner: does it; replaced by pluggy's `add_hookcall_monitoring`, and by the undoing of it.
    """

    __slots__ = ("inner",)

    def __init__(self) -> None:
        self.inner: Callable[..., Any]

    def run(self, name: str, methods: Any, kwargs: Any, firstresult: bool) -> Any:
        """What pluggy's callers call, as they call it."""
        return self.inner(name, methods, kwargs, firstresult)


class View(pluggy.PluginManager):
    """pluggy's manager with the given plugins registered, in order.

    Args:
        owner: the program's manager: parses marks.
        runner: runs calls.
        state: specifications and blocked names.
        plugins: names and objects, in the order of their registration.
        base: an older view: what was verified in it is not verified again, nor warned of.
        verify: whether to verify at all.

    Raises:
        PluginValidationError, ValueError: as pluggy.
    """

    def __init__(
        self,
        owner: pluggy.PluginManager,
        runner: Runner,
        state: State,
        plugins: Iterable[tuple[str, Any]],
        *,
        base: View | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(owner.project_name)
        # Not a method of this view: its callers keep what is here.
        vars(self)["_hookexec"] = runner.run
        self.version: Final = state.version
        self._owner: Final = weakref.ref(owner)
        self._base = base
        self._verifies: Final = verify
        for namespace in state.specs:
            self.add_hookspecs(namespace)
        for name in state.blocked:
            self.set_blocked(name)
        for name, plugin in plugins:
            self.register(plugin, name)
        self._base = None  # or each view would keep the one before

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """As the program's manager does it; a numbered function implements its hook."""
        options = self._parser.parse_hookimpl_opts(plugin, name)
        if options is not None and isinstance(plugin, Implementations):
            hook = plugin.hook_of(name)
            if hook is not None and not options.get("specname"):
                return {**options, "specname": hook}
        return options

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        """As the program's manager does it."""
        return self._parser.parse_hookspec_opts(module_or_class, name)

    @property
    def _parser(self) -> pluggy.PluginManager:
        owner = self._owner()
        assert owner is not None  # it is what builds the view
        return owner

    def _verify_hook(self, hook: Any, hookimpl: Any) -> None:
        if self._verifies and not self._is_verified(hook, hookimpl):
            super()._verify_hook(hook, hookimpl)

    def _is_verified(self, hook: Any, hookimpl: Any) -> bool:
        base = self._base
        if base is None or base.get_plugin(hookimpl.plugin_name) is not hookimpl.plugin:
            return False
        before = getattr(base.hook, hook.name, None)
        return before is not None and before.has_spec()


def members(
    kind: Project, epoch: Epoch, state: State, *, base: View | None, strict: bool
) -> list[tuple[str, Any]]:
    """Who takes part in an epoch, in the order in which they came: names and objects.

    A reload keeps a plugin's place; the host's own objects stand where they were registered.

    Args:
        kind: the project's.
        epoch: whose plugins.
        state: the host's objects, and what is blocked.
        base: an older view, whose objects are taken where the generation is the same.
        strict: refuse a name that is taken twice; if not, the plugin of the epoch has it.

    Raises:
        NameTakenError: a name is taken twice.
    """
    index = {plugin: place for place, plugin in enumerate(epoch.generations)}
    found: list[tuple[Place, str, Any]] = [
        ((epoch.since[plugin], 0, index[plugin]), plugin, implementations)
        for plugin, implementations in _by_plugin(kind, epoch, base)
        if plugin not in state.blocked
    ]
    plugins = {plugin for _, plugin, _ in found}
    for host in state.hosts:
        if host.name not in plugins:
            found.append((host.place, host.name, host.plugin))
        elif strict:
            raise NameTakenError(host.name)
    found.sort(key=lambda member: member[0])
    return [(name, plugin) for _, name, plugin in found]


def _by_plugin(
    kind: Project, epoch: Epoch, base: View | None
) -> Iterator[tuple[str, Implementations]]:
    functions: dict[str, dict[str, Any]] = {}
    for full, function in epoch[kind].items():
        plugin, _, short = full.partition(".")
        functions.setdefault(plugin, {})[short] = function
    for plugin, found in functions.items():
        number = epoch.generations[plugin].number
        known = base.get_plugin(plugin) if base is not None else None
        if not isinstance(known, Implementations) or known.number != number:
            exports = epoch.generations[plugin].exports
            hooks = {
                one: exports[kind, f"{plugin}.{one}"].options.get("hook", one) for one in found
            }
            known = Implementations(plugin, number, hooks)
            vars(known).update(found)
        yield plugin, known
