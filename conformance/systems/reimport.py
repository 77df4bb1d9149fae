"""Taking a module out of `sys.modules` and importing it again: a new module object."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.systems.files import Files, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Reimport(Files):
    """The usual way around what `importlib.reload` leaves in a module."""

    name: ClassVar = "sys.modules, re-import"
    how: ClassVar = "`sys.modules.pop(name)`, `importlib.import_module(name)`; look-up by import"
    lacks: ClassVar = frozenset({"names_the_holder", "reloads_at_once_end_on_one_version"})

    def load(self, sources: Mapping[str, str]) -> None:
        """Import them."""
        self.write(sources)
        importlib.invalidate_caches()
        for name in sources:
            importlib.import_module(name)

    def swap(self, sources: Mapping[str, str]) -> None:
        """Pop and import one after another; the old one stays if the new one raises."""
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
        """Each look-up is an import, which is a look into `sys.modules`."""
        yield lambda plugin, function: getattr(importlib.import_module(plugin), function)
