"""`/v1/jobs` and `/v1/streams`: the state of work in the background, and running a job now."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from epochal.errors import UnknownExportError
from epochal.server.decoding import read_nothing
from epochal.server.responses import json_response
from epochal.server.schemas import (
    JobInfo,
    JobList,
    JobRequested,
    StreamInfo,
    StreamList,
    epoch_ref,
)
from epochal.server.state import service_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from epochal.jobs import FlowStatus, JobStatus


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


async def list_streams(request: Request) -> Response:
    """Every stream, in the order of its connection; none where the service connects none."""
    service = service_of(request)
    flows = [] if service.streams is None else service.streams.status()
    return json_response(
        StreamList(
            epoch=epoch_ref(service.runtime.epoch), streams=[_stream_info(flow) for flow in flows]
        )
    )


def _stream_info(status: FlowStatus) -> StreamInfo:
    return StreamInfo(
        source=status.source,
        sink=status.sink,
        events=status.events,
        position=_position_text(status.position),
        waiting=status.waiting,
        failures_in_row=status.failures_in_row,
        circuit=status.circuit.value,
        last_error=status.last_error,
    )


def _position_text(position: object) -> str | None:
    """A position as text; one of a plugin's own class by that alone, since its code is foreign."""
    if position is None:
        return None
    if type(position) in (list, tuple):
        parts = (str(_position_text(part)) for part in cast("Iterable[object]", position))
        return f"[{', '.join(parts)}]"
    is_plain = type(position) in (int, float, str, bytes)
    return str(position) if is_plain else f"<{type(position).__name__}>"


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
