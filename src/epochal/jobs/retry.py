"""When to try again what has failed: exponential backoff, and a circuit breaker.

After each failure in a row the pause doubles, up to a cap. After `after` of them the breaker opens:
for `rest_s` seconds nothing is tried, then one trial goes through (half-open), which closes the
breaker or opens it again. (M. Nygard, *Release It!*, 2007, "Circuit Breaker".)

Not for several threads: whoever owns one calls it under a lock of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Circuit(Enum):
    """Where a breaker stands; the value is for people."""

    # Everything is tried.
    CLOSED = "closed"
    # Nothing is tried until its rest is over.
    OPEN = "open"
    # One trial is under way.
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failures are dealt with.

    Attributes:
        first_s: seconds to wait after the first failure; doubles with each in a row.
        most_s: seconds to wait at most.
        after: failures in a row that open the breaker.
        rest_s: seconds for which it stays open; infinite for until a reload.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    after: int = 5
    rest_s: float = 60.0

    def __post_init__(self) -> None:
        # Said this way round, it is false of what is not a number.
        if not (0 <= self.first_s <= self.most_s and self.rest_s >= 0 and self.after >= 1):
            raise ValueError(
                f"{self} cannot be: expected 0 <= first_s <= most_s, rest_s >= 0, after >= 1"
            )


class Breaker:
    """Counts the failures in a row of one thing.

    Attributes:
        state: where it stands.
        failures: in a row.
    """

    __slots__ = ("_patience", "failures", "state")

    def __init__(self, patience: RetryPolicy) -> None:
        self._patience: Final = patience
        self.state = Circuit.CLOSED
        self.failures = 0

    def begin(self) -> None:
        """Something is tried; while it is open, that is the trial."""
        if self.state is Circuit.OPEN:
            self.state = Circuit.HALF_OPEN

    def gave_up(self) -> None:
        """What was tried did not come about: the trial is still to be made."""
        if self.state is Circuit.HALF_OPEN:
            self.state = Circuit.OPEN

    def succeeded(self) -> None:
        """It went well: everything is forgotten."""
        self.state = Circuit.CLOSED
        self.failures = 0

    def failed(self) -> float:
        """It failed.

        Returns:
            Seconds to wait before it is tried again.
        """
        self.failures += 1
        patience = self._patience
        if self.state is Circuit.HALF_OPEN or self.failures >= patience.after:
            self.state = Circuit.OPEN
            return patience.rest_s
        # The exponent is bounded: a float has no room for a thousand doublings.
        return min(patience.most_s, patience.first_s * 2.0 ** min(self.failures - 1, 60))
