"""The parts of which kinds that keep state are made, for kinds of your own.

The built-in kinds use these and the names that `epochal` exports, and nothing else.

===============================  ===============================================================
`GatedState`, `StateRef`,        an object that moves from generation to generation, a reference to
`GatedTransfer`                  it, and the move (`epochal.kinds.toolkit.gated_state`)
`Gate`, `Admission`              the gate itself, for a `Handover` of your own, and a call inside it
`carry(callable, lease)`         the same callable, keeping its generation in use while it runs
`tie(object, lease)`             keep the generation in use for as long as an object lives
`Handle`                         the handle that a plain `Kind.wrap` offers
`RequiredPlugin`                 the exports of another plugin, as `ctx.require` returns them
`RevocableLease`                 the lease that a plugin holds of a plugin that it requires
`marks_of(object)`, `Mark`       the marks that a plugin's author put on an object
===============================  ===============================================================
"""

from epochal._core.generation.context import RequiredPlugin
from epochal._core.generation.kind import Mark, marks_of
from epochal._core.use.gate import Admission, Gate
from epochal._core.use.handle import Handle
from epochal._core.use.lease import RevocableLease, carry
from epochal._core.use.ties import tie
from epochal.kinds.toolkit.gated_state import GatedState, GatedTransfer, StateRef

__all__ = [
    "Admission",
    "Gate",
    "GatedState",
    "GatedTransfer",
    "Handle",
    "Mark",
    "RequiredPlugin",
    "RevocableLease",
    "StateRef",
    "carry",
    "marks_of",
    "tie",
]
