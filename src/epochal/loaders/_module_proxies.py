"""Module proxies: what a plugin gets when it imports certain modules of the standard library.

These modules act on a name or on the process, where a plugin means its own generation:

- `importlib`: `import_module`, `util` and `resources` by string; `metadata` (`_metadata_proxy`);
- `pkgutil` by string; `pickle`, for what it loads by name;
- `logging`: `getLogger(__name__)`;
- `atexit` (`_exit_hooks`), and `prometheus_client`, should the host have it (`_prometheus`).

A proxy forwards every other attribute to the module, and only this generation's code gets it.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
import io
import logging
import pickle
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class ModuleProxy(ModuleType):
    """Forwards every attribute to a module; subclasses override some."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        self._module: Final = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __dir__(self) -> list[str]:
        return dir(self._module)


class ByNameProxy(ModuleProxy):
    """A module with functions whose first argument may be a module's name (or the module)."""

    def __init__(self, module: ModuleType, names: Callable[[str], str | None]) -> None:
        super().__init__(module)
        self._names: Final = names

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if name not in _BY_NAME:
            return function

        @functools.wraps(function)
        def call(module: Any, /, *args: Any, **kw: Any) -> Any:
            private = self._names(module) if isinstance(module, str) else None
            return function(private or module, *args, **kw)

        return call


_BY_NAME: Final = frozenset(
    {
        *("find_spec", "get_data", "find_loader", "get_loader", "resolve_name"),
        *("files", "contents", "is_resource", "path"),
        *("open_binary", "open_text", "read_binary", "read_text"),
    }
)


class ImportlibProxy(ModuleProxy):
    """`importlib` for one generation: `import_module` resolves names as an import statement does.

    `metadata` makes the proxy for `importlib.metadata`, given `import_module`, when it is first
    asked for: that module brings the email package.
    """

    def __init__(
        self,
        names: Callable[[str], str | None],
        metadata: Callable[[Callable[[str], ModuleType]], ModuleType],
    ) -> None:
        super().__init__(importlib)
        self._names: Final = names
        self._make_metadata: Final = metadata
        self.resources: Final = ByNameProxy(importlib.resources, names)
        self.util: Final = ByNameProxy(importlib.util, names)

    @cached_property
    def metadata(self) -> ModuleType:
        """`importlib.metadata` for this generation."""
        return self._make_metadata(self.import_module)

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """As `importlib.import_module`, for this generation."""
        if name.startswith("."):
            return importlib.import_module(name, package and (self._names(package) or package))
        return importlib.import_module(self._names(name) or name, package)


class PickleProxy(ModuleProxy):
    """`pickle` for one generation: a pickle that names a module of the plugin loads this one's."""

    def __init__(self, names: Callable[[str], str | None]) -> None:
        super().__init__(pickle)
        self._names: Final = names

    def load(self, file: Any, **kw: Any) -> Any:
        """As `pickle.load`, for this generation."""
        return _PrivateUnpickler(self._names, file, **kw).load()

    def loads(self, data: Any, /, **kw: Any) -> Any:
        """As `pickle.loads`, for this generation."""
        return self.load(io.BytesIO(data), **kw)

    @property
    def Unpickler(self) -> type[pickle.Unpickler]:  # noqa: N802  its name there
        """As `pickle.Unpickler`, for this generation; a class, which a plugin may subclass."""
        names = self._names

        class Unpickler(_PrivateUnpickler):
            def __init__(self, file: Any, **kw: Any) -> None:
                super().__init__(names, file, **kw)

        return Unpickler


class _PrivateUnpickler(pickle.Unpickler):
    def __init__(self, names: Callable[[str], str | None], file: Any, **kw: Any) -> None:
        super().__init__(file, **kw)
        self._names: Final = names

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """A class or function by name; plugin subclasses may override it."""
        return super().find_class(self._names(module_name) or module_name, global_name)


class LoggingProxy(ModuleProxy):
    """`logging` for one generation: a module's logger is named as if there were no generations.

    The host configures the logger `geo`, and log lines show `geo.sub`.
    """

    def __init__(self, roots: Collection[str], plugin: str) -> None:
        super().__init__(logging)
        self._roots: Final = roots
        self._plugin: Final = plugin

    def getLogger(self, name: str | None = None) -> logging.Logger:  # noqa: N802  its name there
        """As `logging.getLogger`; any name of a module (`__package__` too) becomes the plugin's."""
        if name is not None:
            root, dot, rest = name.partition(".")
            if root in self._roots:
                name = f"{self._plugin}{dot}{rest}"
        return logging.getLogger(name)
