"""The states of a generation's life, and the moves between them.

::

    LOADED -> LINKED -> INITIALIZED -> ACTIVE -> DRAINING -> REMOVED        (0 … 5, never backwards)

This module imports nothing of the project, so that the errors and events can name a state.
"""

from __future__ import annotations

from enum import IntEnum


class LifecycleState(IntEnum):
    """The state of a generation."""

    # Bytes ingested, manifest parsed. No plugin code has run.
    LOADED = 0
    # Capabilities negotiated, code executed, exports known and valid.
    LINKED = 1
    # init() ran successfully, in dependency order.
    INITIALIZED = 2
    # In the current epoch: visible to planning and execution.
    ACTIVE = 3
    # In no current epoch; operations that captured it go on against it.
    DRAINING = 4
    # All leases released, shutdown() ran, resources closed, memory released.
    REMOVED = 5

    @property
    def following(self) -> LifecycleState:
        """The state one step later; REMOVED is followed by itself."""
        return LifecycleState(min(self + 1, LifecycleState.REMOVED))
