"""pluggy's hooks, with plugins that can be swapped while they are called.

A program built on pluggy gains it by changing two names where it defines its hooks::

    from epochal.pluggy import HookimplMarker, PluginManager   # instead of pluggy's own

    hookimpl = HookimplMarker("shop")
    pm = PluginManager("shop", rt)
    pm.add_hookspecs(specs)

    rt.load("plugins/points.py")         # functions marked with @hookimpl, and a manifest
    pm.hook.order_placed(order=order)    # calls whoever is active in the current epoch
    rt.reload("points")

Its specifications and implementations stay as they are, and its calls are run by pluggy itself: for
each epoch there is one `pluggy.PluginManager` with exactly the functions of that epoch. So
wrappers, `firstresult`, `tryfirst`, `trylast`, historic hooks and the checks of arguments are
pluggy's own. A reloaded plugin is one that was unregistered and registered anew: it comes after the
others, and is told of what was historic.

`pm.hook` reads the current epoch: read it once for each unit of work, or say which epoch with
`pm.at(epoch)`.

Who reads, who writes
---------------------

``_specs``, ``_static`` and ``_history`` are replaced or grow under ``_lock``, where no foreign code
is called; who was told of which historic call is claimed there, so that each is told once. An
epoch's hooks are built outside of it, by whoever asks first, and kept by the epoch.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final

from epochal._core.kind import Export, Kind

try:
    import pluggy
except ImportError as error:
    raise ImportError("epochal.pluggy needs pluggy: pip install 'epochal[pluggy]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from epochal._core.epoch import Epoch
    from epochal._core.operation import Operation
    from epochal.runtime import Runtime

    Told = tuple[str, int]


class _Implementations(Kind[Any]):
    """The kind of a project's hook implementations, one for each project of the process."""

    __slots__ = ("project", "specs")

    def __init__(self, project: str) -> None:
        name = re.sub(r"[^a-z0-9]+", "_", project.lower()).strip("_")
        super().__init__(f"pluggy.{name}", f"hook implementations of {project}")
        self.project: Final = project
        # What implementations are checked against; added to by the project's managers.
        self.specs: tuple[Any, ...] = ()

    def validate(self, export: Export) -> None:
        """Have pluggy look whether it fits the specifications."""
        super().validate(export)
        trial = _new_manager(self.project, self.specs)
        try:
            trial.register(_Functions({_short(export.name): export.target}), export.plugin)
            trial.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise ValueError(str(error)) from None


_kinds: Final[dict[str, _Implementations]] = {}
# Written with `setdefault`, one step; a kind is for the life of the process.


class HookimplMarker:
    """`pluggy.HookimplMarker` that marks for Epochal, too.

    Args:
        project_name: as for pluggy.
    """

    def __init__(self, project_name: str) -> None:
        self.project_name: Final = project_name
        self._pluggy: Final = pluggy.HookimplMarker(project_name)
        self._kind: Final = _kinds.setdefault(project_name, _Implementations(project_name))

    def __call__(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Mark a function: `@hookimpl` or `@hookimpl(tryfirst=True, …)`, as for pluggy."""

        def apply(function: Callable[..., Any]) -> Any:
            return self._kind(self._pluggy(function, **options))

        return apply if function is None else apply(function)


class PluginManager:
    """`pluggy.PluginManager` over the plugins of a runtime.

    Args:
        project_name: as for pluggy.
        runtime: whose plugins take part.
    """

    def __init__(self, project_name: str, runtime: Runtime) -> None:
        self.project_name: Final = project_name
        self._runtime: Final = runtime
        self._kind: Final = _kinds.setdefault(project_name, _Implementations(project_name))
        self._lock: Final = threading.Lock()
        self._specs: tuple[Any, ...] = ()
        self._static: tuple[tuple[str, Any], ...] = ()
        self._history: list[_Historic] = []

    @property
    def hook(self) -> Hooks:
        """The hooks of the current epoch."""
        return self.at(self._runtime.epoch)

    def at(self, epoch: Epoch | Operation) -> Hooks:
        """The hooks of an epoch, or of an operation that pins one."""
        # Another set of specifications or static plugins is another key.
        hooks = epoch.derived((self, self._specs, self._static), self._build)
        self._tell_newcomers(hooks)
        return hooks

    def add_hookspecs(self, module_or_class: Any) -> None:
        """Add specifications, as for pluggy; before the plugins are loaded that implement them."""
        with self._lock:
            self._specs = (*self._specs, module_or_class)
            self._kind.specs = (*self._kind.specs, module_or_class)

    def register(self, plugin: Any, name: str | None = None) -> str:
        """Register an object of the host's own, which no reload touches, as for pluggy.

        Returns:
            The name that it is registered under.

        Raises:
            ValueError: the name or the object is registered.
        """
        canonical = name or getattr(plugin, "__name__", None) or str(id(plugin))
        with self._lock:
            if any(canonical == other or plugin is known for other, known in self._static):
                raise ValueError(f"plugin {canonical!r} is registered already")
            self._static = (*self._static, (canonical, plugin))
        return canonical

    def unregister(self, name: str) -> Any:
        """Take an object of the host's own out again; operations that run go on with it.

        Raises:
            ValueError: there is none of that name.
        """
        with self._lock:
            found = [plugin for other, plugin in self._static if other == name]
            if not found:
                raise ValueError(f"no plugin {name!r} is registered; plugins are removed by rt")
            self._static = tuple(entry for entry in self._static if entry[0] != name)
        return found[0]

    def list_name_plugin(self) -> list[tuple[str, Any]]:
        """The names and plugins of the current epoch, in the order of their registration."""
        return self.hook.list_name_plugin()

    # --- inside ------------------------------------------------------------------------------

    def _build(self, epoch: Epoch) -> Hooks:
        manager = _new_manager(self.project_name, self._specs)
        told: dict[str, Told] = {}
        for name, plugin in self._static:
            manager.register(plugin, name)
            told[name] = (name, -1)
        for name, functions in _by_plugin(epoch[self._kind]):
            manager.register(_Functions(functions), name)
            told[name] = (name, epoch.generations[name].number)
        return Hooks(self, manager, told)

    def _tell_newcomers(self, hooks: Hooks) -> None:
        """Call what is historic on whoever was not called yet."""
        for historic in tuple(self._history):
            historic.tell(hooks, self._lock)

    def record(self, hooks: Hooks, historic: _Historic) -> None:
        """A historic call: on everybody in these hooks now, and on whoever comes later."""
        with self._lock:
            self._history.append(historic)
        historic.tell(hooks, self._lock)


class _Functions:
    """What is registered with pluggy for one generation: its functions, as attributes."""

    def __init__(self, functions: Mapping[str, Any]) -> None:
        vars(self).update(functions)


class Hooks:
    """The hooks of one epoch: `hooks.name(argument=…)`.

    pluggy's manager and its hooks refer to each other, so they would hold the epoch's functions
    until a collection. This takes the manager apart as it goes; and whatever is taken out of it
    refers to it, so that it does not go under a call.
    """

    def __init__(
        self, owner: PluginManager, manager: pluggy.PluginManager, told: Mapping[str, Told]
    ) -> None:
        self._owner = owner
        self._manager = manager
        self._told = told

    def __getattr__(self, name: str) -> Caller:
        return Caller(self, getattr(self._manager.hook, name))

    def list_name_plugin(self) -> list[tuple[str, Any]]:
        """The names and plugins, in the order of their registration."""
        return list(self._manager.list_name_plugin())

    def __del__(self) -> None:
        for name, plugin in self._manager.list_name_plugin():
            if plugin is not None:
                self._manager.unregister(plugin, name)


class Caller:
    """One hook of one epoch; what is not here is pluggy's `HookCaller`'s."""

    __slots__ = ("_caller", "_hooks")

    def __init__(self, hooks: Hooks, caller: Any) -> None:
        self._hooks = hooks
        self._caller = caller

    def __call__(self, **kwargs: Any) -> Any:
        """Call the hook, as for pluggy."""
        return self._caller(**kwargs)

    def call_historic(
        self,
        result_callback: Callable[[Any], None] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Call it now, and for every generation that comes later; as for pluggy."""
        call = _Historic(self._caller.name, dict(kwargs or {}), result_callback)
        self._hooks._owner.record(self._hooks, call)  # noqa: SLF001  the same room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caller, name)


class _Historic:
    """One historic call, and who was called."""

    def __init__(
        self, name: str, kwargs: Mapping[str, Any], callback: Callable[[Any], None] | None
    ) -> None:
        self._name = name
        self._kwargs = kwargs
        self._callback = callback
        self._told: set[Told] = set()  # under the manager's lock

    def tell(self, hooks: Hooks, lock: threading.Lock) -> None:
        """Call those of an epoch who were not called yet."""
        with lock:
            due = {name for name, who in hooks._told.items() if who not in self._told}  # noqa: SLF001
            self._told.update(hooks._told[name] for name in due)  # noqa: SLF001
        if not due:
            return
        manager = hooks._manager  # noqa: SLF001
        others = [plugin for name, plugin in manager.list_name_plugin() if name not in due]
        caller: Any = manager.subset_hook_caller(self._name, others)
        caller.call_historic(self._callback, dict(self._kwargs))


def _new_manager(project: str, specs: tuple[Any, ...]) -> pluggy.PluginManager:
    manager = pluggy.PluginManager(project)
    for spec in specs:
        manager.add_hookspecs(spec)
    return manager


def _by_plugin(exports: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Functions by plugin, in the order in which the generations came in."""
    found: dict[str, dict[str, Any]] = {}
    for name, function in exports.items():
        found.setdefault(name.partition(".")[0], {})[_short(name)] = function
    yield from found.items()


def _short(name: str) -> str:
    return name.partition(".")[2]
