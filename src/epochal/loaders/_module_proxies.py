"""Modules that a plugin is given in place of others, for itself alone.

Some modules of the standard library act on a name or a process, where a plugin means its own
generation: `importlib` (`import_module`, `util` and `resources` by string; `metadata`, see
`_metadata`), `pkgutil`, `pickle` (what it loads by name), `logging` (`getLogger(__name__)`),
`atexit` (see `_exit_hooks`). Code of a plugin that imports one of them gets a stand-in: a module
that forwards everything else.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
import io
import logging
import pickle
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class ModuleProxy(ModuleType):
    """Forwards every attribute to the module that it stands in for; subclasses override some."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        self._module: Final = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __dir__(self) -> list[str]:
        return dir(self._module)


class ByName(ModuleProxy):
    """A module with functions whose first argument may be a module's name (or the module).

    Args:
        module: `pkgutil`, `importlib.util`, `importlib.resources`.
        own: maps an absolute module name of the plugin to this generation's private one; None for
            any other name.
    """

    def __init__(self, module: ModuleType, own: Callable[[str], str | None]) -> None:
        super().__init__(module)
        self._own: Final = own

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if name not in _BY_NAME:
            return function

        @functools.wraps(function)
        def call(of: Any, /, *args: Any, **kw: Any) -> Any:
            return function((isinstance(of, str) and self._own(of)) or of, *args, **kw)

        return call


_BY_NAME: Final = frozenset(
    {
        *("find_spec", "get_data", "find_loader", "get_loader", "resolve_name"),
        *("files", "contents", "is_resource", "path"),
        *("open_binary", "open_text", "read_binary", "read_text"),
    }
)


class Importlib(ModuleProxy):
    """`importlib` for one generation: `import_module` knows what its own name means.

    Args:
        own: maps an absolute module name of the plugin to this generation's private one; None for
            any other name.
        own_metadata: makes what it is given as `importlib.metadata`.
    """

    def __init__(
        self,
        own: Callable[[str], str | None],
        own_metadata: Callable[[Callable[[str], ModuleType]], ModuleType],
    ) -> None:
        super().__init__(importlib)
        self._own: Final = own
        self.metadata: Final = own_metadata(self.import_module)
        self.resources: Final = ByName(importlib.resources, own)
        self.util: Final = ByName(importlib.util, own)

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """What `importlib.import_module` does, for this generation."""
        if name.startswith("."):
            return importlib.import_module(name, package and (self._own(package) or package))
        return importlib.import_module(self._own(name) or name, package)


class Pickle(ModuleProxy):
    """`pickle` for one generation: a module's public name in what it loads is its own module's.

    Args:
        own: as for `Importlib`.
    """

    def __init__(self, own: Callable[[str], str | None]) -> None:
        super().__init__(pickle)
        self._own: Final = own

    def load(self, file: Any, **kw: Any) -> Any:
        """What `pickle.load` does, for this generation."""
        return _Unpickler(self._own, file, **kw).load()

    def loads(self, data: Any, /, **kw: Any) -> Any:
        """What `pickle.loads` does, for this generation."""
        return self.load(io.BytesIO(data), **kw)

    @property
    def Unpickler(self) -> type[pickle.Unpickler]:  # noqa: N802  its name there
        """What `pickle.Unpickler` is, for this generation."""
        own = self._own

        class Unpickler(_Unpickler):
            def __init__(self, file: Any, **kw: Any) -> None:
                super().__init__(own, file, **kw)

        return Unpickler


class _Unpickler(pickle.Unpickler):
    def __init__(self, own: Callable[[str], str | None], file: Any, **kw: Any) -> None:
        super().__init__(file, **kw)
        self._own: Final = own

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """A class or function by name; plugin subclasses may override it."""
        return super().find_class(self._own(module_name) or module_name, global_name)


class Logging(ModuleProxy):
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
