"""Puts `epochal.pluggy` beneath a program, before the program is imported.

As a command, it runs pytest so: `python beneath.py pluggy|pytest <arguments of pytest>`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

import epochal.pluggy
from epochal import Runtime

if TYPE_CHECKING:
    from epochal.report import Cutover


class OwnRuntimeManager(epochal.pluggy.PluginManager):
    """A manager with a runtime of its own."""

    def __init__(self, project_name: str) -> None:
        super().__init__(project_name, Runtime())


class Program:
    """A program over one runtime, with one plugin that is saved and reloaded.

    Attributes:
        rt: the runtime.
        n: the version of the plugin.
    """

    def __init__(self, source: str) -> None:
        self.rt = rt = Runtime()
        self.n = 0
        self._source = source
        self._path = Path(tempfile.mkdtemp()) / "echo.py"

        class Manager(epochal.pluggy.PluginManager):
            def __init__(self, project_name: str) -> None:
                super().__init__(project_name, rt)

        pluggy.PluginManager = Manager  # type: ignore[misc]

    def save(self) -> Path:
        """Save the next version of the plugin."""
        self.n += 1
        header = f'# /// plugin\n# id = "echo"\n# version = "{self.n}"\n# ///\n'
        self._path.write_text(header + self._source.replace("{n}", str(self.n)))
        return self._path

    def load(self) -> None:
        """Load the first version."""
        self.rt.load(self.save())

    def reload(self, *, reclaimed: bool = True) -> Cutover:
        """Reload the plugin; fails unless the old version is shut down, and its memory returns."""
        self.save()
        return checked(self.rt.reload("echo"), reclaimed=reclaimed)


def checked(cutover: Cutover, *, reclaimed: bool = True) -> Cutover:
    """The report of a reload that left nothing."""
    assert cutover.drained, cutover.holders
    assert cutover.reclaimed or not reclaimed, cutover.leaks
    return cutover


def main() -> int:
    """Run pytest with the manager that the first argument names replaced."""
    import _pytest.config
    import pytest

    if sys.argv[1] == "pytest":
        _pytest.config.PytestPluginManager.__bases__ = (OwnRuntimeManager,)
    else:  # pytest's own managers stay pluggy's
        pluggy.PluginManager = OwnRuntimeManager  # type: ignore[misc]
    return int(pytest.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
