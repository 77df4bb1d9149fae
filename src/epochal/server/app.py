"""The service as an ASGI application: its middleware, and the tasks that live as long as it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from epochal.server.api import make_routes
from epochal.server.engine_health import watch_engine
from epochal.server.memory_limit import watch_memory
from epochal.server.problem_details import answer_to, problem
from epochal.server.responses import UnreadBodyMiddleware
from epochal.server.schemas import epoch_ref
from epochal.server.security import AuthMiddleware
from epochal.server.shutdown import ShutdownMiddleware
from epochal.server.status_routes import drains_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from epochal.server.schemas import DrainInfo
    from epochal.server.security import Access
    from epochal.server.state import ServiceState

_SAMPLE_S: Final = 0.5
_REST: Final = 10
"""A search for holders stops every thread now and then, so the next one waits ten times as long as
the last one took: a tenth of the time at most goes to searches."""


def create_app(service: ServiceState, access: Access) -> Starlette:
    """The application.

    Args:
        service: the runtime and database to serve; it is not closed with the application.
        access: the tokens, and the names that the service is known by.
    """
    app = Starlette(
        routes=make_routes(),
        # The first is the outermost. A request that the shutdown cancels is answered even where an
        # inner one is at work; a refusal by the guard is seen though the body was not read; and
        # only a request that the guard let through learns which epoch is current.
        middleware=[
            Middleware(ShutdownMiddleware, service=service),
            Middleware(UnreadBodyMiddleware),
            Middleware(AuthMiddleware, access=access),
            Middleware(EpochHeaders, service=service),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.access = access
    return app


class EpochHeaders:
    """Names the current epoch in the headers of each answer below `/v1/` that names none itself."""

    def __init__(self, app: ASGIApp, service: ServiceState) -> None:
        self._app: Final = app
        self._runtime: Final = service.runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return

        async def send_with_epoch(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = list(message["headers"])
                if all(name != b"epochal-epoch" for name, _ in headers):
                    epoch = epoch_ref(self._runtime.epoch)
                    headers.append((b"epochal-epoch", str(epoch.number).encode()))
                    headers.append((b"epochal-epoch-id", epoch.id.encode()))
                    message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_epoch)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: ServiceState = app.state.service
    unsubscribe = service.subscribe()
    tasks = [asyncio.create_task(watch(service)) for watch in (_sample, watch_engine, watch_memory)]
    try:
        yield
    finally:
        service.stop()
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


async def _http_error(request: Request, error: Exception) -> Response:
    """The router's refusal in the service's form."""
    assert isinstance(error, HTTPException)
    codes = {404: "not-found", 405: "method"}
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem(error.status_code, codes.get(error.status_code, "http"), detail, error.headers)


async def _unexpected(_: Request, error: Exception) -> Response:
    return answer_to(error)
