"""The service as an ASGI application: its routes, and what lives as long as it does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from epochal.server import job_routes as jobs
from epochal.server import plugin_routes as plugins
from epochal.server import query_routes as queries
from epochal.server import static_files as page
from epochal.server import status_routes as status
from epochal.server.api import document
from epochal.server.engine_health import watch_workers
from epochal.server.problem_details import answer_to, problem
from epochal.server.security import AuthMiddleware
from epochal.server.shutdown import Cut
from epochal.server.unread_bodies import Lingering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from epochal.server.problem_details import Handler
    from epochal.server.security import Access
    from epochal.server.state import Service

_SAMPLE_S: Final = 0.5
_LOOK_SHARE: Final = 10
"""Looking for holders stops every thread now and then: it gets a tenth of the time at most."""


def create_app(service: Service, access: Access) -> Starlette:
    """The application.

    Args:
        service: what is served; it is not closed with the application.
        access: who is let in.
    """
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(Cut, service=service),
            Middleware(Lingering),
            Middleware(AuthMiddleware, access=access),
            Middleware(_Epoch, service=service),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _unforeseen},
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.access = access
    return app


def _routes() -> list[Route]:
    one = "/v1/plugins/{plugin}"
    return [
        _route("/v1/query", POST=queries.query),
        _route("/v1/plugins", GET=plugins.list_plugins),
        _route("/v1/plugins:check", POST=plugins.check_plugin),
        _route(one, GET=plugins.show_plugin, PUT=plugins.put_plugin, DELETE=plugins.remove_plugin),
        _route(f"{one}/reload", POST=plugins.reload_plugin),
        _route(f"{one}/rollback", POST=plugins.roll_back_plugin),
        _route("/v1/epochs", GET=plugins.list_epochs),
        _route("/v1/epochs/{number}/rollback", POST=plugins.roll_back_epoch),
        _route("/v1/jobs", GET=jobs.list_jobs),
        _route("/v1/jobs/{job}/run", POST=jobs.run_job),
        _route("/v1/events", GET=status.events),
        _route("/v1/drains", GET=status.drains),
        _route("/v1/status", GET=status.status),
        _route("/v1/catalog", GET=status.catalog),
        _route(
            "/v1/session",
            GET=status.show_session,
            POST=status.open_session,
            DELETE=status.close_session,
        ),
        _route("/healthz", GET=status.healthz),
        _route("/readyz", GET=status.readyz),
        _route("/metrics", GET=status.metrics),
        _route("/openapi.json", GET=_openapi),
        _route("/", GET=page.asset),
        _route("/page/{name}", GET=page.asset),
    ]


def _route(path: str, **handlers: Handler) -> Route:
    """One route for all methods of a path, so that a 405 names them all."""
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]

    async def dispatch(request: Request) -> Response:
        return await handlers[request.method](request)

    return Route(path, dispatch, methods=[*handlers], name=path)


class _Epoch:
    """Has every answer of the API say which epoch was current, where it does not itself."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app: Final = app
        self._runtime: Final = service.runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = list(message["headers"])
                if all(name != b"epochal-epoch" for name, _ in headers):
                    number, digest = (epoch := self._runtime.epoch).number, epoch.id
                    del epoch
                    headers.append((b"epochal-epoch", str(number).encode()))
                    headers.append((b"epochal-epoch-id", digest.encode()))
                    message["headers"] = headers
            await send(message)

        await self._app(scope, receive, told)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: Service = app.state.service
    end_listening = service.listen()
    tasks = [asyncio.create_task(watch(service)) for watch in (_sample, watch_workers)]
    try:
        yield
    finally:
        service.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.to_thread(end_listening)


async def _sample(service: Service) -> None:
    """Tell how things are, twice a second, and who holds drains up, as often as that costs."""
    clock = asyncio.get_running_loop().time
    drains: list[dict[str, Any]] = []
    look_at = 0.0
    while True:
        await asyncio.sleep(_SAMPLE_S)
        if not service.runtime.draining:
            drains = []
        elif service.feed.followers and clock() >= look_at:
            began = clock()
            drains = await asyncio.to_thread(status.drains_of, service)
            look_at = clock() + _LOOK_SHARE * (clock() - began)
        epoch = service.runtime.epoch
        number, digest = epoch.number, epoch.id
        del epoch  # it pins every plugin, and this waits
        facts = {"epoch": {"number": number, "id": digest}, "drains": drains}
        service.feed.sample(service.meter.sample(**facts))


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router says, in our form."""
    assert isinstance(error, HTTPException)
    codes = {404: "not-found", 405: "method"}
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem(error.status_code, codes.get(error.status_code, "http"), detail, error.headers)


async def _unforeseen(_: Request, error: Exception) -> Response:
    return answer_to(error)


async def _openapi(_: Request) -> Response:
    return JSONResponse(document())
