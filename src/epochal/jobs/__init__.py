"""Work in the background, by plugins that are swapped while it runs.

::

    with Jobs(runtime) as jobs, Streams(runtime) as streams:
        streams.connect("orders.changes", "lake.files")
        ...

Needs the extra `jobs` (`pip install 'epochal[jobs]'`): APScheduler keeps the schedules.
"""

try:
    import apscheduler as _apscheduler
except ImportError as error:  # pragma: no cover  # the test environment has it
    raise ImportError(
        f"epochal.jobs needs the extra 'jobs': pip install 'epochal[jobs]' ({error})"
    ) from error

from epochal.jobs.flow import Flow, FlowStatus
from epochal.jobs.retry import Circuit, RetryPolicy
from epochal.jobs.runner import Jobs
from epochal.jobs.status import JobStatus
from epochal.jobs.streams import Streams

del _apscheduler

__all__ = ["Circuit", "Flow", "FlowStatus", "JobStatus", "Jobs", "RetryPolicy", "Streams"]
