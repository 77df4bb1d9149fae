"""The service as an ASGI application, and the tasks that live as long as it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from epochal.server import mcp_mount
from epochal.server.api import make_routes
from epochal.server.engine_health import watch_engine
from epochal.server.front import Front
from epochal.server.mcp_mount import McpMount
from epochal.server.memory_limit import watch_memory
from epochal.server.schemas import epoch_ref
from epochal.server.status_routes import drains_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from epochal.server.schemas import DrainInfo
    from epochal.server.security import Access
    from epochal.server.state import ServiceState

_SAMPLE_S: Final = 0.5
_REST: Final = 10
"""A search for holders stops every thread now and then, so the next one waits ten times as long as
the last one took: a tenth of the time at most goes to searches."""


def create_app(service: ServiceState, access: Access) -> Front:
    """The application.

    Args:
        service: the runtime and database to serve; it is not closed with the application.
        access: the tokens, and the names that the service is known by.
    """
    # Not in the API's document: it is another protocol.
    mount = McpMount(service)
    tools = Route(mcp_mount.PATH, mount, methods=mcp_mount.METHODS, name="mcp")
    return Front(service, access, [*make_routes(), tools], partial(_lifespan, mount))


@asynccontextmanager
async def _lifespan(mount: McpMount, app: Front) -> AsyncIterator[None]:
    service: ServiceState = app.state.service
    unsubscribe = service.subscribe()
    service.at_stop.append(mount.stop)
    tasks = [asyncio.create_task(watch(service)) for watch in (_sample, watch_engine, watch_memory)]
    try:
        yield
    finally:
        service.stop()
        await mount.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.to_thread(unsubscribe)


async def _sample(service: ServiceState) -> None:
    """Publish the figures twice a second, with the holders of drains as often as they may cost."""
    clock = asyncio.get_running_loop().time
    drains: list[DrainInfo] = []
    next_search = 0.0
    while True:
        await asyncio.sleep(_SAMPLE_S)
        if not service.runtime.draining:
            drains = []
        elif service.feed.followers and clock() >= next_search:
            started = clock()
            drains = await asyncio.to_thread(drains_of, service)
            next_search = clock() + _REST * (clock() - started)
        # A reference by number, not the epoch: this frame waits, and an epoch pins every plugin.
        epoch = epoch_ref(service.runtime.epoch)
        service.feed.sample(service.query_stats.sample(epoch=epoch, drains=drains))
