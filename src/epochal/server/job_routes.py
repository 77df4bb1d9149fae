"""`/v1/jobs`: the state of the plugins' jobs, and running one now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochal.errors import UnknownExportError
from epochal.server.decoding import read_nothing
from epochal.server.responses import json_response
from epochal.server.schemas import JobInfo, JobList, JobRequested, epoch_ref
from epochal.server.state import service_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from epochal.jobs import JobStatus


async def list_jobs(request: Request) -> Response:
    """Every job, by name; none where the service runs none."""
    service = service_of(request)
    jobs = [] if service.jobs is None else service.jobs.status()
    return json_response(
        JobList(epoch=epoch_ref(service.runtime.epoch), jobs=[_job_info(status) for status in jobs])
    )


async def run_job(request: Request) -> Response:
    """Have a job run as soon as a worker is free; the events report how it ends."""
    service, name = service_of(request), request.path_params["job"]
    await read_nothing(request)
    service.check_serving()
    if service.jobs is None:
        raise UnknownExportError("job", name)
    service.jobs.run_now(name)
    return json_response(JobRequested(epoch=epoch_ref(service.runtime.epoch), job=name), 202)


def _job_info(status: JobStatus) -> JobInfo:
    return JobInfo(
        job=status.name,
        plugin=status.name.partition(".")[0],
        schedule=status.schedule,
        next_at=None if status.next_at is None else status.next_at.timestamp(),
        running=status.running,
        queued=status.queued,
        ticks=status.ticks,
        failures=status.failures,
        failures_in_row=status.failures_in_row,
        skipped=status.skipped,
        circuit=status.circuit.value,
        last_error=status.last_error,
    )
