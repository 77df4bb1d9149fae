"""What the store tells people: frozen records that hold nothing of any plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochal.report import Version


@dataclass(frozen=True, slots=True)
class Keep:
    """How much history is kept. The current epoch always is.

    An epoch is dropped when either limit is passed; what served until a minute ago can therefore
    always be rolled back to, however long it served.

    Attributes:
        epochs: how many, the current one included; at least 1.
        days: for how long after an epoch stopped being the current one.
        audit: how many entries of the audit log, which keeps to the same number of days.

    Raises:
        ValueError: a limit that nothing could keep to.
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
        at: when it was committed, in seconds since the Unix epoch.
        reason: the label of the change that made it.
        plugins: which code it is made of, by plugin id; generations as they were committed (a
            restart gives them new numbers).
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
        at: when, in seconds since the Unix epoch.
        change: its number in the runtime that ran it.
        reason: its label: who asked for it, and why.
        epoch_before: the epoch that it found.
        epoch_after: the epoch that it made; the same if it was refused.
        plugins: the plugins that it touched.
        code: the stable code of the error that it was refused for; None if it was committed.
        error: that error's text.
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
        """Whether it was committed."""
        return self.code is None
