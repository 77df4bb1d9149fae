"""How a job stands, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochal.jobs.job_state import Line
    from epochal.jobs.retry import Circuit


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job stands.

    Attributes:
        name: its full name, `plugin.name`.
        schedule: in words.
        next_at: when it runs next, in UTC; None where it does not.
        running: whether it runs now.
        queued: whether it is due and waits for a worker.
        ticks: runs that ended well, since this `Jobs` began.
        failures: runs that failed, since then.
        failures_in_row: ticks, since the last that ended well, or the last reload.
        skipped: ticks left out: due while the one before ran, or while the machine was too busy for
            more than one of several, or missed for longer than the grace.
        circuit: whether failures hold it back.
        last_error: of the last failure, in one line, or why it is not run; empty for none.
    """

    name: str
    schedule: str
    next_at: datetime | None
    running: bool
    queued: bool
    ticks: int
    failures: int
    failures_in_row: int
    skipped: int
    circuit: Circuit
    last_error: str


def status_of(line: Line, now: float) -> JobStatus:
    """A record of it, as it stands now."""
    is_tick = line.run is not None and not line.run.by_hand
    at = line.following(now) if is_tick else line.next_at
    return JobStatus(
        name=line.name,
        schedule=str(line.schedule),
        next_at=None if at is None else datetime.fromtimestamp(at, UTC),
        running=line.run is not None,
        queued=line.is_due(now),
        ticks=line.ticks,
        failures=line.failures,
        failures_in_row=line.breaker.failures,
        skipped=line.skipped,
        circuit=line.breaker.state,
        last_error=line.last_error,
    )
