"""A dictionary of modules that a swap updates, and the same with a lock around each call."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.systems.files import Files, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import ModuleType


class DictSwap(Files):
    """The form of most home-made plugin systems: `registry[name] = module`."""

    name: ClassVar = "dict swap"
    how: ClassVar = "a dictionary from names to modules; one `update` sets all new ones"
    lacks: ClassVar = frozenset(
        {"a_swap_names_its_holders", "concurrent_reloads_end_on_one_version"}
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.registry: dict[str, ModuleType] = {}

    def load(self, sources: Mapping[str, str]) -> None:
        """Execute the modules, then enter them in the dictionary."""
        self.write(sources)
        self.registry.update({name: self.fresh(name) for name in sources})

    def swap(self, sources: Mapping[str, str]) -> None:
        """Execute the new modules, enter them, and shut the old ones down."""
        self.write(sources)
        new = {name: self.fresh(name) for name in sources}
        old = [self.registry[name] for name in new]
        self.registry.update(new)
        for module in old:
            shut_down(module)

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; each look-up reads the dictionary."""
        yield lambda plugin, function: getattr(self.registry[plugin], function)


class LockPerCall(DictSwap):
    """The dictionary, with a lock that every call and every swap takes."""

    name: ClassVar = "lock per call"
    lacks: ClassVar = frozenset({"a_swap_names_its_holders"})
    how: ClassVar = "the dictionary, and one re-entrant lock around each call and around each swap"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lock = threading.RLock()

    def swap(self, sources: Mapping[str, str]) -> None:
        """Swap in the dictionary while no call runs."""
        with self.lock:
            super().swap(sources)

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; its functions take the lock when they are called."""
        yield self._locked

    def _locked(self, plugin: str, function: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self.lock:
                return getattr(self.registry[plugin], function)(*args)

        return call
