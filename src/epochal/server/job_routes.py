"""`/v1/jobs`: how the jobs of the plugins stand, and running one now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from epochal.errors import UnknownExportError
from epochal.server.problem_details import answering
from epochal.server.request_bodies import read_nothing, service_of
from epochal.server.schemas import epoch_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from epochal.jobs import JobStatus


@answering
async def list_jobs(request: Request) -> Response:
    """Every job, by name; none where the service runs none."""
    service = service_of(request)
    found = [] if service.jobs is None else service.jobs.status()
    document = {"epoch": epoch_of(service.runtime.epoch), "jobs": [_job_of(one) for one in found]}
    return JSONResponse(document)


@answering
async def run_job(request: Request) -> Response:
    """Have a job run as soon as a worker is free; how that ends is among the events."""
    service, name = service_of(request), request.path_params["job"]
    await read_nothing(request)
    service.check_serving()
    if service.jobs is None:
        raise UnknownExportError("job", name)
    service.jobs.run_now(name)
    return JSONResponse({"epoch": epoch_of(service.runtime.epoch), "job": name}, 202)


def _job_of(status: JobStatus) -> dict[str, Any]:
    return {
        "job": status.name,
        "plugin": status.name.partition(".")[0],
        "schedule": status.schedule,
        "next_at": None if status.next_at is None else status.next_at.timestamp(),
        "running": status.running,
        "queued": status.queued,
        "ticks": status.ticks,
        "failures": status.failures,
        "failures_in_row": status.failures_in_row,
        "skipped": status.skipped,
        "circuit": status.circuit.value,
        "last_error": status.last_error,
    }
