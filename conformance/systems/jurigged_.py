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
    """What its watcher does when a file is saved, without the time that the watcher takes."""

    name: ClassVar = "jurigged"
    how: ClassVar = "files registered before their import, `registry.get(file).refresh()`"
    lacks: ClassVar = frozenset({"names_the_holder"})

    def __init__(self, folder: Path) -> None:
        from jurigged import glob_filter, registry

        super().__init__(folder)
        self.registry = registry
        registry.auto_register(glob_filter(str(folder / "*.py")))

    def load(self, sources: Mapping[str, str]) -> None:
        """Import them; it sees the imports."""
        self.write(sources)
        importlib.invalidate_caches()
        for name in sources:
            importlib.import_module(name)

    def swap(self, sources: Mapping[str, str]) -> None:
        """Save, then have each file's changes made. What was there is changed, not replaced."""
        self.write(sources)
        for name in sources:
            self.registry.get(str(self.folder / f"{name}.py")).refresh()

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Each look-up is an attribute of the module."""
        yield lambda plugin, function: getattr(sys.modules[plugin], function)
