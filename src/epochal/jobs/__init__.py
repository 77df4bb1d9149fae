"""Work in the background, by plugins that are swapped while it runs.

::

    with Jobs(runtime) as jobs, Streams(runtime) as streams:
        streams.connect("orders.changes", "lake.files")
        ...

`Jobs` runs the plugins' jobs by their schedules, `Streams` moves events from sources to sinks.
Needs the extra `jobs` (`pip install 'epochal[jobs]'`): cronsim computes the times of cron
expressions.
"""

try:
    import cronsim as _cronsim
except ImportError as error:  # pragma: no cover  # the test environment has it
    raise ImportError(
        f"epochal.jobs needs the extra 'jobs': pip install 'epochal[jobs]' ({error})"
    ) from error

from epochal._core.sync.retry import Circuit, RetryPolicy
from epochal.jobs.events import (
    BreakerMoved,
    FlowFailed,
    JobRefused,
    TickEnded,
    TickFailed,
    TicksSkipped,
    WorkersBusy,
)
from epochal.jobs.flow import Flow, FlowStatus
from epochal.jobs.runner import Jobs
from epochal.jobs.status import JobStatus
from epochal.jobs.streams import Streams

del _cronsim

__all__ = [
    "BreakerMoved",
    "Circuit",
    "Flow",
    "FlowFailed",
    "FlowStatus",
    "JobRefused",
    "JobStatus",
    "Jobs",
    "RetryPolicy",
    "Streams",
    "TickEnded",
    "TickFailed",
    "TicksSkipped",
    "WorkersBusy",
]
