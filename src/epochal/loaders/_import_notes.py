"""Notes when the import system runs the code of a module that is not a plugin's.

What a library registers with the process as it is imported is the library's, whichever plugin was
the first to import it (`epochal._core.generation.side_effects`). So its beginning and its end must
be known: of each import, in any thread, by statement, by string, by a library's own machinery, and
of one that fails.

The import system marks a module's spec while it runs the module (``spec._initializing``), so that
other threads wait for it. The spec that our finder returns notes that mark. No loader is replaced
and no frame added, so tracebacks, and the lines that warnings name, stay as they are. Two kinds of
loading go without the mark: a compiled module may run code as it is *created*, and a lazy one
(`importlib.util.LazyLoader`) runs at the first use of an attribute. Their loaders are wrapped for
that one call.

The mark has no public name. Without it imports would work as ever, and go unnoticed:
`tests/unit/loaders/test_import_notes.py` fails then.
"""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader, ModuleSpec
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.side_effects import import_begins, import_ends
from epochal.loaders._module_views import find_elsewhere

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


def find_noted_spec(
    name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    """The spec of a module that is no plugin's, noting its import; see `find_elsewhere`."""
    spec = find_elsewhere(name, path, target)
    if type(spec) is ModuleSpec and not isinstance(spec.loader, type):
        if isinstance(spec.loader, ExtensionFileLoader):
            spec.loader = _NotedLoader(spec.loader)  # type: ignore[assignment]  # duck-typed
        spec.__class__ = _NotedSpec  # the modules built in have classes as loaders
    return spec


class _NotedSpec(ModuleSpec):
    """A module's spec for one import."""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "_initializing":
            if value:
                import_begins()
            else:
                object.__setattr__(self, "__class__", ModuleSpec)
                import_ends()
        elif name == "loader_state" and isinstance(value, dict) and "__class__" in value:
            # `LazyLoader` has put the module off.
            object.__setattr__(self, "loader", _NotedLoader(self.loader))


class _NotedLoader:
    """A loader in the place of another, for one call."""

    def __init__(self, loader: Any) -> None:
        self._loader: Final = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does it, noted."""
        spec.loader = self._loader
        import_begins()
        try:
            module: ModuleType | None = self._loader.create_module(spec)
            return module
        finally:
            import_ends()

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does it, noted."""
        spec = object.__getattribute__(module, "__spec__")
        if spec is not None and spec.loader is self:
            spec.loader = self._loader
        import_begins()
        try:
            self._loader.exec_module(module)
        finally:
            import_ends()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
