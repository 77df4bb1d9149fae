"""The OpenAPI document of the service: what the routes take and answer."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any, Final

from epochal.server.query_routes import ARROW

_PROBLEM_TYPE: Final = "application/problem+json"
Schema = dict[str, Any]


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "required": [*required],
        "properties": {**required, **optional},
    }


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_TEXTS: Final = _list(_TEXT)
_ANY: Final[Schema] = {}
_VERSION: Final = {
    "plugin": _TEXT,
    "version": _TEXT,
    "generation": _COUNT,
    "digest": _TEXT,
}
_PLUGIN: Final = {
    **_VERSION,
    "state": _TEXT,
    "description": _TEXT,
    "source": {"type": ["string", "null"]},
    "requires": _TEXTS,
    "required_by": _TEXTS,
    "grants": _TEXTS,
    "exports": _list(_object({"kind": _TEXT, "name": _TEXT, "signature": _TEXT})),
    "queries": _COUNT,
    "errors": _COUNT,
}
_JOB: Final = {
    "job": _TEXT,
    "plugin": _TEXT,
    "schedule": _TEXT,
    "next_at": {"type": ["number", "null"]},
    "running": _FLAG,
    "queued": _FLAG,
    "ticks": _COUNT,
    "failures": _COUNT,
    "failures_in_row": _COUNT,
    "skipped": _COUNT,
    "circuit": {"enum": ["closed", "open", "half-open"]},
    "last_error": _TEXT,
}
_COLUMN: Final = {
    **_object(
        {"name": _TEXT, "type": _TEXT}, extension=_object({"name": _TEXT, "metadata": _TEXT})
    ),
    "additionalProperties": False,
}
_TABLE: Final = {
    "name": _TEXT,
    "columns": _list(_COLUMN),
    "error": {"type": ["string", "null"]},
}
_EPOCH: Final = {"epoch": _ref("Epoch")}
_PARAMETER: Final[Schema] = {
    "anyOf": [
        {"type": ["null", "boolean", "string"]},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        _NUMBER,
    ]
}

_SCHEMAS: Final[dict[str, Schema]] = {
    "Epoch": _object({"number": _COUNT, "id": _TEXT}),
    "Problem": _object(
        {"type": _TEXT, "status": {"type": "integer"}, "code": _TEXT, "detail": _TEXT}
    ),
    "Query": {
        **_object(
            {"sql": _TEXT},
            params={
                "anyOf": [
                    _list(_PARAMETER),
                    {"type": "object", "additionalProperties": _PARAMETER},
                    {"type": "null"},
                ]
            },
            limit={"type": ["integer", "null"], "minimum": 0},
            timeout={"type": ["number", "null"], "minimum": 0},
        ),
        "additionalProperties": False,
    },
    "Answer": _object(
        {
            "columns": _list(_COLUMN),
            "rows": _list(_list(_ANY)),
            "truncated": _FLAG,
            "elapsed_ms": _NUMBER,
            **_EPOCH,
            "provenance": _list(_object({**_VERSION, "functions": _TEXTS})),
        }
    ),
    "Plugins": _object({**_EPOCH, "plugins": _list(_object(_PLUGIN))}),
    "Plugin": _object({**_EPOCH, **_PLUGIN}),
    "Cutover": _object(
        {
            **_EPOCH,
            "change": _COUNT,
            "published": _FLAG,
            "epoch_before": _COUNT,
            "epoch_after": _COUNT,
            "swaps": _list({"type": "object"}),
            "steps": _TEXTS,
            "phases_ms": {"type": "object", "additionalProperties": _NUMBER},
            "total_ms": _NUMBER,
            "cutover_ms": _NUMBER,
            "drained": _FLAG,
            "reclaimed": _FLAG,
            "at": _NUMBER,
        }
    ),
    "Epochs": _object(
        {
            **_EPOCH,
            "kept": _FLAG,
            "epochs": _list(
                _object(
                    {
                        "number": _COUNT,
                        "id": _TEXT,
                        "at": _NUMBER,
                        "reason": _TEXT,
                        "plugins": _list(_object(_VERSION)),
                    }
                )
            ),
        }
    ),
    "Drains": _object(
        {
            **_EPOCH,
            "drains": _list(
                _object(
                    {
                        **_VERSION,
                        "seconds": {"type": ["number", "null"]},
                        "queries": _COUNT,
                        "holders": _TEXTS,
                    }
                )
            ),
        }
    ),
    "Jobs": _object({**_EPOCH, "jobs": _list(_object(_JOB))}),
    "Asked": _object({**_EPOCH, "job": _TEXT}),
    "Status": _object(
        {
            **_EPOCH,
            "boot": _TEXT,
            "state": _TEXT,
            "started": _NUMBER,
            "uptime_s": _NUMBER,
            "plugins": _COUNT,
            "queries": _COUNT,
            "errors": _COUNT,
            "running": _COUNT,
            "draining": _COUNT,
            "samples": _list({"type": "object"}),
        }
    ),
    "Catalog": _object({**_EPOCH, "tables": _list(_object(_TABLE)), "functions": _TEXTS}),
    "Session": _object({"rights": _TEXTS}),
    "Key": _object({"key": _TEXT}),
    "Health": _object({"status": _TEXT}),
}


def _json(name: str) -> Schema:
    return {"application/json": {"schema": _ref(name)}}


def _query_option(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": about}


_PLUGIN_ID: Final = {
    "name": "plugin",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"},
}
_JOB_NAME: Final = {
    "name": "job",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[a-z][a-z0-9_]{0,63}\.[a-zA-Z0-9_]{1,64}$"},
    "description": "Its full name, `plugin.name`.",
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!#-~]{1,80}$"},
    "description": "The id of the epoch that you have seen; 412 if another one is current.",
}
_CHANGE: Final = [
    _IF_MATCH,
    _query_option(
        "drain_timeout",
        {"type": "number", "minimum": 0, "maximum": 86_400},
        "Seconds to wait for old generations before the answer.",
    ),
    _query_option("cancel_holders", _FLAG, "Ask who uses them after that time to stop."),
    _query_option("reason", _TEXT, "Who asks, and why: for the history."),
]
_GRANT: Final = _query_option(
    "grant", _list({"type": "string", "pattern": "^[a-z]{1,20}$"}), "A capability to grant."
)
_UPLOAD: Final = {
    "required": True,
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("text/x-python", "application/zip", "application/gzip")
    },
}


def _operation(
    about: str,
    answer: Schema | None,
    *problems: int,
    status: tuple[int, ...] = (200,),
    **more: Any,
) -> Schema:
    """One operation; the guard's refusals and those of the service's state are possible in all."""
    told = {
        "description": "What went wrong.",
        "content": {_PROBLEM_TYPE: {"schema": _ref("Problem")}},
    }
    fine: Schema = {"description": about} | ({"content": answer} if answer is not None else {})
    codes = sorted({400, 401, 403, 405, 408, 421, 431, 503, *problems})
    return {
        "summary": about,
        "responses": {**{str(s): fine for s in status}, **{str(code): told for code in codes}},
        **more,
    }


def _change(about: str, *problems: int, parameters: list[Schema], **more: Any) -> Schema:
    return _operation(
        about,
        _json("Cutover"),
        404,
        409,
        412,
        413,
        422,
        500,
        504,
        507,
        *problems,
        parameters=[*parameters, *_CHANGE],
        security=[{"admin": []}],
        **more,
    )


def _paths() -> dict[str, Schema]:
    one = {"parameters": [_PLUGIN_ID]}
    plugin: list[Schema] = []
    to = {
        **_object({"to": {"type": ["integer", "string"], "minimum": 0}}),
        "additionalProperties": False,
    }
    limit = _query_option("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "How many.")
    number = {"name": "number", "in": "path", "required": True, "schema": _COUNT}
    query_body = {"required": True, "content": _json("Query")}
    answers = {**_json("Answer"), ARROW: {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/v1/query": {
            "post": _operation(
                "Answer one SQL query.",
                answers,
                409,
                413,
                415,
                422,
                500,
                504,
                requestBody=query_body,
            )
        },
        "/v1/plugins": {"get": _operation("The active plugins.", _json("Plugins"))},
        "/v1/plugins:check": {
            "post": _change(
                "Do all that loading this would do, short of publishing it.",
                parameters=[_GRANT],
                requestBody=_UPLOAD,
            )
        },
        "/v1/plugins/{plugin}": {
            **one,
            "get": _operation("An active plugin.", _json("Plugin"), 404),
            "put": _change(
                "Load or reload a plugin.",
                parameters=[_GRANT],
                requestBody=_UPLOAD,
                status=(200, 201),
            ),
            "delete": _change(
                "Remove a plugin.",
                parameters=[_query_option("cascade", _FLAG, "And those that require it.")],
            ),
        },
        "/v1/plugins/{plugin}/reload": {
            **one,
            "post": _change("Read a plugin anew.", parameters=plugin),
        },
        "/v1/plugins/{plugin}/rollback": {
            **one,
            "post": _change(
                "Bring back a generation or version of a plugin.",
                415,
                parameters=plugin,
                requestBody={"required": True, "content": {"application/json": {"schema": to}}},
            ),
        },
        "/v1/epochs": {
            "get": _operation("The epochs that are kept.", _json("Epochs"), 500, parameters=[limit])
        },
        "/v1/epochs/{number}/rollback": {
            "post": _change("Bring back a whole epoch.", parameters=[number])
        },
        "/v1/jobs": {"get": _operation("The jobs of the plugins.", _json("Jobs"))},
        "/v1/jobs/{job}/run": {
            "parameters": [_JOB_NAME],
            "post": _operation(
                "Run a job as soon as a worker is free; its schedule stays as it is.",
                _json("Asked"),
                404,
                413,
                status=(202,),
                security=[{"admin": []}],
            ),
        },
        "/v1/events": {
            "get": _operation(
                "What happens, as server-sent events.",
                {"text/event-stream": {"schema": _TEXT}},
                parameters=[{"name": "Last-Event-ID", "in": "header", "schema": _TEXT}],
            )
        },
        "/v1/drains": {"get": _operation("Drains under way.", _json("Drains"))},
        "/v1/status": {"get": _operation("How things are.", _json("Status"))},
        "/v1/catalog": {"get": _operation("Tables and functions.", _json("Catalog"))},
        "/v1/session": {
            "get": _operation("What you may do.", _json("Session")),
            "post": _operation("The page's session.", _json("Key"), security=[{"admin": []}]),
            "delete": _operation(
                "End the page's session.", None, status=(204,), security=[{"admin": []}]
            ),
        },
        "/healthz": {"get": _operation("Whether it lives.", _json("Health"))},
        "/readyz": {"get": _operation("Whether it takes work.", _json("Health"))},
        "/metrics": {
            "get": _operation("Figures for Prometheus.", {"text/plain": {"schema": _TEXT}})
        },
    }


@cache
def document() -> Schema:
    """The document; not to be altered."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Epochal",
            "version": version("epochal"),
            "description": "SQL with plugins that are swapped under running queries.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }
