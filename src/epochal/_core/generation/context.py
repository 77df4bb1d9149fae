"""A plugin's access to its runtime: the `ctx` of `register(ctx)` and `init(ctx)`.

Everything that a plugin acquires through its context goes with its generation: deferred calls run
in reverse order after `shutdown()`, and the borrowed exports of other plugins are revoked. So a
context refers to nothing of the runtime, and the plugin may keep the context as long as it likes.

Only the plugin's own code uses a context: in link and init on one thread, later on any thread that
calls the plugin's exports. Its lists only grow until the shutdown empties them, after the last
lease is gone.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from epochal._core.generation.kind import Kind
from epochal._core.generation.registrations import Registrations, registration
from epochal._core.generation.resources import Resources
from epochal.errors import CapabilityError, ConfigKeyError, HostError, MissingDependencyError

if TYPE_CHECKING:
    import threading
    from collections.abc import (
        Callable,
        Coroutine,
        Iterator,
        Mapping,
        MutableMapping,
        MutableSequence,
        MutableSet,
    )
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from epochal._core.introspect.origins import Origin
    from epochal._core.use.lease import RevocableLease

    K = TypeVar("K")
    T = TypeVar("T")
    F = TypeVar("F")


class RequiredPlugin:
    """Another plugin as a plugin that requires it sees it: its exports, by their short names.

    `units.convert(…)` where one export has that name; `units[scalar]["convert"]` in any case.
    """

    __slots__ = ("_by_kind", "_plugin", "borrowed")

    def __init__(
        self, plugin: str, exports: Mapping[tuple[Kind[Any], str], Any], borrowed: RevocableLease
    ) -> None:
        self._plugin: Final = plugin
        self.borrowed: RevocableLease | None = borrowed
        # Filled here, emptied by `close`; read by the plugin's code in any thread.
        self._by_kind: Final[dict[Kind[Any], dict[str, Any]]] = defaultdict(dict)
        for (kind, name), value in exports.items():
            self._by_kind[kind][name.partition(".")[2]] = value

    def __getitem__(self, kind: Kind[F]) -> Mapping[str, F]:
        return MappingProxyType(self._by_kind.get(kind, {}))

    def __getattr__(self, name: str) -> Any:
        matches = [exports[name] for exports in self._by_kind.values() if name in exports]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise AttributeError(
                f"plugin {self._plugin!r} exports {name!r} as several kinds; use [kind][{name!r}]"
            )
        raise AttributeError(
            f"plugin {self._plugin!r} has no export {name!r}; it has: {', '.join(self) or 'none'}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({name for exports in self._by_kind.values() for name in exports}))

    def close(self) -> None:
        """Drop the exports, and the lease but for exports that were handed on. Idempotent."""
        self._by_kind.clear()
        if self.borrowed is not None:
            self.borrowed.is_returned = True
        self.borrowed = None

    def __repr__(self) -> str:
        return f"<required plugin {self._plugin}: {', '.join(self)}>"


class _Config(dict[str, Any]):
    """A plugin's configuration; an absent key is an error that names it and its remedy."""

    def __init__(self, plugin: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._plugin: Final = plugin

    def __missing__(self, key: object) -> Any:
        raise ConfigKeyError(self._plugin, key)


class PluginContext:
    """A generation's access to its runtime.

    Attributes:
        plugin: the plugin's id.
        generation: its number.
        version: its version.
        config: the host's configuration of the plugin; read-only.
        settings: the same as an instance of the class that the manifest names under `config`; None
            if it names none.
        linked: the plugins that it requires, each with the version and number of the generation
            that it is linked to, `1.2.0#7`.
        resources: the resources that the plugin acquired with `defer`, `spawn` and the others.
        registrations: the entries that it registered with `register`.
    """

    __slots__ = (
        "_missing",
        "_pending",
        "_required",
        "config",
        "generation",
        "linked",
        "plugin",
        "registrations",
        "resources",
        "settings",
        "version",
    )

    def __init__(
        self,
        plugin: str,
        generation: int,
        version: str,
        config: Mapping[str, Any],
        missing: Callable[[str], str],
        required: Mapping[str, RequiredPlugin],
        origin: Origin,
        linked: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.plugin: Final = plugin
        self.generation: Final = generation
        self.version: Final = version
        self.config: Final = MappingProxyType(_Config(plugin, config))
        self.settings: Any = None
        self._missing: Final = missing  # what to do for a capability; empty where it is granted
        self._required: Final = dict(required)
        self.linked: Final = MappingProxyType(dict(linked))
        self.resources: Final = Resources(f"{plugin}#{generation}", origin)
        self.registrations: Final = Registrations()
        self._pending: list[tuple[Kind[Any], str | None, Mapping[str, Any], Any]] | None = []

    def defer(self, callback: Callable[..., object], /, *args: Any, **kw: Any) -> None:
        """Call `callback(*args, **kw)` when this generation is removed, after its `shutdown()`.

        Deferred calls run in reverse order; an exception is reported, and the others still run.
        """
        self.resources.defer(lambda: callback(*args, **kw))

    @overload
    def register(self, table: MutableMapping[K, T], key: K, value: T, /) -> T: ...
    @overload
    def register(self, table: MutableSet[T] | MutableSequence[T], value: T, /) -> T: ...
    @overload
    def register(self, table: Any, value: T, /, *, name: str | None = None) -> T: ...
    def register(self, table: Any, /, *entry: Any, name: str | None = None) -> Any:
        """Keep an entry in one of the host's tables for as long as this generation is active.

        It is put in when the generation is published, and a change that is refused puts in nothing.
        In a reload it takes the place of the old generation's entry under the same key or name, or
        of the same rank in a list. Called later, it is put in at once.

        Only this plugin's own entry is ever taken out. A function is put in as a copy, so that a
        call through the table holds the generation in use.

        Args:
            table: a mapping, a set, a list, or a plugin manager with pluggy's methods.
            *entry: the key and the value; without the key for all but a mapping.
            name: the name for a plugin manager; None for its own choice.

        Returns:
            The value.

        Raises:
            HostError: the table is of no such sort.
            RegistrationError: other code's entry is there; in `init`, raised once `init` returned.
        """
        made = registration(table, entry, name)
        self.registrations.add(made)
        return made.value

    def enter_context(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context manager now and leave it when this generation is removed."""
        value = manager.__enter__()
        self.defer(manager.__exit__, None, None, None)
        return value

    def spawn(
        self,
        function: Callable[..., object],
        /,
        *args: Any,
        name: str | None = None,
        stop_timeout: float = 5.0,
    ) -> threading.Thread:
        """Run `function(*args)` on a thread that ends with this generation.

        When the generation is removed, the runtime sets `ctx.stopping` and waits for the thread; a
        long-running function checks it: `while not ctx.stopping.wait(1.0): …`.

        Args:
            function: the function.
            *args: its arguments.
            name: the thread's name; None for `plugin#generation`.
            stop_timeout: seconds that the thread may take to end before it is reported.
        """
        return self.resources.spawn(lambda: function(*args), name, stop_timeout)

    def create_task(
        self, work: Coroutine[Any, Any, T], *, name: str | None = None, stop_timeout: float = 5.0
    ) -> Future[T]:
        """Run a coroutine in an event loop of this generation's own, on a thread of its own.

        When the generation is removed, the runtime cancels the task and waits for it.

        Args:
            work: the coroutine.
            name: the task's name; None for `plugin#generation`.
            stop_timeout: seconds that the task may take to end before it is reported.

        Returns:
            A future of its result (`asyncio.wrap_future` makes it awaitable elsewhere).
        """
        return self.resources.create_task(work, name, stop_timeout)

    @property
    def stopping(self) -> threading.Event:
        """An event, set when this generation is being removed, before its `shutdown()` runs."""
        return self.resources.stopping

    def require(self, plugin: str) -> RequiredPlugin:
        """The exports of another plugin, fixed for the life of this generation.

        Args:
            plugin: the other plugin's id, which the manifest must list under `requires`.

        Raises:
            MissingDependencyError: the manifest does not list it.
        """
        try:
            return self._required[plugin]
        except KeyError:
            raise MissingDependencyError(
                f"plugin {self.plugin!r} asks for {plugin!r} but does not require it: "
                f'add "{plugin}" to `requires` in its manifest'
            ) from None

    def granted(self, capability: str) -> bool:
        """Whether the manifest asks for a capability and the host grants it."""
        return not self._missing(capability)

    def demand(self, capability: str) -> None:
        """Raise unless a capability was granted.

        Raises:
            CapabilityError: the manifest does not ask for it, or the host does not grant it.
        """
        if todo := self._missing(capability):
            raise CapabilityError(
                f"plugin {self.plugin!r} needs the capability {capability!r}: {todo}",
                plugin=self.plugin,
                capability=capability,
            )

    def export(self, kind: Kind[F], target: F, *, name: str | None = None, **options: Any) -> F:
        """Export an object that cannot be marked, from `register(ctx)`.

        Args:
            kind: the kind of the export.
            target: the object.
            name: its short name; None takes the target's `__name__`.
            **options: the options of the kind's marker.

        Returns:
            The target itself.

        Raises:
            HostError: called outside `register(ctx)`.
            TypeError: `kind` is not one.
        """
        if self._pending is None:
            raise HostError(
                f"plugin {self.plugin!r} exported an object outside register(ctx); "
                "the exports of a generation are fixed when it is linked"
            )
        if not isinstance(kind, Kind):
            raise TypeError(f"export takes the kind first: ctx.export(scalar, f), not {kind!r}")
        self._pending.append((kind, name, kind.check_options(name, options), target))
        return target

    def take_exports(self) -> Iterator[tuple[Kind[Any], str | None, Mapping[str, Any], Any]]:
        """The exports that `export` collected; from now on `export` refuses more."""
        pending, self._pending = self._pending or [], None
        return iter(pending)

    def borrowed(self) -> tuple[weakref.ref[RevocableLease], ...]:
        """The leases of every plugin that this one requires, held weakly."""
        leases = [required.borrowed for required in self._required.values()]
        return tuple(weakref.ref(lease) for lease in leases if lease is not None)

    def return_borrowed(self) -> None:
        """Drop the exports of every plugin that this one requires. Idempotent."""
        for required in self._required.values():
            required.close()

    def __repr__(self) -> str:
        return f"<context of {self.plugin}#{self.generation}>"
