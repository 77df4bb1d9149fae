"""What kinds are made of, for kinds of your own that keep something.

The built-in kinds are made of this and of what `epochal` exports, and of nothing else.

==============================  ================================================================
`Kept`, `Side`, `GatedMove`     an object that moves from generation to generation, its gate,
                                and the move (`epochal.kinds.gate`)
`Gate`                          the gate itself, for a `Handover` of your own
`carry(callable, lease)`        the same callable, holding its generation in use while it runs
`tie(object, lease)`            hold the generation in use for as long as an object lives
`Handle`                        what the plain `Kind.offer` offers
`Borrow`                        what a plugin that requires this one holds instead of a lease
`marks_of(object)`              the marks that a plugin's author put on it
==============================  ================================================================
"""

from epochal._core.carry import carry, tie
from epochal._core.gate import Gate
from epochal._core.handle import Handle
from epochal._core.kind import marks_of
from epochal._core.lease import Borrow
from epochal.kinds.gate import GatedMove, Kept, Side

__all__ = ["Borrow", "Gate", "GatedMove", "Handle", "Kept", "Side", "carry", "marks_of", "tie"]
