"""A module is removed from `sys.modules` and imported again, which creates a new module."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.systems.files import Files, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Reimport(Files):
    """The usual way to avoid the names that `importlib.reload` leaves in a module."""

    name: ClassVar = "sys.modules, re-import"
    how: ClassVar = "`sys.modules.pop(name)`, `importlib.import_module(name)`; look-up by import"
    lacks: ClassVar = frozenset(
        {"a_swap_names_its_holders", "concurrent_reloads_end_on_one_version"}
    )

    def load(self, sources: Mapping[str, str]) -> None:
        """Import the modules."""
        self.write(sources)
        importlib.invalidate_caches()
        for name in sources:
            importlib.import_module(name)

    def swap(self, sources: Mapping[str, str]) -> None:
        """Pop and import each module in turn; the old one stays if the new one raises."""
        self.write(sources)
        importlib.invalidate_caches()
        for name in sources:
            old = sys.modules.pop(name)
            try:
                importlib.import_module(name)
            except BaseException:
                sys.modules[name] = old
                raise
            shut_down(old)

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; each look-up is an import, which reads `sys.modules`."""
        yield lambda plugin, function: getattr(importlib.import_module(plugin), function)
