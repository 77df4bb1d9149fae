"""What reads only: events, drains, status, catalog, health, metrics, the page's session."""

from __future__ import annotations

import asyncio
import json
from time import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from epochal.server.engine_health import said
from epochal.server.problem_details import answering, problem
from epochal.server.request_bodies import service_of
from epochal.server.responses import EventStreamResponse
from epochal.server.schemas import catalog_of, drain_of, epoch_of
from epochal.server.security import Right

if TYPE_CHECKING:
    from starlette.requests import Request

    from epochal.server.security import Access
    from epochal.server.state import Service

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@answering
async def events(request: Request) -> Response:
    """What happens, as server-sent events."""
    service = service_of(request)
    service.check_serving()
    if request.method == "HEAD":  # a stream would be read for ever, and nothing of it sent
        return Response(media_type="text/event-stream")
    following = service.feed.follow(request.headers.get("last-event-id"))
    return EventStreamResponse(
        following, media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


@answering
async def status(request: Request) -> Response:
    """How things are: epoch, figures, and the samples of the last two minutes."""
    service = service_of(request)
    meter, epoch = service.meter, service.runtime.epoch
    return JSONResponse(
        {
            "epoch": epoch_of(epoch),
            "boot": service.feed.boot,
            "state": "stopping" if service.stopping else "serving",
            "started": service.started,
            "uptime_s": round(time() - service.started, 3),
            "plugins": len(epoch.generations),
            "queries": meter.queries,
            "errors": meter.errors,
            "running": meter.running,
            "draining": len(service.runtime.draining),
            "samples": list(meter.samples),
        }
    )


@answering
async def drains(request: Request) -> Response:
    """The generations on their way out, and who holds them."""
    service = service_of(request)
    found = await asyncio.to_thread(drains_of, service)
    return JSONResponse({"epoch": epoch_of(service.runtime.epoch), "drains": found})


def drains_of(service: Service) -> list[dict[str, Any]]:
    """Every drain under way. Looks through the heap for holders: not on the event loop."""
    return [
        drain_of(generation, service.meter, service.drained_for(generation))
        for generation in service.runtime.draining
    ]


@answering
async def catalog(request: Request) -> Response:
    """The tables and functions that a query may name."""
    service = service_of(request)
    epoch = epoch_of(service.runtime.epoch)
    found = await asyncio.to_thread(catalog_of, service.database)
    return JSONResponse({"epoch": epoch, **found})


async def healthz(_: Request) -> Response:
    """Whether the process answers at all."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether it takes work."""
    service = service_of(request)
    if service.stopping:
        return problem(503, "stopping", "the service is stopping")
    if service.held_by:
        return problem(503, "held", said(service.held_by))
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """The figures for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type=METRICS_TYPE)


@answering
async def show_session(request: Request) -> Response:
    """What whoever asks may do."""
    right: Right = request.scope["right"]
    return JSONResponse({"rights": ["read", "change"] if right is Right.CHANGE else ["read"]})


@answering
async def open_session(request: Request) -> Response:
    """Give the page its session for the admin token; the cookie ends with the browser."""
    access: Access = request.app.state.access
    answer = Response(json.dumps({"key": access.key}), media_type="application/json")
    answer.set_cookie(access.cookie_name, access.cookie, httponly=True, samesite="strict")
    return answer


@answering
async def close_session(request: Request) -> Response:
    """Have the browser forget the session."""
    access: Access = request.app.state.access
    answer = Response(status_code=204)
    answer.delete_cookie(access.cookie_name, httponly=True, samesite="strict")
    return answer
