"""Has a runtime's epochs in the share before they are published.

A process that is given an epoch's id must be able to build it, so the share is written while a
change can still be refused: a share that is full, read-only or does not answer refuses the change.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from epochal.errors import ShareError
from epochal.share.heartbeat import LeaseBook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal.share.share import Share


class Publication:
    """Takes part in the changes of a runtime; see `Participant`. Belongs to the change's thread.

    Args:
        share: the share.
        warn: gets a line about each fault that stops nothing.

    Attributes:
        share: the share.
        book: the leases of this process. One of them names the current epoch.
    """

    __slots__ = ("__weakref__", "_leased", "_next", "_warn", "book", "share")

    def __init__(self, share: Share, warn: Callable[[str], object]) -> None:
        self.share: Final = share
        self.book: Final = LeaseBook(share, warn)
        self._warn: Final = warn
        # The id of an epoch and the digests of its artifacts: of the one that a change would
        # publish, and of the one that a lease of this process names.
        self._next = self._leased = "", frozenset[str]()

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Write the epoch that a change would publish.

        Raises:
            ShareError: it cannot be written; the change is rolled back.
        """
        self._next = epoch.id, frozenset(g.digest for g in epoch.generations.values())
        failed = None
        leased, artifacts = self._leased
        try:
            # A share that was emptied, or is another one by now, has none of them.
            is_there = bool(leased) and self.share.has(leased)
            self.share.ensure(epoch, there=artifacts if is_there else ())
        except ShareError as error:
            # Without its cause, whose frames lead to this one: a rollback waits for the epoch's
            # leases. The message has the reason.
            failed = ShareError(str(error), path=error.path)
        if failed is not None:
            raise failed
        return ()

    def prepare(self, generation: Generation) -> None:
        """Not called: `check` asks for no newcomer."""

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """Have the lease of the current epoch name the one that was published."""
        return [partial(self._lease, *self._next)] if published else []

    def _lease(self, epoch: str, artifacts: frozenset[str]) -> None:
        self._leased = "", frozenset()
        try:
            self.book.add(self, epoch, "current epoch")
            self._leased = epoch, artifacts
        except ShareError as error:
            # The document is there, and young; the heartbeat goes on trying.
            self._warn(str(error))

    def close(self) -> None:
        """End all leases of this process. Idempotent."""
        self.book.close()
