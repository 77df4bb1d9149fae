"""The routes of the service: one table, from which the router and the OpenAPI document are made.

A new route is one entry here, with its handler and its structs. The right that a request needs is
not in the table: `security.right_needed` derives it from method and path alone, before the router
has matched anything, and an unknown path needs the highest. The document shows its answer.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from epochal.observe.tracing import join_trace
from epochal.server import job_routes as jobs
from epochal.server import plugin_routes as plugins
from epochal.server import query_routes as queries
from epochal.server import schemas
from epochal.server import status_routes as status
from epochal.server.decoding import CONFIG_HEADER, header
from epochal.server.problem_details import MEDIA_TYPE, answer_to
from epochal.server.security import Right, right_needed
from epochal.server.static_files import send_file
from epochal.server.uploads import UPLOAD_TYPES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

Schema: TypeAlias = "dict[str, Any]"
Handler: TypeAlias = "Callable[[Request], Awaitable[Response]]"

_JSON: Final = "application/json"
_BYTES: Final[Schema] = {"type": "string", "format": "binary"}
_TEXT: Final[Schema] = {"type": "string"}

_ANY_REQUEST: Final = (400, 401, 403, 405, 408, 421, 431, 503)
"""Refusals that do not depend on the route: of a request's head or sender, or by a busy service."""


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One method of one path.

    Attributes:
        method: the HTTP method; GET answers HEAD as well.
        path: with the names of its parameters in braces.
        handler: answers the request; an error that it raises becomes a problem.
        summary: one sentence for the document; empty for the page's files, which are not in it.
        answer: the struct of a JSON answer.
        content: the other media types of an answer.
        body: the struct of a JSON body, or the media types of another.
        options: the struct of the options in the address.
        headers: the request's headers that the handler reads.
        statuses: of answers that are no problem.
        problems: statuses of problems, beside those of any request.
    """

    method: str
    path: str
    handler: Handler
    summary: str = ""
    answer: type[schemas.AnswerStruct] | None = None
    content: Mapping[str, Schema] | None = None
    body: type[schemas.RequestStruct] | Mapping[str, Schema] | None = None
    options: type[schemas.RequestStruct] | None = None
    headers: tuple[str, ...] = ()
    statuses: tuple[int, ...] = (200,)
    problems: tuple[int, ...] = ()


_get: Final = partial(ApiRoute, "GET")
_post: Final = partial(ApiRoute, "POST")
_change: Final = partial(
    ApiRoute,
    answer=schemas.ChangeReport,
    options=schemas.ChangeOptions,
    headers=("If-Match",),
    problems=(404, 409, 412, 413, 415, 422, 500, 504, 507),
)
_upload: Final = partial(
    _change,
    headers=("If-Match", CONFIG_HEADER),
    body=dict.fromkeys(UPLOAD_TYPES, _BYTES),
    options=schemas.LoadOptions,
)
_PLUGIN: Final = "/v1/plugins/{plugin}"

API_ROUTES: Final = (
    _post(
        "/v1/query",
        queries.run_query,
        "Answer one SQL query.",
        schemas.QueryAnswer,
        {queries.ARROW: _BYTES},
        schemas.QueryRequest,
        problems=(409, 413, 415, 422, 500, 504),
    ),
    _get("/v1/plugins", plugins.list_plugins, "The active plugins.", schemas.PluginList),
    _upload(
        "POST",
        "/v1/plugins:check",
        plugins.check_plugin,
        "Load a plugin up to its publish.",
    ),
    _get(_PLUGIN, plugins.show_plugin, "An active plugin.", schemas.PluginAnswer, problems=(404,)),
    _get(
        f"{_PLUGIN}/diff",
        plugins.show_diff,
        "What changed in a plugin's files between two generations.",
        schemas.SourceDiff,
        options=schemas.DiffOptions,
        problems=(404, 409, 500),
    ),
    _upload("PUT", _PLUGIN, plugins.put_plugin, "Load or reload a plugin.", statuses=(200, 201)),
    _change(
        "DELETE", _PLUGIN, plugins.remove_plugin, "Remove a plugin.", options=schemas.RemoveOptions
    ),
    _change(
        "POST",
        f"{_PLUGIN}/reload",
        plugins.reload_plugin,
        "Reload a plugin from its source.",
        headers=("If-Match", CONFIG_HEADER),
    ),
    _change(
        "POST",
        f"{_PLUGIN}/rollback",
        plugins.roll_back_plugin,
        "Bring back a generation or version of a plugin.",
        body=schemas.RollbackTarget,
    ),
    _get(
        "/v1/epochs",
        plugins.list_epochs,
        "The epochs that are kept.",
        schemas.EpochHistory,
        options=schemas.HistoryOptions,
        problems=(500,),
    ),
    _change(
        "POST",
        "/v1/epochs/{number}/rollback",
        plugins.roll_back_epoch,
        "Bring back the plugins of an epoch.",
    ),
    _get("/v1/jobs", jobs.list_jobs, "The jobs of the plugins.", schemas.JobList),
    _post(
        "/v1/jobs/{job}/run",
        jobs.run_job,
        "Run a job as soon as a worker is free; its schedule stays as it is.",
        schemas.JobRequested,
        statuses=(202,),
        problems=(404, 413),
    ),
    _get("/v1/streams", jobs.list_streams, "The streams.", schemas.StreamList),
    _get(
        "/v1/events",
        status.events,
        "The events, as server-sent events.",
        content={"text/event-stream": _TEXT},
        headers=("Last-Event-ID",),
    ),
    _get("/v1/drains", status.drains, "The drains under way.", schemas.DrainList),
    _post(
        "/v1/drains/{plugin}/{number}/cancel",
        status.cancel_holders,
        "Ask what holds an old generation to stop.",
        schemas.CancelAnswer,
        problems=(404, 413),
    ),
    _get("/v1/status", status.status, "The service's figures.", schemas.StatusAnswer),
    _get("/v1/catalog", status.catalog, "Tables and functions.", schemas.CatalogAnswer),
    _get("/v1/session", status.show_session, "Your rights.", schemas.SessionRights),
    _post("/v1/session", status.open_session, "Open the page's session.", schemas.SessionKey),
    ApiRoute("DELETE", "/v1/session", status.close_session, "End it.", statuses=(204,)),
    _get("/healthz", status.healthz, "Whether the service lives.", schemas.HealthAnswer),
    _get("/readyz", status.readyz, "Whether it takes work.", schemas.HealthAnswer),
    _get("/metrics", status.metrics, "Figures for Prometheus.", content={"text/plain": _TEXT}),
    _get("/", send_file),
    _get("/page/{name}", send_file),
)


# --- the router --------------------------------------------------------------------------------


def make_routes() -> list[Route]:
    """The router's routes: one for all methods of a path, so that a 405 names them all."""
    paths: dict[str, dict[str, Handler]] = defaultdict(dict)
    for route in (*API_ROUTES, _get("/openapi.json", _send_document)):
        paths[route.path][route.method] = route.handler
    return [_route(path, handlers) for path, handlers in paths.items()]


def _route(path: str, handlers: dict[str, Handler]) -> Route:
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    return Route(path, _Dispatch(handlers), methods=[*handlers], name=path)


class _Dispatch:
    """Answers the requests of one path; to the router, an application of its own."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers: Final = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if header(request, b"traceparent"):
            join_trace(request.headers)  # each request has a task of its own
        try:
            response = await self._handlers[request.method](request)
        except Exception as error:  # noqa: BLE001  every error becomes an answer
            response = answer_to(error)
        await response(scope, receive, send)


async def _send_document(_: Request) -> Response:
    return Response(schemas.encode(document()), media_type=_JSON)


# --- the document ------------------------------------------------------------------------------

_PARAMETERS: Final[Mapping[str, Schema]] = {
    "plugin": {"in": "path", "schema": {**_TEXT, "pattern": "^[a-z][a-z0-9_]{0,63}$"}},
    "job": {
        "in": "path",
        "schema": {**_TEXT, "pattern": r"^[a-z][a-z0-9_]{0,63}\.[a-zA-Z0-9_]{1,64}$"},
        "description": "Its full name, `plugin.name`.",
    },
    "number": {"in": "path", "schema": {"type": "integer", "minimum": 0}},
    "If-Match": {
        "in": "header",
        "schema": {**_TEXT, "pattern": "^[!#-~]{1,80}$"},
        "description": "The ids of the epochs that you accept, in quotes or without, or `*` for "
        "any; 412 if another one is current. Whatever is no epoch's id, such as `0`, matches none.",
    },
    CONFIG_HEADER: {
        "in": "header",
        "content": {_JSON: {"schema": {"type": "object"}}},
        "description": "The plugin's configuration, as a JSON object; without it the active "
        "version's is kept.",
    },
    "Last-Event-ID": {"in": "header", "schema": _TEXT},
}
_PROBLEM: Final = {
    "description": "What went wrong.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
}


@cache
def document() -> Schema:
    """The OpenAPI document; not to be altered."""
    documented = [route for route in API_ROUTES if route.summary]
    bodies = [e.body for e in documented if isinstance(e.body, type)]
    answers = [e.answer for e in documented if e.answer is not None]
    _, components = msgspec.json.schema_components(
        [*bodies, *answers, schemas.ProblemDetails],
        ref_template="#/components/schemas/{name}",
    )
    paths: dict[str, Schema] = defaultdict(dict)
    for route in documented:
        paths[route.path][route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Epochal",
            "version": version("epochal"),
            "description": "SQL with plugins that are swapped under running queries.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(paths),
        "components": {
            "schemas": components,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: ApiRoute) -> Schema:
    success: Schema = {"description": route.summary}
    if content := _content(route.answer, route.content):
        success["content"] = content
    responses = {str(status): success for status in route.statuses}
    for status_code in sorted({*_ANY_REQUEST, *route.problems}):
        responses[str(status_code)] = _PROBLEM
    # The handler's name: a generated client has a method of that name.
    operation: Schema = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "responses": responses,
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        content = _content(route.body)
        operation["requestBody"] = {"required": True, "content": content}
    if right_needed(route.method, route.path) is Right.CHANGE:
        operation["security"] = [{"admin": []}]
    return operation


def _content(*bodies: type | Mapping[str, Schema] | None) -> Schema:
    """The media types of a struct, or those that are given with their schemas."""
    content: Schema = {}
    for body in bodies:
        if isinstance(body, type):
            content[_JSON] = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}
        elif body is not None:
            content |= {kind: {"schema": schema} for kind, schema in body.items()}
    return content


def _parameters(route: ApiRoute) -> list[Schema]:
    in_path = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, **_PARAMETERS[name], "required": name in in_path}
        for name in (*in_path, *route.headers)
    ]
    if route.options is not None:
        schema = msgspec.json.schema(route.options)["$defs"][route.options.__name__]
        for name, facts in schema["properties"].items():
            about = facts.pop("description")
            parameters.append({"name": name, "in": "query", "schema": facts, "description": about})
    return parameters
