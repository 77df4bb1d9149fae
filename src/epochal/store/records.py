"""The store's records: frozen data that refers to no object of a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochal.report import Version


@dataclass(frozen=True, slots=True)
class Keep:
    """How much history is kept. The current epoch always is.

    An epoch is dropped when it passes either limit. Its age counts from the day on which it was
    replaced, so an epoch that served until a minute ago can be rolled back to however old it is. A
    time without changes counts for a tenth of the days, or for one day, at most: a clock that was
    wrong, by however much, must not make the whole history old.

    Attributes:
        epochs: how many epochs, the current one included; at least 1.
        days: how long an epoch is kept after it was replaced.
        audit: how many entries of the audit log; entries older than `days` are dropped, too.

    Raises:
        ValueError: a number is negative, or no epoch would be kept.
    """

    epochs: int = 100
    days: float = 90.0
    audit: int = 10_000

    def __post_init__(self) -> None:
        if self.epochs < 1 or not self.days >= 0 or self.audit < 0:
            raise ValueError(f"{self}: expected at least 1 epoch, and no negative number")


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """A committed epoch.

    Attributes:
        number: its number.
        id: its id: two epochs with the same id run the same code, configuration and grants.
        at: the time of the commit, in seconds since the Unix epoch.
        reason: the label of the change that made it.
        plugins: its plugins' versions, in the order of their ids; generations have the numbers
            with which they were committed (a restart gives them new ones).
    """

    number: int
    id: str
    at: float
    reason: str
    plugins: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A change that was committed or refused.

    Attributes:
        at: the time, in seconds since the Unix epoch.
        change: its number in the runtime that ran it.
        reason: its label: the person or system that asked for it, and why.
        epoch_before: the number of the epoch that it began with.
        epoch_after: the number of the epoch that it made; the same if it was refused.
        plugins: the plugins that it changed.
        code: the stable code of the error; None if it was committed.
        error: the text of the error; None if it was committed.
    """

    at: float
    change: int
    reason: str
    epoch_before: int
    epoch_after: int
    plugins: tuple[str, ...]
    code: str | None = None
    error: str | None = None

    @property
    def committed(self) -> bool:
        """Whether it was committed, not refused."""
        return self.code is None
