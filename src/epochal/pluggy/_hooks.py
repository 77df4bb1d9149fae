"""The program's side: `pm.hook`, which is live, and `pm.at(epoch)`, which stays with an epoch.

Programs keep hooks: `self.hook = pm.hook` at start-up, `placed = pm.hook.order_placed`, a bound
method of either. All of these look the current epoch up once a call, so they neither go stale nor
hold an old epoch in use. A call goes on to its end with the functions that it began with.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from epochal.pluggy._epoch_manager import EpochManager
    from epochal.pluggy._queries import ManagerQueries

    P = ParamSpec("P")
    R = TypeVar("R")


def _of_current_caller(
    method: Callable[Concatenate[pluggy.HookCaller, P], R],
) -> Callable[Concatenate[Caller, P], R]:
    """Pluggy's method, called on the caller in the epoch that is current then."""

    @functools.wraps(method)
    def call(self: Caller, /, *args: P.args, **kw: P.kwargs) -> R:
        return method(self.current(), *args, **kw)

    return call


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


class Caller:
    """One hook. Attributes that are not here are those of pluggy's `HookCaller`, looked up live.

    Attributes:
        name: the hook's name.
    """

    __slots__ = ("_manager", "_source", "_without", "name")

    def __init__(
        self,
        source: ManagerQueries,
        name: str,
        manager: EpochManager | None = None,
        without: Iterable[str] = (),
    ) -> None:
        self._source: Final = source
        self._manager: Final = manager
        self._without: Final = frozenset(without)
        self.name: Final = name

    def __call__(self, /, **kwargs: Any) -> Any:
        """Call the hook, as in pluggy."""
        return self.current()(**kwargs)

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
        self._source.call_historic(self, result_callback, kwargs or {})

    # Methods, and not left to `__getattr__`: programs keep them bound. The implementations among
    # the answers hold their generations in use while they are kept.
    call_extra = _of_current_caller(pluggy.HookCaller.call_extra)
    get_hookimpls = _of_current_caller(pluggy.HookCaller.get_hookimpls)
    has_spec = _of_current_caller(pluggy.HookCaller.has_spec)
    is_historic = _of_current_caller(pluggy.HookCaller.is_historic)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current(), name)

    def __repr__(self) -> str:
        return f"<Caller {self.name!r}>"

    def current(self) -> pluggy.HookCaller:
        """Pluggy's caller of this hook in the epoch that is current, or pinned."""
        return self.within(self._manager or self._source.current_manager())

    def within(self, manager: EpochManager) -> pluggy.HookCaller:
        """Pluggy's caller of this hook in an epoch's manager."""
        caller: pluggy.HookCaller | None = getattr(manager.hook, self.name, None)
        if caller is None:  # the hook has no specification, and its implementations are gone
            return pluggy.HookCaller(self.name, manager._hookexec)  # noqa: SLF001  the same room
        if not self._without:
            return caller
        removed = [manager.get_plugin(name) for name in self._without if manager.has_plugin(name)]
        return manager.subset_hook_caller(self.name, removed)
