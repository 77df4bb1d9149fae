"""A dictionary of modules that is updated, and the same with a lock around each call."""

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
    """What most home-made plugin systems are: `registry[name] = module`."""

    name: ClassVar = "dict swap"
    how: ClassVar = "a dictionary from names to modules; all new ones are put in by one `update`"
    lacks: ClassVar = frozenset({"names_the_holder", "reloads_at_once_end_on_one_version"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.registry: dict[str, ModuleType] = {}

    def load(self, sources: Mapping[str, str]) -> None:
        """Execute them, then put them in."""
        self.write(sources)
        self.registry.update({name: self.fresh(name) for name in sources})

    def swap(self, sources: Mapping[str, str]) -> None:
        """Execute the new ones aside, put them in, shut the old ones down."""
        self.write(sources)
        new = {name: self.fresh(name) for name in sources}
        old = [self.registry[name] for name in new]
        self.registry.update(new)
        for module in old:
            shut_down(module)

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Each look-up is one in the dictionary."""
        yield lambda plugin, function: getattr(self.registry[plugin], function)


class LockPerCall(DictSwap):
    """The dictionary, with a lock that every call and every swap takes."""

    name: ClassVar = "lock per call"
    lacks: ClassVar = frozenset({"names_the_holder"})
    how: ClassVar = "the dictionary, and one re-entrant lock around each call and around each swap"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lock = threading.RLock()

    def swap(self, sources: Mapping[str, str]) -> None:
        """As the dictionary does, while nobody calls."""
        with self.lock:
            super().swap(sources)

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """What is looked up takes the lock when it is called."""
        yield self._locked

    def _locked(self, plugin: str, function: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self.lock:
                return getattr(self.registry[plugin], function)(*args)

        return call
