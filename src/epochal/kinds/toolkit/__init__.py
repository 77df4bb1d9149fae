"""What kinds are made of, for kinds of your own that keep something.

The built-in kinds are made of this and of what `epochal` exports, and of nothing else.

==============================  ================================================================
`GatedState`, `StateRef`, `GatedTransfer`     an object that moves from generation to generation,
its gate,
                                and the move (`epochal.kinds.toolkit.gated_state`)
`Gate`                          the gate itself, for a `Handover` of your own
`carry(callable, lease)`        the same callable, holding its generation in use while it runs
`tie(object, lease)`            hold the generation in use for as long as an object lives
`Handle`                        what the plain `Kind.wrap` offers
`RevocableLease`                        what a plugin that requires this one holds instead of a
lease `marks_of(object)`              the marks that a plugin's author put on it
==============================  ================================================================
"""

from epochal._core.generation.kind import marks_of
from epochal._core.use.gate import Gate
from epochal._core.use.handle import Handle
from epochal._core.use.lease import RevocableLease
from epochal._core.use.lease_carrier import carry, tie
from epochal.kinds.toolkit.gated_state import GatedState, GatedTransfer, StateRef

__all__ = [
    "Gate",
    "GatedState",
    "GatedTransfer",
    "Handle",
    "RevocableLease",
    "StateRef",
    "carry",
    "marks_of",
    "tie",
]
