"""Routes that only read: events, drains, status, catalog, health, metrics, the page's session."""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.responses import Response

from epochal.errors import HostError, NotKeptError
from epochal.server import schemas
from epochal.server.decoding import convert_text, read_nothing
from epochal.server.engine_health import describe_holders
from epochal.server.problem_details import problem
from epochal.server.responses import EventStreamResponse, json_response
from epochal.server.schemas import DrainInfo, TableInfo, epoch_ref, version_facts
from epochal.server.security import Right
from epochal.server.state import service_of
from epochal.sql.json_values import json_field

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.requests import Request

    from epochal.server.security import Access
    from epochal.server.state import ServiceState
    from epochal.sql import Database

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def events(request: Request) -> Response:
    """The events, as server-sent events."""
    service = service_of(request)
    service.check_serving()
    if request.method == "HEAD":  # its body would be produced for ever, and never sent
        return Response(media_type="text/event-stream")
    stream = service.feed.follow(request.headers.get("last-event-id"))
    return EventStreamResponse(
        stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def status(request: Request) -> Response:
    """Epoch, figures, and the samples of the last two minutes."""
    service = service_of(request)
    stats, epoch = service.query_stats, service.runtime.epoch
    return json_response(
        schemas.StatusAnswer(
            epoch=epoch_ref(epoch),
            boot=service.feed.boot,
            state="stopping" if service.stopping else "serving",
            started=service.started,
            uptime_s=round(time() - service.started, 3),
            plugins=len(epoch.generations),
            queries=stats.queries,
            errors=stats.errors,
            running=stats.running,
            draining=len(service.runtime.draining),
            samples=list(stats.samples),
        )
    )


async def drains(request: Request) -> Response:
    """The generations that drain, and their holders."""
    service = service_of(request)
    infos = await asyncio.to_thread(drains_of, service)
    return json_response(schemas.DrainList(epoch=epoch_ref(service.runtime.epoch), drains=infos))


def drains_of(service: ServiceState) -> list[DrainInfo]:
    """Every drain under way. Searches the heap for holders: not on the event loop."""
    return [
        DrainInfo(
            **version_facts(generation.described),
            seconds=service.drained_for(generation),
            queries=service.query_stats.running_on(generation.plugin, generation.number),
            holders=[str(holder) for holder in generation.known_holders() or generation.holders()],
        )
        for generation in service.runtime.draining
    ]


async def cancel_holders(request: Request) -> Response:
    """Ask what holds an old generation in use to stop; the events report how the drain ends."""
    service = service_of(request)
    path = convert_text(request.path_params, schemas.DrainPath, "the address")
    await read_nothing(request)
    service.check_serving()
    for generation in service.runtime.draining:
        if (generation.plugin, generation.number) == (path.plugin, path.number):
            asked = await asyncio.to_thread(generation.cancel_holders)
            epoch = epoch_ref(service.runtime.epoch)
            return json_response(schemas.CancelAnswer(epoch=epoch, asked=list(map(str, asked))))
    raise NotKeptError(f"generation {path.number} of plugin {path.plugin!r} is not draining")


async def catalog(request: Request) -> Response:
    """The tables and functions that a query may name."""
    service = service_of(request)
    # Before the look: the epoch of the answer is not newer than what it shows.
    epoch = epoch_ref(service.runtime.epoch)
    tables = await asyncio.to_thread(tables_of, service.database)
    functions = sorted(service.database.functions())
    return json_response(schemas.CatalogAnswer(epoch=epoch, tables=tables, functions=functions))


def tables_of(database: Database) -> list[TableInfo]:
    """Every table, by name. Has plugins open their tables: not on the event loop."""
    return [_table_info(name, schema) for name, schema in sorted(database.described().items())]


def _table_info(name: str, schema: pa.Schema | HostError) -> TableInfo:
    if isinstance(schema, HostError):
        return TableInfo(name=name, columns=[], error=str(schema))
    columns = msgspec.convert([json_field(field) for field in schema], list[schemas.ColumnInfo])
    return TableInfo(name=name, columns=columns, error=None)


async def healthz(_: Request) -> Response:
    """Whether the process answers at all."""
    return json_response(schemas.HealthAnswer(status="ok"))


async def readyz(request: Request) -> Response:
    """Whether the service takes work."""
    service = service_of(request)
    if service.stopping:
        return problem(503, "stopping", "the service is stopping")
    if service.held_by:
        return problem(503, "held", describe_holders(service.held_by))
    return json_response(schemas.HealthAnswer(status="ready"))


async def metrics(request: Request) -> Response:
    """The figures for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type=METRICS_TYPE)


async def show_session(request: Request) -> Response:
    """The rights of the request's token or session."""
    right: Right = request.scope["right"]
    is_admin = right is Right.CHANGE
    return json_response(schemas.SessionRights(rights=["read", "change"] if is_admin else ["read"]))


async def open_session(request: Request) -> Response:
    """Give the page its session for the admin token; the cookie ends with the browser."""
    access: Access = request.app.state.access
    answer = json_response(schemas.SessionKey(key=access.key))
    answer.set_cookie(access.cookie_name, access.cookie, httponly=True, samesite="strict")
    return answer


async def close_session(request: Request) -> Response:
    """Have the browser forget the session."""
    access: Access = request.app.state.access
    answer = Response(status_code=204)
    answer.delete_cookie(access.cookie_name, httponly=True, samesite="strict")
    return answer
