"""The status of a job, for display and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epochal._core.sync.retry import Circuit
    from epochal.jobs.job_state import JobState


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The status of a job at one moment.

    Attributes:
        name: full name, `plugin.name`.
        schedule: in words.
        next_at: the time of the next run, in UTC; None if there is none.
        running: whether a run is in progress.
        queued: whether the job is due and waits for a worker.
        ticks: runs that succeeded since this `Jobs` began.
        failures: runs that failed since then.
        failures_in_row: failed ticks since the last that succeeded, or the last reload.
        skipped: ticks left out: due during the previous run, or one of several that came while no
            worker was free, or missed for longer than the grace.
        circuit: whether failures stop the job.
        last_error: of the last failed run, in one line, or why the job does not run; else empty.
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


def status_of(job: JobState, now: float) -> JobStatus:
    """The job's status now."""
    is_tick = job.run is not None and not job.run.by_hand
    at = job.tick_after_run(now) if is_tick else job.next_at
    return JobStatus(
        name=job.name,
        schedule=str(job.schedule),
        next_at=None if at is None else datetime.fromtimestamp(at, UTC),
        running=job.run is not None,
        queued=job.is_due(now),
        ticks=job.ticks,
        failures=job.failures,
        failures_in_row=job.breaker.failures,
        skipped=job.skipped,
        circuit=job.breaker.state,
        last_error=job.last_error,
    )
