"""What a forked child does first, in systems that fork."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

L = TypeVar("L")


def in_forked_child(action: Callable[[], object]) -> None:
    """Run an action in each forked child, before any other code of it."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def free_in_child(lock: L) -> L:
    """A lock that a forked child finds free, whichever of the parent's threads held it."""
    free: Any = lock
    if hasattr(free, "_at_fork_reinit"):  # else there are no forks
        in_forked_child(free._at_fork_reinit)  # noqa: SLF001  its only name
    return lock
