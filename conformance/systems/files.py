"""Plugins as modules in files on the import path, which every system but Epochal uses."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

_counter = itertools.count()


class Files:
    """Writes plugins to a folder that is on the import path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sys.path.insert(0, str(folder))

    def write(self, sources: Mapping[str, str]) -> None:
        """Save the sources, as an editor does."""
        for name, text in sources.items():
            (self.folder / f"{name}.py").write_text(text)

    def close(self) -> None:
        """Take the folder off the import path. Idempotent."""
        if str(self.folder) in sys.path:
            sys.path.remove(str(self.folder))

    def fresh(self, name: str) -> ModuleType:
        """A new module, executed from the file and not entered in `sys.modules`."""
        path = self.folder / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"{name}_{next(_counter)}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def shut_down(module: Any) -> None:
    """Shut a module down at once, as a host without a drain does."""
    module.shutdown()
