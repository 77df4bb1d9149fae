"""pluggy: a plugin is unregistered, and its new module registered."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pluggy

from conformance.systems.files import Files, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class _Hooks:
    """A plugin's functions as implementations of hooks that are named after the plugin."""

    def __init__(self, plugin: str, module: Any) -> None:
        self.module = module
        mark = pluggy.HookimplMarker("conformance")
        for name in ("a", "b", "shape", "around"):
            setattr(self, f"{plugin}_{name}", mark(getattr(module, name)))


class Pluggy(Files):
    """pluggy promises registration, not reload; its users reload in this way."""

    name: ClassVar = "pluggy"
    how: ClassVar = "`pm.unregister(old)`, `pm.register(new)`; calls through `pm.hook`"
    lacks: ClassVar = frozenset(
        {"a_swap_names_its_holders", "concurrent_reloads_end_on_one_version"}
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.manager = pluggy.PluginManager("conformance")

    def load(self, sources: Mapping[str, str]) -> None:
        """Execute and register the modules."""
        self.write(sources)
        for name in sources:
            self.manager.register(_Hooks(name, self.fresh(name)), name)

    def swap(self, sources: Mapping[str, str]) -> None:
        """Execute the new modules, then unregister each old one and register its new one."""
        self.write(sources)
        new = {name: _Hooks(name, self.fresh(name)) for name in sources}
        for name, hooks in new.items():
            old = self.manager.unregister(name=name)
            self.manager.register(hooks, name)
            shut_down(old.module)

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; each look-up is a hook, which must have one implementation."""
        yield self._hook

    def _hook(self, plugin: str, function: str) -> Callable[..., Any]:
        caller = getattr(self.manager.hook, f"{plugin}_{function}")

        def call(*args: Any) -> Any:
            results = caller(**dict(zip(("entered", "leave"), args, strict=False)))
            if len(results) != 1:
                raise LookupError(f"{len(results)} implementations of {plugin}_{function}")
            return results[0]

        return call
