"""The events of jobs and streams, which `Jobs` and `Streams` emit on the runtime's event stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from epochal.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class TickEnded(Event):
    """A run of a job succeeded."""

    _LEVEL: ClassVar[int] = logging.DEBUG
    _TEXT: ClassVar[str] = "job {job} ran on {plugin}#{generation}: {took_ms:.1f} ms"

    plugin: str
    generation: int
    job: str
    took_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TickFailed(Event):
    """A run of a job raised.

    Attributes:
        plugin: its id.
        generation: the number of the generation that ran.
        job: the job's full name.
        error: the error in one line.
        failures: how many ticks failed in a row.
        wait_s: seconds until the retry; infinite for a retry after the next reload.
        by_hand: whether `Jobs.run_now` asked for the run: such a run is not retried, and does not
            count in `failures`.
    """

    _LEVEL: ClassVar[int] = logging.ERROR

    plugin: str
    generation: int
    job: str
    error: str
    failures: int
    wait_s: float
    by_hand: bool = False

    def describe(self) -> str:
        """The job, the wait before its retry, and the error."""
        if self.by_hand:
            return f"job {self.job} failed when it was run by hand: {self.error}"
        pause = f"for {self.wait_s:g} s" if isfinite(self.wait_s) else "until a reload"
        return (
            f"job {self.job} failed, {self.failures} in a row, not tried again {pause}: "
            f"{self.error}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TicksSkipped(Event):
    """Ticks of a job were left out.

    Attributes:
        plugin: its id.
        job: the job's full name.
        count: how many, since the last such event.
        reason: "too late": later than the grace allows; "still running": the previous run was;
            "busy": no worker was free, or the process was away, and one tick stands for all.
    """

    _TEXT: ClassVar[str] = "job {job}: {count} ticks left out, {reason}"

    plugin: str
    job: str
    count: int
    reason: str

    @property
    def level(self) -> int:
        """WARNING for "too late". The others are INFO: a slow job emits them by the thousand."""
        return logging.WARNING if self.reason == "too late" else logging.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRefused(Event):
    """A job does not run, because its schedule cannot be kept. The other jobs do."""

    _LEVEL: ClassVar[int] = logging.ERROR
    _TEXT: ClassVar[str] = "job {job} is not run: {error}"

    plugin: str
    job: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersBusy(Event):
    """Jobs are due, and no worker has been free for a while.

    Attributes:
        waiting: how many jobs are due.
        running: the jobs that occupy the workers.
    """

    _LEVEL: ClassVar[int] = logging.WARNING

    waiting: int
    running: tuple[str, ...]

    def describe(self) -> str:
        """The number of waiting jobs and the running ones."""
        running = ", ".join(self.running)
        return f"{self.waiting} jobs are due and no worker is free; running: {running}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved(Event):
    """A job's circuit breaker is "closed", "open" or "half-open" now."""

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "the circuit breaker of job {job} is {state}"

    plugin: str
    job: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFailed(Event):
    """A batch of a stream failed. It is retried from the sink's last position.

    Attributes:
        source: full name.
        sink: full name.
        error: which end failed, and the error in one line.
        failures: how many batches failed in a row.
        wait_s: seconds until the retry.
    """

    _LEVEL: ClassVar[int] = logging.ERROR
    _TEXT: ClassVar[str] = "{source} -> {sink} failed, goes on in {wait_s:g} s: {error}"

    source: str
    sink: str
    error: str
    failures: int
    wait_s: float
