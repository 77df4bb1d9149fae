"""An epoch manager: pluggy's manager over one epoch, built once for it.

The plugins in it are those of the epoch, for good. Objects of the host come and go in it, one at a
time, as in pluggy (`ValidatedObject`); a call that runs has its own list of implementations.

pluggy's manager and its callers refer to each other: the cycle would hold the epoch's functions
until a collection. The callers of an epoch manager refer to a `Runner` instead, which the program's
manager shares with all its epoch managers, and which refers to none. An epoch manager therefore
dies with its last reference, and a caller that was taken out of it, or a bound method of one, goes
on with its functions. Nor does an epoch manager refer to the program's manager, except weakly:
epochs outlive managers.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from epochal import Epoch, Generation
    from epochal.pluggy._marks import HookimplKind

    Place = tuple[int, int, int]


class Implementations:
    """The object registered with pluggy for one generation.

    Its attributes are the functions of its hooks, which hold the generation in use, and else those
    of the plugin's module: `__file__`, `__version__`, `__name__`, helpers.

    Args:
        generation: the generation.
        hooks: attribute -> hook; the second function of one hook has a numbered attribute.
        functions: attribute -> function.
    """

    __slots__ = ("__dict__", "__weakref__", "_generation", "_hooks", "number", "plugin")

    def __init__(
        self, generation: Generation, hooks: Mapping[str, str], functions: Mapping[str, Any]
    ) -> None:
        self.plugin: Final = generation.plugin
        self.number: Final = generation.number
        self._generation: Final = generation
        self._hooks: Final = {name: hook for name, hook in hooks.items() if name != hook}
        vars(self).update(functions)

    def hook_of(self, name: str) -> str | None:
        """The hook that an attribute implements, if it is not named like that hook."""
        return self._hooks.get(name)

    def __getattr__(self, name: str) -> Any:
        module = self._generation.module
        if module is None:
            raise AttributeError(f"{self!r} has no {name!r}: it was shut down")
        return getattr(module, name)

    def __repr__(self) -> str:
        return f"<plugin {self.plugin}#{self.number}>"


@dataclass(frozen=True, slots=True, eq=False)
class HostObject:
    """An object that the host registered, with its place among the plugins.

    Attributes:
        name: its name in pluggy.
        plugin: the object; compared by identity, not by its own `__eq__`.
        place: behind the plugins of the epoch that was current, before those that came later.
    """

    name: str
    plugin: Any
    place: Place


@dataclass(frozen=True, slots=True, eq=False)
class HostState:
    """Everything that the host has registered with its manager; replaced whole.

    Attributes:
        version: counts up.
        specs: the namespaces of specifications.
        objects: the host's own objects.
        blocked: names that do not take part.
    """

    version: int = 0
    specs: tuple[Any, ...] = ()
    objects: tuple[HostObject, ...] = ()
    blocked: tuple[str, ...] = ()


class NameTakenError(ValueError):
    """A plugin of the runtime (`plugin`) and an object of the host have one name."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        super().__init__(
            f"{plugin!r} is the id of a plugin of the runtime, and the name of an object that the "
            "host registered: register the object under another name, or unregister it"
        )


@dataclass(frozen=True, slots=True, eq=False)
class ValidatedObject:
    """An object of the host, validated against an epoch manager that it may be added to.

    Attributes:
        name: its name in pluggy.
        plugin: the object.
        implementations: its implementations, each with its hook.
    """

    name: str
    plugin: Any
    implementations: tuple[tuple[str, pluggy.HookImpl], ...]


_DEFAULTS: Final[dict[str, Any]] = {
    "tryfirst": False,
    "trylast": False,
    "wrapper": False,
    "hookwrapper": False,
    "optionalhook": False,
    "specname": None,
}


class Runner:
    """Runs the calls of a manager's epoch managers.

    Attributes:
        inner: pluggy's function for that; `add_hookcall_monitoring` replaces and restores it.
    """

    __slots__ = ("inner",)

    def __init__(self) -> None:
        self.inner: Callable[..., Any]

    def run(self, name: str, methods: Any, kwargs: Any, firstresult: bool) -> Any:
        """Run a call; pluggy's callers call this with these arguments."""
        return self.inner(name, methods, kwargs, firstresult)


class EpochManager(pluggy.PluginManager):
    """pluggy's manager with the given plugins registered, in order.

    Args:
        owner: the program's manager, which parses marks.
        runner: runs calls.
        state: specifications and blocked names.
        plugins: names and objects, in the order of their registration.
        older: an older manager; its plugins are not verified again, and give no second warning.
        verify: whether implementations are compared with specifications.

    Raises:
        PluginValidationError, ValueError: as in pluggy.
    """

    def __init__(
        self,
        owner: pluggy.PluginManager,
        runner: Runner,
        state: HostState,
        plugins: Iterable[tuple[str, Any]],
        *,
        older: EpochManager | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(owner.project_name)
        # Not a bound method of this manager: its callers refer to it, and would make the cycle.
        vars(self)["_hookexec"] = runner.run
        self.version = state.version
        self._owner: Final = weakref.ref(owner)
        self._older = older
        self._verifies: Final = verify
        for namespace in state.specs:
            self.add_hookspecs(namespace)
        for name in state.blocked:
            self.set_blocked(name)
        for name, plugin in plugins:
            self.register(plugin, name)
        self._older = None  # or each manager would keep all that were before it

    # --- objects of the host, one at a time ---------------------------------------------------

    def registration(self, plugin: Any, name: str) -> ValidatedObject:
        """Validate what `register` would add, without adding it.

        Raises:
            NameTakenError, PluginValidationError, ValueError: as in pluggy.
        """
        known = self._name2plugin.get(name)
        if isinstance(known, Implementations):
            raise NameTakenError(name)
        if known is not None:
            raise ValueError(f"Plugin name already registered: {name}={plugin}")
        if plugin in self._name2plugin.values():
            raise ValueError(f"Plugin already registered under a different name: {name}={plugin}")
        implementations = tuple(self.implementations_of(plugin, name))
        for hook, implementation in implementations:
            caller: pluggy.HookCaller | None = getattr(self.hook, hook, None)
            if caller is not None and caller.has_spec():
                self._verify_hook(caller, implementation)
        return ValidatedObject(name, plugin, implementations)

    def implementations_of(self, plugin: Any, name: str) -> Iterator[tuple[str, pluggy.HookImpl]]:
        """An object's implementations, each with its hook, in pluggy's order."""
        for attribute in dir(plugin):
            options: Any = self.parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                options = {**_DEFAULTS, **options}
                function = getattr(plugin, attribute)
                yield (
                    options["specname"] or attribute,
                    pluggy.HookImpl(plugin, name, function, options),
                )

    def admit(self, registration: ValidatedObject) -> None:
        """Add what was validated. Calls no foreign code, and cannot fail."""
        self._name2plugin[registration.name] = registration.plugin
        for hook, implementation in registration.implementations:
            caller: pluggy.HookCaller | None = getattr(self.hook, hook, None)
            if caller is None:
                caller = pluggy.HookCaller(hook, self._hookexec)
                setattr(self.hook, hook, caller)
            caller._add_hookimpl(implementation)

    def dismiss(self, plugin: Any, name: str) -> None:
        """Take an object out again. Calls no foreign code, and cannot fail."""
        for caller in vars(self.hook).values():
            # In one step, and only where it is: a call may copy the list at any time.
            kept = [each for each in caller._hookimpls if each.plugin is not plugin]
            if len(kept) < len(caller._hookimpls):
                caller._hookimpls[:] = kept
        del self._name2plugin[name]

    # --- inside -------------------------------------------------------------------------------

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """As the program's manager does; a function with a numbered name implements its hook."""
        options = self._parser.parse_hookimpl_opts(plugin, name)
        if options is not None and isinstance(plugin, Implementations):
            hook = plugin.hook_of(name)
            if hook is not None and not options.get("specname"):
                return {**options, "specname": hook}
        return options

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        """As the program's manager does."""
        return self._parser.parse_hookspec_opts(module_or_class, name)

    @property
    def _parser(self) -> pluggy.PluginManager:
        owner = self._owner()
        assert owner is not None  # it builds this manager now
        return owner

    def _verify_hook(self, hook: Any, hookimpl: Any) -> None:
        if self._verifies and not self._is_verified(hook, hookimpl):
            super()._verify_hook(hook, hookimpl)

    def _is_verified(self, hook: Any, hookimpl: Any) -> bool:
        older = self._older
        if older is None or older.get_plugin(hookimpl.plugin_name) is not hookimpl.plugin:
            return False
        before = getattr(older.hook, hook.name, None)
        return before is not None and before.has_spec()


def plugins_of(
    kind: HookimplKind, epoch: Epoch, state: HostState, *, older: EpochManager | None, strict: bool
) -> list[tuple[str, Any]]:
    """Names and objects of the plugins that take part in an epoch, in order of registration.

    A reload keeps a plugin's place; the host's objects stay in the order of their registration.

    Args:
        kind: the project's.
        epoch: the epoch.
        state: the host's objects, and blocked names.
        older: an older manager; its objects are reused where the generation is the same.
        strict: whether to refuse a name that is taken twice; if not, the epoch's plugin has it.

    Raises:
        NameTakenError: a name is taken twice.
    """
    index = {plugin: place for place, plugin in enumerate(epoch.generations)}
    members: list[tuple[Place, str, Any]] = [
        ((epoch.since[plugin], 0, index[plugin]), plugin, implementations)
        for plugin, implementations in _by_plugin(kind, epoch, older)
        if plugin not in state.blocked
    ]
    names = {name for _, name, _ in members}
    for host in state.objects:
        if host.name not in names:
            members.append((host.place, host.name, host.plugin))
        elif strict:
            raise NameTakenError(host.name)
    members.sort(key=lambda member: member[0])
    return [(name, plugin) for _, name, plugin in members]


def _by_plugin(
    kind: HookimplKind, epoch: Epoch, older: EpochManager | None
) -> Iterator[tuple[str, Implementations]]:
    by_plugin: dict[str, dict[str, Any]] = {}
    for full, function in epoch[kind].items():
        plugin, _, short = full.partition(".")
        by_plugin.setdefault(plugin, {})[short] = function
    for plugin, functions in by_plugin.items():
        generation = epoch.generations[plugin]
        known = older.get_plugin(plugin) if older is not None else None
        if not isinstance(known, Implementations) or known.number != generation.number:
            hooks = {
                name: kind.hook_of(generation.exports[kind, f"{plugin}.{name}"])
                for name in functions
            }
            known = Implementations(generation, hooks, functions)
        yield plugin, known
