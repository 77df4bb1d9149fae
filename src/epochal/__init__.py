"""Epochal: snapshot isolation for code.

Runs plugins inside long-lived processes and swaps them under live traffic. An operation sees one
consistent set of plugin versions from its first line to its last; a change of plugins is a
transaction; an old version is shut down only when nothing can call it any more, and the runtime
checks that its memory comes back.

Hosts start at `Runtime`; plugin authors at `epochal.kinds`; hosts with a registry of their own at
`PluginLifecycle` and `EpochFencedReload`.

A name is imported when it is first used: what a command, a plugin's own tests or a pytest run does
not use costs it nothing.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from epochal._core.change.participant import Participant
    from epochal._core.change.request import Change
    from epochal._core.generation.context import PluginContext
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.epoch_fenced_reload import EpochFencedReload
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export, Handover, Kind, Opened
    from epochal._core.generation.lifecycle import PluginLifecycle
    from epochal._core.generation.operation import Operation
    from epochal._core.generation.states import LifecycleState
    from epochal._core.use.lease import Lease
    from epochal.errors import (
        DrainError,
        DrainTimeoutError,
        EpochalError,
        InUseError,
        NotActiveError,
        UnexpectedTransitionError,
    )
    from epochal.report import Cutover, Swap, Version
    from epochal.runtime import Runtime

__version__ = "0.1.0"

__all__ = [
    "Change",
    "Cutover",
    "DrainError",
    "DrainTimeoutError",
    "Epoch",
    "EpochFencedReload",
    "EpochalError",
    "Export",
    "Generation",
    "Handover",
    "InUseError",
    "Kind",
    "Lease",
    "LifecycleState",
    "NotActiveError",
    "Opened",
    "Operation",
    "Participant",
    "PluginContext",
    "PluginLifecycle",
    "Runtime",
    "Swap",
    "UnexpectedTransitionError",
    "Version",
    "__version__",
]

# The same imports as above, for the interpreter; a type checker would take any name from
# `__getattr__`, so it does not see that.
_NAMES_OF: Final = {
    "_core.change.participant": ("Participant",),
    "_core.change.request": ("Change",),
    "_core.generation.context": ("PluginContext",),
    "_core.generation.epoch": ("Epoch",),
    "_core.generation.epoch_fenced_reload": ("EpochFencedReload",),
    "_core.generation.generation": ("Generation",),
    "_core.generation.kind": ("Export", "Handover", "Kind", "Opened"),
    "_core.generation.lifecycle": ("PluginLifecycle",),
    "_core.generation.operation": ("Operation",),
    "_core.generation.states": ("LifecycleState",),
    "_core.use.lease": ("Lease",),
    "errors": (
        *("DrainError", "DrainTimeoutError", "EpochalError"),
        *("InUseError", "NotActiveError", "UnexpectedTransitionError"),
    ),
    "report": ("Cutover", "Swap", "Version"),
    "runtime": ("Runtime",),
}
_MODULES: Final = ("artifact", "errors", "events", "report", "runtime")
"""Modules that are attributes of the package, as if it had imported them."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"epochal.{name}")
        for module, names in _NAMES_OF.items():
            if name in names:
                value = getattr(import_module(f"epochal.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module 'epochal' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_MODULES})
