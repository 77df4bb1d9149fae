"""When to retry after a failure: exponential backoff, and a circuit breaker.

After each failure in a row the wait doubles, up to a cap. After `after` failures the breaker opens:
nothing is tried for `rest_s` seconds, then one trial is let through (half-open), which closes the
breaker or opens it again. (M. Nygard, *Release It!*, 2007, "Circuit Breaker".)

Not thread-safe: the owner of a `Breaker` calls it under a lock of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

_MOST_DOUBLINGS: Final = 60
"""A float overflows at 1,024, and any cap is reached long before this."""


class Circuit(Enum):
    """The state of a breaker; the value is for display."""

    # Everything is tried.
    CLOSED = "closed"
    # Nothing is tried until the rest is over.
    OPEN = "open"
    # One trial is in progress.
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait after failures.

    Attributes:
        first_s: seconds to wait after the first failure; doubles with each in a row.
        most_s: seconds to wait at most.
        after: failures in a row that open the breaker.
        rest_s: seconds for which it stays open; infinite for until a reload.

    Raises:
        ValueError: a value is out of range.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    after: int = 5
    rest_s: float = 60.0

    def __post_init__(self) -> None:
        # `not (…)` refuses NaN too: every comparison with it is false.
        if not (0 <= self.first_s <= self.most_s and self.rest_s >= 0 and self.after >= 1):
            raise ValueError(
                f"{self} cannot be: expected 0 <= first_s <= most_s, rest_s >= 0, after >= 1"
            )


class Breaker:
    """Counts the failures in a row of one job, stream or plugin.

    Attributes:
        state: closed, open or half-open.
        failures: in a row.
    """

    __slots__ = ("_policy", "failures", "state")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy: Final = policy
        self.state = Circuit.CLOSED
        self.failures = 0

    def begin(self) -> None:
        """An attempt begins; if the breaker is open, it is the trial."""
        if self.state is Circuit.OPEN:
            self.state = Circuit.HALF_OPEN

    def cancel(self) -> None:
        """The attempt did not take place: the trial is still to come."""
        if self.state is Circuit.HALF_OPEN:
            self.state = Circuit.OPEN

    def record_success(self) -> None:
        """The attempt succeeded: close, and forget the failures."""
        self.state = Circuit.CLOSED
        self.failures = 0

    def record_failure(self) -> float:
        """The attempt failed.

        Returns:
            Seconds to wait before the next.
        """
        self.failures += 1
        policy = self._policy
        if self.state is Circuit.HALF_OPEN or self.failures >= policy.after:
            self.state = Circuit.OPEN
            return policy.rest_s
        doublings = min(self.failures - 1, _MOST_DOUBLINGS)
        return min(policy.most_s, policy.first_s * 2.0**doublings)
