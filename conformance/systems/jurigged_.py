"""jurigged: functions are changed in place, statement by statement, where the file changed."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.systems.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class Jurigged(Files):
    """The work of jurigged's watcher after a save, without the watcher's delay."""

    name: ClassVar = "jurigged"
    how: ClassVar = "files registered before their import, `registry.get(file).refresh()`"
    lacks: ClassVar = frozenset({"a_swap_names_its_holders"})

    def __init__(self, folder: Path) -> None:
        from jurigged import glob_filter, registry

        super().__init__(folder)
        self.registry = registry
        registry.auto_register(glob_filter(str(folder / "*.py")))

    def load(self, sources: Mapping[str, str]) -> None:
        """Import the modules; jurigged observes the imports."""
        self.write(sources)
        importlib.invalidate_caches()
        for name in sources:
            importlib.import_module(name)

    def swap(self, sources: Mapping[str, str]) -> None:
        """Save the sources, then apply each file's changes to the existing functions."""
        self.write(sources)
        for name in sources:
            self.registry.get(str(self.folder / f"{name}.py")).refresh()

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; each look-up reads an attribute of the module."""
        yield lambda plugin, function: getattr(sys.modules[plugin], function)
