"""`importlib.reload`: the module's code is executed again, in the same module object."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.systems.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class ImportlibReload(Files):
    """See the standard library's documentation of `importlib.reload`."""

    name: ClassVar = "importlib.reload"
    how: ClassVar = "modules on the import path, `importlib.reload(module)`, functions by attribute"
    lacks: ClassVar = frozenset({"a_swap_names_its_holders"})

    def load(self, sources: Mapping[str, str]) -> None:
        """Import the modules."""
        self.write(sources)
        importlib.invalidate_caches()
        for name in sources:
            importlib.import_module(name)

    def swap(self, sources: Mapping[str, str]) -> None:
        """Save the sources, then reload each module in turn."""
        self.write(sources)
        for name in sources:
            importlib.reload(sys.modules[name])

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; each look-up reads an attribute of the module."""
        yield lambda plugin, function: getattr(sys.modules[plugin], function)
