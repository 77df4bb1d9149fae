"""The program's plugin manager: the interface of `pluggy.PluginManager` over a runtime's plugins.

It keeps what the host registered (specifications, objects, blocked names, historic calls) and
nothing of any epoch. Queries and calls go to the manager of the current epoch, which is pluggy's
own; within an operation, to that of the operation's epoch. Each epoch has at most one for each
program's manager; it dies with the epoch.

**Validated first, then stored.** A registration by the host is validated against the current epoch,
and against the epoch that a change is about to publish; a change is validated against what the host
has registered. A misfit therefore raises in the call that caused it, as in pluggy, and leaves
nothing behind; reading a hook never raises for it.

**Historic calls come first.** A generation, or an object of the host, receives the historic calls
before any other code can call it through a manager; if one raises, it does not take part. Results
go to their callbacks once it takes part.

Threads
-------

``_state``, ``_history`` and ``_pending`` are replaced under ``_lock``, whole; no foreign code is
called under it. Calls read ``_state`` without it. A writer of the state builds its managers outside
of the lock, and starts again if the state, the change under way or the epoch is another by then. A
change sets ``_pending`` before it reads the state, and a writer of the state compares ``_pending``
under the lock as it writes; so one of the two sees the other. Swap either pair, and an object and a
plugin that do not fit could both be accepted.

A historic call enters ``_history`` in the same step in which the newcomers that are ready are
noted. Its caller repeats it for these; the others find it in the history.

A slot's manager is replaced under the lock by one of a later state, and read without it.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pluggy

from epochal._core.generation.operation import Operation
from epochal.errors import ExportError
from epochal.pluggy._epoch_manager import (
    EpochManager,
    HostObject,
    HostState,
    Implementations,
    NameTakenError,
    plugins_of,
)
from epochal.pluggy._history import (
    HistoricCall,
    Newcomer,
    PendingChange,
    hooks_of,
    replay,
    targets_of,
)
from epochal.pluggy._hooks import Hooks
from epochal.pluggy._marks import kind_of
from epochal.pluggy._queries import ManagerQueries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal import Epoch, Generation
    from epochal.pluggy._history import History
    from epochal.pluggy._hooks import Caller, Historic
    from epochal.runtime import Runtime


class _ManagerSlot:
    """A program's manager keeps its epoch manager in this, as a derived value of the epoch."""

    __slots__ = ("manager",)

    def __init__(self, _: Epoch) -> None:
        self.manager: EpochManager | None = None


class PluginManager(ManagerQueries):
    """`pluggy.PluginManager` over the plugins of a runtime.

    Make one for each project and runtime, before the changes that it shall validate. Its methods
    answer as pluggy's; `parse_hookimpl_opts`, `parse_hookspec_opts` and `get_canonical_name` may be
    overridden, and must then be quick: they are called for each epoch.

    Args:
        project_name: as in pluggy.
        runtime: the runtime whose plugins take part.

    Attributes:
        hook: the hooks; each call goes to the epoch of the operation that it belongs to, or else to
            the one that is current then.
    """

    def __init__(self, project_name: str, runtime: Runtime) -> None:
        super().__init__(project_name)
        self.hook: Final = Hooks(self)  # type: ignore[misc,assignment]  # live, in pluggy's place
        self._runtime: Final = runtime
        self._kind: Final = kind_of(project_name)
        self._lock: Final = threading.Lock()
        self._key: Final = object()  # of this manager's slot in an epoch
        self._serials: Final = itertools.count(1)
        self._state = HostState()
        self._history: History = {}
        self._pending: PendingChange | None = None
        runtime.join(self)

    # --- epochs ------------------------------------------------------------------------------

    def at(self, epoch: Epoch | Operation) -> Hooks:
        """The hooks of an epoch, or of an operation that pins one; they hold it in use."""
        epoch = epoch.epoch if isinstance(epoch, Operation) else epoch
        return Hooks(self, self._manager_of(epoch))

    def current_manager(self) -> EpochManager:
        """Pluggy's manager over the caller's epoch; it holds the epoch in use while it is kept.

        That is the epoch of the operation that the caller belongs to, or the current one.
        """
        return self._manager_of(self._runtime.snapshot())

    def _manager_of(self, epoch: Epoch) -> EpochManager:
        slot = epoch.derived(self._key, _ManagerSlot)
        manager = slot.manager
        if manager is not None and manager.version >= self._state.version:
            return manager
        # The epoch is older than the host's last registration. Not strict: this is a query.
        manager = self._make(epoch, self._state, older=manager, strict=False)
        with self._lock:
            if slot.manager is None or slot.manager.version < manager.version:
                slot.manager = manager
            return slot.manager

    def _make(
        self, epoch: Epoch, state: HostState, *, older: EpochManager | None, strict: bool
    ) -> EpochManager:
        plugins = plugins_of(self._kind, epoch, state, older=older, strict=strict)
        return EpochManager(self, self._runner, state, plugins, older=older, verify=strict)

    # --- registrations of the host -----------------------------------------------------------

    def add_hookspecs(self, module_or_class: Any) -> None:
        """Add specifications, as in pluggy; if this raises, none was added."""
        self._alter(lambda state: replace(state, specs=(*state.specs, module_or_class)))

    def register(self, plugin: Any, name: str | None = None) -> str | None:
        """Register an object of the host, as in pluggy; reloads do not touch it.

        Its place in the order of calls is behind the plugins that are active now. It is not
        registered if this raises, also from an implementation that receives a historic call.
        """
        if plugin is None:
            return None
        canonical = name or self.get_canonical_name(plugin)
        if canonical in self._state.blocked:
            return None

        def add(state: HostState) -> HostState:
            place = (self._runtime.epoch.number, 1, next(self._serials))
            return replace(state, objects=(*state.objects, HostObject(canonical, plugin, place)))

        def prepare(manager: EpochManager) -> Callable[[], None]:
            registration = manager.registration(plugin, canonical)
            self._catch_up(newcomer, registration.implementations)
            return partial(manager.admit, registration)

        newcomer = Newcomer(canonical)
        self._alter(add, newcomer, prepare)
        return canonical

    def unregister(self, plugin: Any | None = None, name: str | None = None) -> Any | None:
        """Unregister an object of the host, as in pluggy; running calls go on with it.

        Raises:
            ValueError: it is a plugin of the runtime, which `rt.remove` removes; or the name is
                another plugin's.
        """
        manager = self._manager_of(self._runtime.epoch)
        name = _name_of(manager, plugin, name)
        removed = manager.get_plugin(name)
        if removed is None:  # blocked, or there is none of that name
            return plugin
        if isinstance(removed, Implementations):
            raise ValueError(  # noqa: TRY004  the object is fine, the call is not
                f"{removed.plugin!r} is a plugin of the runtime: remove it with "
                f"rt.remove({removed.plugin!r}), or exclude it from calls with set_blocked"
            )

        def take_out(state: HostState) -> HostState:
            kept = tuple(host for host in state.objects if host.plugin is not removed)
            return replace(state, objects=kept)

        def prepare(manager: EpochManager) -> Callable[[], None]:
            if manager.get_plugin(name) is not removed:
                return lambda: None  # another thread was first
            return partial(manager.dismiss, removed, name)

        self._alter(take_out, prepare=prepare)
        return removed

    def set_blocked(self, name: str) -> None:
        """Block a name, as in pluggy; a plugin of the runtime stays active, and is not called."""
        self._alter(
            lambda state: replace(
                state,
                objects=tuple(host for host in state.objects if host.name != name),
                blocked=(*_without(name, state.blocked), name),
            )
        )

    def unblock(self, name: str) -> bool:
        """Unblock a name, as in pluggy; a plugin of the runtime takes part again."""
        if name not in self._state.blocked:
            return False
        self._alter(
            lambda state: replace(state, blocked=_without(name, state.blocked)), Newcomer(name)
        )
        return True

    def _alter(
        self,
        change: Callable[[HostState], HostState],
        newcomer: Newcomer | None = None,
        prepare: Callable[[EpochManager], Callable[[], None]] | None = None,
    ) -> None:
        """Validate another state against the active and the coming epoch, then store it.

        `change` makes it of the present state, and may be called again. `newcomer` is the object
        that begins to take part with it; it receives the historic calls first. `prepare` validates
        the same change against the manager of the active epoch, and returns the function that makes
        it there; without it the manager is built anew.
        """
        while not self._has_altered(change, newcomer, prepare):
            pass  # another thread was first: with another state, change or historic call
        for result in newcomer.results if newcomer else ():
            result()

    def _has_altered(
        self,
        change: Callable[[HostState], HostState],
        newcomer: Newcomer | None,
        prepare: Callable[[EpochManager], Callable[[], None]] | None,
    ) -> bool:
        with self._lock:
            state, pending, epoch = self._state, self._pending, self._runtime.epoch
        wanted = replace(change(state), version=state.version + 1)
        manager = commit = None
        if prepare is not None:
            manager = self._manager_of(epoch)
            if manager.version != state.version:
                return False  # another thread was first
            commit = prepare(manager)
        managers = self._validate(wanted, epoch, pending, changed=manager)
        if newcomer is not None and prepare is None:
            self._catch_up_in(managers[0][1], newcomer)
        with self._lock:
            # `_pending` is compared in the step that writes the state: see the module's text.
            if (self._state, self._pending, self._runtime.epoch) != (state, pending, epoch):
                return False
            if newcomer is not None and not newcomer.has_received(self._history):
                return False
            for slot, built in managers:  # before the state: a reader of that finds its managers
                slot.manager = built
            if manager is not None and commit is not None:
                commit()
                manager.version = wanted.version
            self._state = wanted
        return True

    def _validate(
        self,
        state: HostState,
        epoch: Epoch,
        pending: PendingChange | None,
        *,
        changed: EpochManager | None,
    ) -> list[tuple[_ManagerSlot, EpochManager]]:
        """Build the managers that a state needs; raises if a plugin does not fit it.

        `changed` is the active epoch's if it is not built, but changed.
        """
        following = pending.epoch() if pending is not None else None
        older = self._manager_of(epoch)
        managers: list[tuple[_ManagerSlot, EpochManager]] = []
        for each in [epoch] if following is None or following is epoch else [epoch, following]:
            slot = each.derived(self._key, _ManagerSlot)
            if changed is None or (each is following and slot.manager is not changed):
                manager = self._make(each, state, older=slot.manager or older, strict=True)
                managers.append((slot, manager))
        return managers

    # --- historic calls ----------------------------------------------------------------------

    def call_historic(
        self, caller: Caller, callback: Callable[[Any], None] | None, kwargs: Mapping[str, Any]
    ) -> None:
        """Make a historic call (`pm.hook.name.call_historic`)."""
        name = caller.name
        with self._lock:
            call = HistoricCall(next(self._serials), name, kwargs, callback)
            # One step with the next lines: a newcomer is ready, or finds the call in the history.
            self._history = {**self._history, name: (*self._history.get(name, ()), call)}
            epoch, pending = self._runtime.epoch, self._pending
            ready = self._take_ready(call)
        try:
            _call_once(caller.within(self._manager_of(epoch)), call)
            del epoch
            for newcomer in ready:
                self._repeat_for(newcomer, pending, call)
        except BaseException:
            with self._lock:
                kept = tuple(other for other in self._history[name] if other is not call)
                self._history = {**self._history, name: kept}
            raise

    def historic_calls(self, name: str) -> Historic:
        """The arguments and callbacks of a hook's historic calls."""
        return [(call.kwargs, call.callback) for call in self._history.get(name, ())]

    def replace_historic_calls(self, name: str, calls: Historic) -> None:
        """Repeat other historic calls for newcomers from now on."""
        with self._lock:
            made = [HistoricCall(next(self._serials), name, *call) for call in calls]
            self._history = {**self._history, name: tuple(made)}

    def _take_ready(self, call: HistoricCall) -> list[Newcomer]:
        """The newcomers that no longer look at the history; called under the lock."""
        pending = self._pending
        if pending is None or pending.epoch() is self._runtime.epoch:  # published: they are in it
            return []
        newcomers = pending.newcomers.values()
        ready = [each for each in newcomers if each.is_ready and call.name in each.hooks]
        for newcomer in ready:
            newcomer.last_serial = call.serial
        return ready

    def _repeat_for(
        self, newcomer: Newcomer, pending: PendingChange | None, call: HistoricCall
    ) -> None:
        epoch = pending.epoch() if pending is not None else None
        if epoch is None:  # the change was rolled back
            return
        manager = self._manager_of(epoch)
        late = Newcomer(newcomer.name)  # its results are delivered here, not with the change
        if (plugin := manager.get_plugin(newcomer.name)) is not None:
            replay(self._runner, late, manager.implementations_of(plugin, late.name), [call])
        for result in late.results:
            result()

    def _catch_up_in(self, manager: EpochManager, newcomer: Newcomer) -> None:
        """Repeat all of the history for a newcomer that a manager has."""
        if (plugin := manager.get_plugin(newcomer.name)) is not None:
            self._catch_up(newcomer, [*manager.implementations_of(plugin, newcomer.name)])

    def _catch_up(
        self, newcomer: Newcomer, implementations: Sequence[tuple[str, pluggy.HookImpl]]
    ) -> None:
        """Repeat all of the history for a newcomer, also calls that enter it meanwhile."""
        newcomer.hooks = frozenset(hook for hook, _ in implementations)
        while True:
            with self._lock:
                due = newcomer.take_due(self._history)
            if not due:
                return
            replay(self._runner, newcomer, implementations, due)

    # --- a participant in changes -----------------------------------------------------------

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Validate the next epoch's implementations; returns the newcomers to prepare."""
        blocked = self._state.blocked
        taking_part = {
            generation: Newcomer(generation.plugin, hooks_of(self._kind, generation))
            for generation in newcomers
            if generation.plugin not in blocked
            and any(kind is self._kind for kind, _ in generation.exports)
        }
        # Before the state is read: a registration that comes in between sees this change.
        with self._lock:
            self._pending = PendingChange(weakref.ref(epoch), taking_part)
        slot = epoch.derived(self._key, _ManagerSlot)
        while True:
            state = self._state
            manager = self._fitting(epoch, state)
            with self._lock:
                if self._state is state:
                    slot.manager = manager
                    break
        with self._lock:
            for newcomer in taking_part.values():
                newcomer.is_ready = newcomer.has_received(self._history)
            return [each for each, newcomer in taking_part.items() if not newcomer.is_ready]

    def _fitting(self, epoch: Epoch, state: HostState) -> EpochManager:
        older = self._manager_of(self._runtime.epoch)
        if epoch[self._kind] is self._runtime.epoch[self._kind] and older.version == state.version:
            return older
        try:
            return self._make(epoch, state, older=older, strict=True)
        except pluggy.PluginValidationError as error:
            plugin, message = getattr(error.plugin, "plugin", None), str(error)
        except NameTakenError as error:
            plugin, message = error.plugin, str(error)
        # Outside of the `except`: as its context, pluggy's error would hold the plugin that it is
        # about, and the rollback waits for that plugin's leases.
        raise ExportError(message, plugin=plugin)

    def prepare(self, generation: Generation) -> None:
        """Repeat the historic calls for a newcomer."""
        assert self._pending is not None
        newcomer = self._pending.newcomers[generation]
        manager = self._manager_of(self._runtime.epoch)  # to read the marks with
        targets = targets_of(self._kind, generation)
        self._catch_up(newcomer, [*manager.implementations_of(targets, newcomer.name)])

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """Forget the change; returns the newcomers' results for the callbacks, if published."""
        with self._lock:
            pending, self._pending = self._pending, None
        return pending.results if published and pending is not None else ()


def _name_of(manager: EpochManager, plugin: Any | None, name: str | None) -> str:
    """The name of the object to unregister, which is given by either or both.

    Raises:
        AssertionError: neither is given, or the object is not registered; as in pluggy.
        ValueError: they do not agree; as in pluggy 1.7.
    """
    if name is None:
        assert plugin is not None, "one of name or plugin needs to be specified"
        name = manager.get_name(plugin)
        assert name is not None, "plugin is not registered"
    elif plugin is not None:
        known, other = manager.get_plugin(name), manager.get_name(plugin)
        if (known is not None and known is not plugin) or other not in {None, name}:
            raise ValueError(
                f"Plugin name {name!r} and plugin {plugin!r} do not agree (name is registered to "
                f"{known!r}, plugin is registered as {other!r})"
            )
    return name


def _call_once(caller: pluggy.HookCaller, call: HistoricCall) -> None:
    """Make a historic call now."""
    results = caller._hookexec(call.name, caller._hookimpls.copy(), call.kwargs, False)
    if call.callback is not None:
        for result in results if isinstance(results, list) else ():
            call.callback(result)


def _without(name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)
