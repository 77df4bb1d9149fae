"""The questions that pluggy's manager answers, answered for the current epoch by pluggy itself.

Answers name plugins as they are now. Callers among the answers are live: they keep a hook's name
and plugins' names, and look both up once a call.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pluggy

from epochal.pluggy._epoch_manager import Implementations, Runner
from epochal.pluggy._hooks import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from epochal.pluggy._epoch_manager import EpochManager
    from epochal.pluggy._hooks import Historic

    F = TypeVar("F", bound=Callable[..., Any])


def _of_current_epoch(method: F) -> F:
    """Pluggy's method, called on the manager of the current epoch."""

    @functools.wraps(method)
    def call(self: ManagerQueries, *args: Any, **kw: Any) -> Any:
        return method(self.current_manager(), *args, **kw)

    return cast("F", call)


class ManagerQueries(pluggy.PluginManager):
    """`pluggy.PluginManager` without tables of its own."""

    def __init__(self, project_name: str) -> None:
        self._runner: Final = Runner()
        super().__init__(project_name)

    def current_manager(self) -> EpochManager:
        """Pluggy's manager over the current epoch; it holds the epoch in use while it is kept."""
        raise NotImplementedError

    def call_historic(
        self, caller: Caller, callback: Callable[[Any], None] | None, kwargs: Mapping[str, Any]
    ) -> None:
        """Make a historic call (`pm.hook.name.call_historic`)."""
        raise NotImplementedError

    def historic_calls(self, name: str) -> Historic:
        """The arguments and callbacks of a hook's historic calls."""
        raise NotImplementedError

    def replace_historic_calls(self, name: str, calls: Historic) -> None:
        """Repeat other historic calls for newcomers from now on."""
        raise NotImplementedError

    @property
    def _inner_hookexec(self) -> Any:
        """The function that runs calls; pluggy's monitoring reads it, and sets its own."""
        return self._runner.inner

    @_inner_hookexec.setter
    def _inner_hookexec(self, run: Any) -> None:
        self._runner.inner = run

    # A plugin of the runtime appears as an object with its functions as attributes; an answer that
    # is such an object holds its generation in use while it is kept. The order of plugins is that
    # of first registration, which a reload does not change.
    get_plugins = _of_current_epoch(pluggy.PluginManager.get_plugins)
    is_registered = _of_current_epoch(pluggy.PluginManager.is_registered)
    get_plugin = _of_current_epoch(pluggy.PluginManager.get_plugin)
    get_name = _of_current_epoch(pluggy.PluginManager.get_name)
    list_name_plugin = _of_current_epoch(pluggy.PluginManager.list_name_plugin)
    is_blocked = _of_current_epoch(pluggy.PluginManager.is_blocked)
    check_pending = _of_current_epoch(pluggy.PluginManager.check_pending)

    def get_hookcallers(self, plugin: Any) -> list[Any] | None:
        """As in pluggy; the callers are live."""
        callers = self.current_manager().get_hookcallers(plugin)
        return None if callers is None else [getattr(self.hook, each.name) for each in callers]

    def subset_hook_caller(self, name: str, remove_plugins: Iterable[Any]) -> Any:
        """As in pluggy; the caller is live, and leaves out plugins by their names."""
        manager = self.current_manager()
        getattr(manager.hook, name)  # or its AttributeError
        removed = list(remove_plugins)
        names = [plugin.plugin for plugin in removed if isinstance(plugin, Implementations)]
        ids = {id(plugin) for plugin in removed if plugin is not None}
        names += [other for other, plugin in manager.list_name_plugin() if id(plugin) in ids]
        return Caller(self, name, without=names) if names else getattr(self.hook, name)
