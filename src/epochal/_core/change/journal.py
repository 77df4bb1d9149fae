"""The durable record of a runtime's epochs, as a change uses it.

A runtime without a store has no journal, and its changes are as durable as its process. With one, a
change commits to the journal, in its turn, before it publishes: if the journal cannot store the
epoch, the change is rolled back like any other that fails (E5). After that nothing is left that can
fail; should the process die in between, the next start publishes the epoch (E8).

The records hold no lease and no epoch: an error of the journal keeps its frames, and a rollback
waits for the leases of what it takes down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epochal._core.plugin.candidate import Candidate


@dataclass(frozen=True, slots=True)
class AddedGeneration:
    """A generation that is new in an epoch: its number, and the candidate that it is made of."""

    number: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Commit:
    """A change that is about to publish.

    Attributes:
        change: its number in its runtime.
        reason: its label, for the history.
        epoch_before: the number of the epoch that it started from.
        epoch: the number of the epoch that it publishes.
        id: that epoch's id.
        brought: the generations that are new.
        gone: the plugins that lose their active generation, replaced or not.
    """

    change: int
    reason: str
    epoch_before: int
    epoch: int
    id: str
    brought: tuple[AddedGeneration, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedChange:
    """A change that failed and was rolled back.

    Attributes:
        change: its number in its runtime.
        reason: its label.
        epoch: the number of the epoch that it started from, and that stays current.
        code: the error's stable code.
        error: its text.
        numbers: plugin -> the number that its staged generation had; not to be given out again.
    """

    change: int
    reason: str
    epoch: int
    code: str
    error: str
    numbers: Mapping[str, int]


class Journal(Protocol):
    """A durable record of the epochs of one runtime."""

    def commit(self, commit: Commit) -> None:
        """Store an epoch, durably, before it is published; called by the change that has the turn.

        Raises:
            EpochalError: it cannot be stored; the change is rolled back.
        """
        ...

    def refuse(self, refusal: RefusedChange) -> None:
        """Record a change that failed; called by any change's thread.

        Raises:
            EpochalError: it cannot be recorded; the change's own error gets a note.
        """
        ...

    def candidate(self, plugin: str, to: int | str) -> Candidate:
        """The candidate that a generation was made of.

        Args:
            plugin: its id.
            to: the generation's number, or a version: its newest generation.

        Raises:
            NotKeptError: it is not in the history any more, or never was.
            StoreCorruptError: what is stored is not what was stored.
        """
        ...

    def candidates(self, epoch: int) -> Mapping[str, Candidate]:
        """The candidates of a committed epoch, by plugin.

        Raises:
            NotKeptError: it is not in the history any more, or never was.
            StoreCorruptError: what is stored is not what was stored.
        """
        ...
