"""What a program calls: `pm.hook`, live, and `pm.at(epoch)`, which stays with an epoch.

Live is the rule. `self.hook = pm.hook` at start-up, `placed = pm.hook.order_placed`, a bound method
of either: whatever was kept asks for the current epoch once a call, so it neither goes stale nor
keeps an old epoch in use. A call that has begun goes on with the functions that it began with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from epochal.pluggy._epoch_manager import View


class Source(Protocol):
    """Where callers find the current view (`epochal.pluggy.PluginManager`)."""

    def current_view(self) -> View:
        """Pluggy's manager over the current epoch."""
        ...

    def call_historic(
        self, caller: Caller, callback: Callable[[Any], None] | None, kwargs: Mapping[str, Any]
    ) -> None:
        """Call a historic hook now and for whoever comes later."""
        ...


class Hooks:
    """The hooks by name: `hooks.name(argument=…)`.

    Args:
        source: where the current epoch is found.
        view: the epoch to stay with; None for whatever is current at each call.
    """

    def __init__(self, source: Source, view: View | None = None) -> None:
        self._source: Final = source
        self._view: Final = view

    def __getattr__(self, name: str) -> Caller:
        # Only for what was not asked for before: callers are kept in `__dict__`.
        if name.startswith("__"):
            raise AttributeError(name)
        getattr((self._view or self._source.current_view()).hook, name)  # or its AttributeError
        caller = self.__dict__[name] = Caller(self._source, name, self._view)
        return caller

    def __dir__(self) -> list[str]:
        return sorted(vars((self._view or self._source.current_view()).hook))

    def __repr__(self) -> str:
        return f"<hooks of {'the current epoch' if self._view is None else 'one epoch'}>"


class Caller:
    """One hook; what is not here is an attribute of pluggy's `HookCaller`, as it is now.

    Attributes:
        name: the hook's name.
    """

    __slots__ = ("_source", "_view", "_without", "name")

    def __init__(
        self, source: Source, name: str, view: View | None = None, without: Iterable[str] = ()
    ) -> None:
        self._source: Final = source
        self._view: Final = view
        self._without: Final = frozenset(without)
        self.name: Final = name

    def __call__(self, /, **kwargs: Any) -> Any:
        """Call the hook, as for pluggy."""
        return self._now()(**kwargs)

    def call_historic(
        self,
        result_callback: Callable[[Any], None] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Call it now, and for every generation that comes later; as for pluggy.

        If it raises, it is not called for those that come later.

        Raises:
            TypeError: the hooks of one epoch (`pm.at`): nobody comes later to those.
        """
        if self._view is not None:
            raise TypeError(
                f"a historic call reaches whoever comes later: pm.hook.{self.name}.call_historic"
            )
        self._source.call_historic(self, result_callback, kwargs or {})

    def call_extra(self, methods: Sequence[Callable[..., Any]], kwargs: Mapping[str, Any]) -> Any:
        """Call it with some more functions, as for pluggy."""
        return self._now().call_extra(methods, kwargs)

    def get_hookimpls(self) -> list[pluggy.HookImpl]:
        """The implementations; they hold their generations in use while they are kept."""
        return self._now().get_hookimpls()

    def has_spec(self) -> bool:
        """Whether it was specified."""
        return self._now().has_spec()

    def is_historic(self) -> bool:
        """Whether its calls reach whoever comes later."""
        return self._now().is_historic()

    @property
    def spec(self) -> Any:
        """Its specification, if it has one."""
        return self._now().spec

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now(), name)

    def __repr__(self) -> str:
        return f"<Caller {self.name!r}>"

    def _now(self) -> pluggy.HookCaller:
        return self.over(self._view or self._source.current_view())

    def over(self, view: View) -> pluggy.HookCaller:
        """Pluggy's caller of this hook in a view."""
        caller: pluggy.HookCaller | None = getattr(view.hook, self.name, None)
        if caller is None:  # nobody specified it, and who implemented it has gone
            return pluggy.HookCaller(self.name, view._hookexec)  # noqa: SLF001  the same room
        if not self._without:
            return caller
        gone = [view.get_plugin(name) for name in self._without if view.has_plugin(name)]
        return view.subset_hook_caller(self.name, gone)
