"""The program's side: `pm.hook`, which is live, and `pm.at(epoch)`, which stays with an epoch.

Programs keep hooks: `self.hook = pm.hook` at start-up, `placed = pm.hook.order_placed`, a bound
method of either. All of these look the caller's epoch up once a call, so they neither go stale nor
hold an old epoch in use. A call goes on to its end with the functions that it began with.

A `Caller` is a `pluggy.HookCaller` whose data are those of pluggy's caller in that epoch, as
pluggy's own `_SubsetHookCaller` does it: pluggy's code runs on it, without a frame in between, so
that warnings name the line of the program that made the call.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from epochal.pluggy._epoch_manager import EpochManager
    from epochal.pluggy._queries import ManagerQueries

    Historic = list[tuple[Mapping[str, object], Callable[[Any], None] | None]]


class Hooks:
    """The hooks by name: `hooks.name(argument=…)`.

    Args:
        source: the program's manager, which knows the current epoch.
        manager: of the epoch to stay with; None for the epoch that is current at each call.
    """

    def __init__(self, source: ManagerQueries, manager: EpochManager | None = None) -> None:
        self._source: Final = source
        self._manager: Final = manager

    def __getattr__(self, name: str) -> Caller:
        # Called once for each name: callers are kept in `__dict__`. A caller gets `_manager`, which
        # is None for live hooks; with the current manager it would stay with today's epoch.
        if name.startswith("__"):
            raise AttributeError(name)
        getattr((self._manager or self._source.current_manager()).hook, name)  # or AttributeError
        caller = self.__dict__[name] = Caller(self._source, name, self._manager)
        return caller

    def __dir__(self) -> list[str]:
        return sorted(vars((self._manager or self._source.current_manager()).hook))

    def __repr__(self) -> str:
        return f"<hooks of {'the current epoch' if self._manager is None else 'one epoch'}>"


class Caller(pluggy.HookCaller):
    """One hook.

    Two callers of one hook are equal. The implementations that `get_hookimpls` returns hold their
    generations in use while they are kept.

    Attributes:
        name: the hook's name.
    """

    __slots__ = ("_manager", "_source", "_without")

    def __init__(
        self,
        source: ManagerQueries,
        name: str,
        manager: EpochManager | None = None,
        without: Iterable[str] = (),
    ) -> None:
        # Not pluggy's: its data are the properties below.
        self._source: Final = source
        self._manager: Final = manager
        self._without: Final = frozenset(without)
        self.name: Final = name  # type: ignore[misc]

    def __call__(self, /, **kwargs: Any) -> Any:
        """Call the hook, as in pluggy."""
        # Pluggy's own code, but with one look at the epoch.
        caller = self.current()
        assert caller._call_history is None, (
            "Cannot directly call a historic hook - use call_historic instead."
        )
        kwargs = _checked(caller, kwargs)
        spec = caller.spec
        is_first = spec.opts.get("firstresult", False) if spec is not None else False
        return caller._hookexec(self.name, caller._hookimpls.copy(), kwargs, is_first)

    def call_historic(
        self,
        result_callback: Callable[[Any], None] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Call the hook now, and for every later newcomer, as in pluggy.

        A call that raises is not repeated for newcomers.

        Raises:
            TypeError: the hooks are those of one epoch (`pm.at`), which gets no newcomers.
        """
        if self._manager is not None:
            raise TypeError(
                f"one epoch gets no newcomers to repeat a historic call for: use "
                f"pm.hook.{self.name}.call_historic"
            )
        caller = self.current()
        assert caller._call_history is not None
        self._source.call_historic(self, result_callback, _checked(caller, kwargs or {}))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caller) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[int, int, str, frozenset[str]]:
        return id(self._source), id(self._manager), self.name, self._without

    def __repr__(self) -> str:
        return f"<{'_Subset' if self._without else ''}HookCaller {self.name!r}>"

    def current(self) -> pluggy.HookCaller:
        """Pluggy's caller of this hook in the caller's epoch, or the pinned one."""
        return self.within(self._manager or self._source.current_manager())

    def within(self, manager: EpochManager) -> pluggy.HookCaller:
        """Pluggy's caller of this hook in an epoch's manager."""
        caller: pluggy.HookCaller | None = getattr(manager.hook, self.name, None)
        if caller is None:  # the hook has no specification, and its implementations are gone
            return pluggy.HookCaller(self.name, manager._hookexec)
        if not self._without:
            return caller
        removed = [manager.get_plugin(name) for name in self._without if manager.has_plugin(name)]
        return manager.subset_hook_caller(self.name, removed)

    if not TYPE_CHECKING:  # type checkers see pluggy's attributes
        # The data of pluggy's caller, for pluggy's other methods.

        @property
        def spec(self) -> pluggy.HookSpec | None:
            """The hook's specification; None without one."""
            return self.current().spec

        @property
        def _hookimpls(self) -> list[pluggy.HookImpl]:
            return self.current()._hookimpls

        @property
        def _hookexec(self) -> Callable[..., Any]:
            return self.current()._hookexec

        @property
        def _call_history(self) -> Historic | None:
            if self.current()._call_history is None:
                return None
            return self._source.historic_calls(self.name)

        @_call_history.setter
        def _call_history(self, calls: Historic | None) -> None:
            # pytest empties the history of `pytest_configure`, to configure once more.
            self._source.replace_historic_calls(self.name, calls or [])


def _checked(caller: pluggy.HookCaller, kwargs: Mapping[str, Any]) -> Any:
    """A call's arguments with defaults; warns of missing ones, in the name of the call's line."""
    spec = caller.spec
    if spec is None:
        return kwargs
    if defaults := getattr(spec, "kwargdefaults", None):  # pluggy 1.7
        kwargs = {**defaults, **kwargs}
    for name in spec.argnames:
        if name not in kwargs:
            missing = ", ".join(repr(name) for name in spec.argnames if name not in kwargs)
            warnings.warn(
                f"Argument(s) {missing} which are declared in the hookspec cannot be found in this "
                "hook call",
                stacklevel=3,
            )
            break
    return kwargs
