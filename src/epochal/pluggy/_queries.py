"""What a program may ask of its plugin manager: pluggy's own answers, of the current epoch.

Answers name plugins as they are now. What is asked for to be called later is live: callers keep
names, and look the plugins up once a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pluggy

from epochal.pluggy._epoch_manager import Implementations, Runner
from epochal.pluggy._hooks import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from epochal.pluggy._epoch_manager import View


class Answers(pluggy.PluginManager):
    """`pluggy.PluginManager` without tables of its own."""

    def __init__(self, project_name: str) -> None:
        self._runner: Final = Runner()
        super().__init__(project_name)

    def current_view(self) -> View:
        """Pluggy's manager over the current epoch, as it is now: look, and let it go."""
        raise NotImplementedError

    def call_historic(
        self, caller: Caller, callback: Callable[[Any], None] | None, kwargs: Mapping[str, Any]
    ) -> None:
        """What `pm.hook.name.call_historic` does."""
        raise NotImplementedError

    @property
    def _inner_hookexec(self) -> Any:
        """What runs calls: pluggy's monitoring takes it from here and puts its own in its place."""
        return self._runner.inner

    @_inner_hookexec.setter
    def _inner_hookexec(self, run: Any) -> None:
        self._runner.inner = run

    def get_plugins(self) -> set[Any]:
        """As pluggy; a plugin of the runtime is an object with its functions as attributes."""
        return self.current_view().get_plugins()

    def is_registered(self, plugin: Any) -> bool:
        """As pluggy."""
        return self.current_view().is_registered(plugin)

    def get_plugin(self, name: str) -> Any | None:
        """As pluggy; what it returns holds its generation in use while it is kept."""
        return self.current_view().get_plugin(name)

    def get_name(self, plugin: Any) -> str | None:
        """As pluggy."""
        return self.current_view().get_name(plugin)

    def list_name_plugin(self) -> list[tuple[str, Any]]:
        """As pluggy: in the order of first registration, which a reload does not change."""
        return self.current_view().list_name_plugin()

    def is_blocked(self, name: str) -> bool:
        """As pluggy."""
        return self.current_view().is_blocked(name)

    def check_pending(self) -> None:
        """As pluggy: raise for what is implemented, not optional, and not specified."""
        self.current_view().check_pending()

    def get_hookcallers(self, plugin: Any) -> list[Any] | None:
        """As pluggy; the callers are live."""
        found = self.current_view().get_hookcallers(plugin)
        return None if found is None else [Caller(self, caller.name) for caller in found]

    def subset_hook_caller(self, name: str, remove_plugins: Iterable[Any]) -> Any:
        """As pluggy; the caller is live, and leaves out whoever has these plugins' names then."""
        view = self.current_view()
        getattr(view.hook, name)  # or its AttributeError
        removed = list(remove_plugins)
        names = [one.plugin for one in removed if isinstance(one, Implementations)]
        names += [
            other
            for other, plugin in view.list_name_plugin()
            if plugin is not None and any(plugin is one for one in removed)
        ]
        return Caller(self, name, without=names)
