"""Exit hooks of a generation: its exit is when it is removed, or the process's, whichever is first.

`atexit` keeps what is registered until the process ends, and cannot be listed: a plugin's hook
would keep its generation's memory, and the hooks of all its versions would run at the end. Code of
a plugin that imports `atexit` is therefore given a stand-in, which keeps its hooks. Nothing is
replaced for anybody else.
"""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal._core.introspect.tracebacks import format_error
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.loaders._module_proxies import ModuleProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., object])


class ExitHooks(ModuleProxy):
    """`atexit` for one generation; everything but `register` and `unregister` is forwarded."""

    def __init__(self) -> None:
        super().__init__(atexit)
        # Written by the plugin's code in any thread and by `run_hooks`; one list step each.
        self._hooks: Final[list[tuple[Callable[..., object], Callable[[], object]]]] = []

    def register(self, function: F, /, *args: Any, **kw: Any) -> F:
        """What `atexit.register` does, for this generation."""
        if not callable(function):
            raise TypeError("the first argument must be callable")
        if not self._hooks:
            _used.add(self)
        self._hooks.append((function, lambda: function(*args, **kw)))
        return function

    def unregister(self, function: Callable[..., object], /) -> None:
        """What `atexit.unregister` does, for this generation."""
        self._hooks[:] = [hook for hook in self._hooks if hook[0] != function]

    def run_hooks(self, failures: list[str]) -> list[str]:
        """Run and forget every hook, newest first; calling it again goes on with the next.

        Args:
            failures: what raises is added here, a line each.

        Returns:
            What was run, a line each.
        """
        ran: list[str] = []
        while self._hooks:
            function, call = self._hooks.pop()
            name = getattr(function, "__qualname__", type(function).__qualname__)
            try:
                call()
            except BaseException as error:  # noqa: BLE001  reported; the others still run
                failures.append(f"exit hook {name} raised {format_error(error)}")
            ran.append(f"exit hook {name}, which was run")
        return ran


_used: Final[WeakRegistry[ExitHooks]] = WeakRegistry()


@atexit.register
def _run_all() -> None:
    """The process exits before these generations: newest first, as `atexit` does."""
    for hooks in reversed(_used.live()):
        failures: list[str] = []
        hooks.run_hooks(failures)
        for failure in failures:
            print(f"at exit: {failure}", file=sys.stderr)
