"""Epochal: snapshot isolation for code.

Runs plugins inside long-lived processes and swaps them under live traffic. An operation sees one
consistent set of plugin versions from its first line to its last; a change of plugins is a
transaction; an old version is shut down only when nothing can call it any more, and the runtime
checks that its memory comes back.

Hosts start at `Runtime`; plugin authors at `epochal.kinds`; hosts with a registry of their own at
`PluginLifecycle` and `EpochFencedReload`.
"""

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
