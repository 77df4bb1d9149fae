"""Modules that a plugin is given in place of others, for itself alone.

Three modules of the standard library act on a name or a process, where a plugin means its own
generation: `importlib` (`import_module` by string), `logging` (`getLogger(__name__)`), `atexit`.
Code of a plugin that imports one of them gets a stand-in: a module that forwards everything else.
"""

from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class StandIn(ModuleType):
    """Forwards every attribute to the module that it stands in for; subclasses override some."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        self._module: Final = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __dir__(self) -> list[str]:
        return dir(self._module)


class Importlib(StandIn):
    """`importlib` for one generation: `import_module` knows what its own name means.

    Args:
        own: maps an absolute module name of the plugin to this generation's private one; None for
            any other name.
    """

    def __init__(self, own: Callable[[str], str | None]) -> None:
        super().__init__(importlib)
        self._own: Final = own

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """What `importlib.import_module` does, for this generation."""
        if name.startswith("."):
            return importlib.import_module(name, package and (self._own(package) or package))
        return importlib.import_module(self._own(name) or name, package)


class Logging(StandIn):
    """`logging` for one generation: loggers by module name are the plugin's, whatever generation.

    So the host configures logger `geo`, and log lines say `geo.sub`.

    Args:
        root_name: the private name of the root module.
        plugin: the plugin's id.
    """

    def __init__(self, root_name: str, plugin: str) -> None:
        super().__init__(logging)
        self._root_name: Final = root_name
        self._plugin: Final = plugin

    def getLogger(self, name: str | None = None) -> logging.Logger:  # noqa: N802  its name there
        """What `logging.getLogger` does; the private name of a module becomes its public one."""
        if name is not None and name.partition(".")[0] == self._root_name:
            name = self._plugin + name[len(self._root_name) :]
        return logging.getLogger(name)
