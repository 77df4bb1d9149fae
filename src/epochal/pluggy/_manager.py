"""The program's plugin manager: what `pluggy.PluginManager` offers, over a runtime's plugins.

It keeps what the host told it (specifications, objects of its own, blocked names, historic calls)
and nothing of any epoch. Whatever it is asked, a view of the current epoch answers, which is
pluggy's own manager. Each epoch has at most one view for each manager; it goes with the epoch.

**Tried first, kept on success.** What the host tells it is tried on a view of the current epoch,
and of the one that a change is about to publish; a change is tried with what the host has told. So
what does not fit raises where it was said, as with pluggy, and is forgotten, and reading a hook
never raises for it.

**Told as they come in.** A generation, or an object of the host's, is told of the historic calls
before anybody can call it through a manager; if that raises, it does not come in. Results go to
their callbacks once it is in.

Who reads, who writes
---------------------

``_state``, ``_history`` and ``_coming`` are replaced under ``_lock``, whole; no foreign code is
called under it. ``_state`` is read without it on the way of a call. Whoever replaces it has built
its views outside of the lock, and starts again if it, the change under way or the epoch is another
by then. A change sets ``_coming`` before it looks at the state, and a writer of the state looks at
``_coming`` under the lock as it writes: so one of the two sees the other. Swap either pair, and an
object and a plugin that do not fit could both be let in.

A historic call is put into ``_history``, and in the same step whoever is ready among those who come
in is noted, to be told by the caller; the others find the call in the history themselves.

A slot's view is replaced under the lock by one of a later state, and read without it.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pluggy

from epochal._core.generation.operation import Operation
from epochal.errors import ExportError
from epochal.pluggy._epoch_manager import (
    Implementations,
    NameTakenError,
    Registered,
    State,
    View,
    members,
)
from epochal.pluggy._history import Coming, Historic, Newcomer, targets_of, tell
from epochal.pluggy._hooks import Hooks
from epochal.pluggy._marks import kind_of
from epochal.pluggy._queries import Answers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal.pluggy._hooks import Caller
    from epochal.runtime import Runtime


class _Slot:
    """Where an epoch keeps a manager's view; made once for each epoch, whatever it is given."""

    __slots__ = ("view",)

    def __init__(self, _: Epoch) -> None:
        self.view: View | None = None


class PluginManager(Answers):
    """`pluggy.PluginManager` over the plugins of a runtime.

    Make one for each project and runtime, before the changes that it is to have a say in. What it
    overrides answers as pluggy does; `parse_hookimpl_opts`, `parse_hookspec_opts` and
    `get_canonical_name` may be overridden, and must then be quick: they are asked for each epoch.

    Args:
        project_name: as for pluggy.
        runtime: whose plugins take part.

    Attributes:
        hook: the hooks of whatever epoch is current when one is called.
    """

    def __init__(self, project_name: str, runtime: Runtime) -> None:
        super().__init__(project_name)
        self.hook: Final = Hooks(self)  # type: ignore[misc,assignment]  # live, in pluggy's place
        self._runtime: Final = runtime
        self._kind: Final = kind_of(project_name)
        self._lock: Final = threading.Lock()
        self._key: Final = object()  # of this manager's slot in an epoch
        self._serials: Final = itertools.count(1)
        self._state = State()
        self._history: tuple[Historic, ...] = ()
        self._coming: Coming | None = None
        runtime.join(self)

    # --- epochs ------------------------------------------------------------------------------

    def at(self, epoch: Epoch | Operation) -> Hooks:
        """The hooks of an epoch, or of an operation that pins one; they hold it in use."""
        return Hooks(self, self._view_of(_epoch_of(epoch)))

    def current_view(self) -> View:
        """Pluggy's manager over the current epoch, as it is now: look, and let it go."""
        return self._view_of(self._runtime.epoch)

    def _view_of(self, epoch: Epoch) -> View:
        slot = epoch.derived(self._key, _Slot)
        view = slot.view
        if view is None or view.version < self._state.version:
            return self._renew(epoch, slot)
        return view

    def _renew(self, epoch: Epoch, slot: _Slot) -> View:
        """A view of an epoch that was there before what the host has said since."""
        view = self._make(epoch, self._state, base=slot.view, strict=False)
        return self._put(slot, view)

    def _make(self, epoch: Epoch, state: State, *, base: View | None, strict: bool) -> View:
        plugins = members(self._kind, epoch, state, base=base, strict=strict)
        return View(self, self._runner, state, plugins, base=base, verify=strict)

    def _put(self, slot: _Slot, view: View) -> View:
        with self._lock:
            if slot.view is None or slot.view.version < view.version:
                slot.view = view
            return slot.view

    # --- what the host says ------------------------------------------------------------------

    def add_hookspecs(self, module_or_class: Any) -> None:
        """Add specifications, as for pluggy; if it raises, none was added."""
        self._alter(lambda state: replace(state, specs=(*state.specs, module_or_class)))

    def register(self, plugin: Any, name: str | None = None) -> str | None:
        """Register an object of the host's own, which no reload touches, as for pluggy.

        It is called where it would be if the runtime's plugins were registered as they came in. If
        it raises, also from an implementation that is told of a historic call, it is not
        registered.
        """
        if plugin is None:
            return None
        canonical = name or self.get_canonical_name(plugin)
        if self.is_blocked(canonical):
            return None

        def add(state: State) -> State:
            place = (self._runtime.epoch.number, 1, next(self._serials))
            return replace(state, hosts=(*state.hosts, Registered(canonical, plugin, place)))

        self._alter(add, Newcomer(canonical))
        return canonical

    def unregister(self, plugin: Any | None = None, name: str | None = None) -> Any | None:
        """Take an object of the host's own out again, as for pluggy; calls that run go on with it.

        Raises:
            ValueError: it is a plugin of the runtime, which takes it out with `rt.remove`.
        """
        gone = self._scratch().unregister(plugin, name)
        if isinstance(gone, Implementations):
            raise ValueError(  # noqa: TRY004  the object is fine, the call is not
                f"{gone.plugin!r} is a plugin of the runtime: take it out with "
                f"rt.remove({gone.plugin!r}), or have it sit out with set_blocked"
            )
        self._alter(
            lambda state: replace(
                state, hosts=tuple(host for host in state.hosts if host.plugin is not gone)
            )
        )
        return gone

    def set_blocked(self, name: str) -> None:
        """Block a name, as for pluggy; a plugin of the runtime stays active, and is not called."""
        self._alter(
            lambda state: replace(
                state,
                hosts=tuple(host for host in state.hosts if host.name != name),
                blocked=(*(one for one in state.blocked if one != name), name),
            )
        )

    def unblock(self, name: str) -> bool:
        """Unblock a name, as for pluggy; a plugin of the runtime comes in again."""
        if not self.is_blocked(name):
            return False
        self._alter(
            lambda state: replace(
                state, blocked=tuple(one for one in state.blocked if one != name)
            ),
            Newcomer(name),
        )
        return True

    def _alter(self, change: Callable[[State], State], arrival: Newcomer | None = None) -> None:
        """Try another state on what is active and what is about to be, then make it the state.

        Args:
            change: makes the other state of this one; may be called again.
            arrival: who comes in by it, and is told before.
        """
        while not self._has_altered(change, arrival):
            pass  # somebody else was quicker: another state, change or historic call
        for result in arrival.results if arrival is not None else ():
            result()

    def _has_altered(self, change: Callable[[State], State], arrival: Newcomer | None) -> bool:
        with self._lock:
            state, coming, epoch = self._state, self._coming, self._runtime.epoch
        wanted = replace(change(state), version=state.version + 1)
        views = self._try(wanted, epoch, coming)
        newcomer = views[0][1].get_plugin(arrival.name) if arrival is not None else None
        if arrival is not None and newcomer is not None:
            self._catch_up(arrival, newcomer, wanted)
        with self._lock:
            if (self._state, self._coming, self._runtime.epoch) != (state, coming, epoch):
                return False
            if arrival is not None and newcomer is not None and not arrival.is_told(self._history):
                return False
            for slot, view in views:  # first, so that nobody finds the state without its views
                slot.view = view
            self._state = wanted
        return True

    def _try(self, state: State, epoch: Epoch, coming: Coming | None) -> list[tuple[_Slot, View]]:
        following = coming.epoch() if coming is not None else None
        epochs = [epoch] if following is None or following is epoch else [epoch, following]
        base = self._view_of(epoch)
        views: list[tuple[_Slot, View]] = []
        for one in epochs:
            slot = one.derived(self._key, _Slot)
            views.append((slot, self._make(one, state, base=slot.view or base, strict=True)))
        return views

    def _scratch(self) -> View:
        """A view of the current epoch that nobody else has."""
        epoch = self._runtime.epoch
        return self._make(epoch, self._state, base=self._view_of(epoch), strict=False)

    # --- what is historic --------------------------------------------------------------------

    def call_historic(
        self, caller: Caller, callback: Callable[[Any], None] | None, kwargs: Mapping[str, Any]
    ) -> None:
        """What `pm.hook.name.call_historic` does."""
        if not caller.is_historic():
            caller.over(self.current_view()).call_historic(callback, kwargs)  # pluggy refuses it
        filled = {**getattr(caller.spec, "kwargdefaults", {}), **kwargs}
        with self._lock:
            call = Historic(next(self._serials), caller.name, filled, callback)
            self._history = (*self._history, call)
            epoch, coming = self._runtime.epoch, self._coming
            ready = self._take_ready(call)
        try:
            caller.over(self._view_of(epoch)).call_historic(callback, kwargs)
            del epoch
            for arrival in ready:
                self._tell_late(arrival, coming, call)
        except BaseException:
            with self._lock:
                self._history = tuple(one for one in self._history if one is not call)
            raise

    def _take_ready(self, call: Historic) -> list[Newcomer]:
        """Who is about to come in and does not look at the history any more; under the lock."""
        coming = self._coming
        if coming is None or coming.epoch() is self._runtime.epoch:  # published: they are in it
            return []
        ready = [arrival for arrival in coming.arrivals.values() if arrival.is_ready]
        for arrival in ready:
            arrival.told = call.serial
        return ready

    def _tell_late(self, arrival: Newcomer, coming: Coming | None, call: Historic) -> None:
        epoch = coming.epoch() if coming is not None else None
        if epoch is None:  # its change went back
            return
        plugin = self._view_of(epoch).get_plugin(arrival.name)
        alone = Newcomer(arrival.name)
        if plugin is not None:
            tell(self, self._runner, self._state, alone, plugin, [call])
        for result in alone.results:
            result()

    def _catch_up(self, arrival: Newcomer, plugin: Any, state: State) -> None:
        """Tell somebody all of the history, also what comes to it meanwhile."""
        while True:
            with self._lock:
                due = arrival.take_due(self._history)
            if not due:
                return
            tell(self, self._runner, state, arrival, plugin, due)

    # --- a participant in changes -----------------------------------------------------------

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """See that the next epoch's implementations fit what the host has said."""
        blocked = self._state.blocked
        arrivals = {
            one: Newcomer(one.plugin)
            for one in newcomers
            if one.plugin not in blocked and any(kind is self._kind for kind, _ in one.exports)
        }
        with self._lock:
            self._coming = Coming(weakref.ref(epoch), arrivals)
        slot = epoch.derived(self._key, _Slot)
        while True:
            state = self._state
            view = self._fitting(epoch, state)
            with self._lock:
                if self._state is state:
                    slot.view = view
                    break
        with self._lock:
            return [one for one, arrival in arrivals.items() if not self._is_ready(arrival)]

    def _is_ready(self, arrival: Newcomer) -> bool:
        arrival.is_ready = not self._history
        return arrival.is_ready

    def _fitting(self, epoch: Epoch, state: State) -> View:
        base = self.current_view()
        if epoch[self._kind] is self._runtime.epoch[self._kind] and base.version == state.version:
            return base
        try:
            return self._make(epoch, state, base=base, strict=True)
        except pluggy.PluginValidationError as error:
            plugin, told = getattr(error.plugin, "plugin", None), str(error)
        except NameTakenError as error:
            plugin, told = error.plugin, str(error)
        # Here, since pluggy's error holds what it is about, and the rollback waits for that.
        raise ExportError(told, plugin=plugin)

    def welcome(self, generation: Generation) -> None:
        """Tell a newcomer of what was historic."""
        assert self._coming is not None
        arrival = self._coming.arrivals[generation]
        self._catch_up(arrival, targets_of(self._kind, generation), self._state)

    def settle(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """Forget the change; the newcomers' results go to their callbacks, if they are in."""
        with self._lock:
            coming, self._coming = self._coming, None
        return coming.results if published and coming is not None else ()


def _epoch_of(epoch: Epoch | Operation) -> Epoch:
    return epoch.epoch if isinstance(epoch, Operation) else epoch
