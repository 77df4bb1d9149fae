"""Exit hooks of a generation: they run when it is removed, or when the process exits.

`atexit` keeps each registered function until the process ends, and cannot be listed: a plugin's
hook would keep its generation's memory, and the hooks of all its versions would run at the end. A
plugin that imports `atexit` therefore gets a proxy, which keeps the generation's hooks. For the
rest of the process nothing is replaced.
"""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import format_error
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
        """As `atexit.register`, for this generation."""
        if not callable(function):
            raise TypeError("the first argument must be callable")
        if not self._hooks:
            _with_hooks.add(self)
        self._hooks.append((function, lambda: function(*args, **kw)))
        return function

    def unregister(self, function: Callable[..., object], /) -> None:
        """As `atexit.unregister`, for this generation."""
        self._hooks[:] = [hook for hook in self._hooks if hook[0] != function]

    def run_hooks(self, failures: list[str]) -> list[str]:
        """Run and forget every hook, newest first; a second call goes on with the next hook.

        Returns a line for each hook; `failures` gets a line for each that raises.
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


_with_hooks: Final[WeakRegistry[ExitHooks]] = WeakRegistry()


@atexit.register
def _run_all() -> None:
    """Run the hooks of the generations that outlive the process, newest first as `atexit`."""
    for hooks in reversed(_with_hooks.live()):
        failures: list[str] = []
        hooks.run_hooks(failures)
        for failure in failures:
            print(f"at exit: {failure}", file=sys.stderr)
