"""Errors as HTTP tells them: one JSON form (RFC 9457), the library's codes, one table of statuses.

A library error's HTTP status is that of the nearest class in the table. An error is made into an
answer where it is caught, and let go: its traceback may hold a plugin's frames, and so the plugin.
"""

from __future__ import annotations

import json
import logging
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from epochal.errors import (
    AlreadyLoadedError,
    BusyError,
    ChangeCancelledError,
    DrainError,
    DrainTimeoutError,
    EpochalError,
    EpochMovedError,
    ForkedRuntimeError,
    FunctionError,
    HostError,
    NestedChangeError,
    NoStoreError,
    NotKeptError,
    OperationEndedError,
    PhaseTimeoutError,
    PluginError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    RefusedError,
    RuntimeClosedError,
    StoreError,
    StoreWriteError,
    UnknownExportError,
    UnknownPluginError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    Handler = Callable[[Request], Awaitable[Response]]

logger: Final = logging.getLogger("epochal.server")

_UNAVAILABLE: Final = 503
_LATER: Final = {"retry-after": "1"}
MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[EpochalError], int]] = {
    EpochalError: 500,
    # The request cannot be right, or not now.
    HostError: 400,
    UnknownPluginError: 404,
    UnknownExportError: 404,
    NotKeptError: 404,
    AlreadyLoadedError: 409,
    NestedChangeError: 409,
    NoStoreError: 409,
    OperationEndedError: 500,
    ForkedRuntimeError: 500,
    RuntimeClosedError: 503,
    # The plugin is at fault.
    PluginError: 422,
    # A rule is in the way.
    RefusedError: 409,
    EpochMovedError: 412,
    ChangeCancelledError: 409,
    DrainError: 409,
    # The server.
    StoreError: 500,
    StoreWriteError: 507,
    # Time.
    PhaseTimeoutError: 504,
    DrainTimeoutError: 504,
    # SQL.
    QueryError: 400,
    FunctionError: 422,
    QueryTimeoutError: 504,
    QueryCancelledError: 409,
    BusyError: 503,
}
"""Error class -> HTTP status; a class that is not here has its nearest base's."""


class Problem(Exception):  # noqa: N818  what RFC 9457 calls it
    """The request is at fault in a way that only HTTP knows.

    Attributes:
        status: the HTTP status.
        code: stable, like the codes of `epochal.errors`.
        headers: of the answer.
    """

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status: Final = status
        self.code: Final = code
        self.headers: Final = headers
        super().__init__(detail)


def status_of(error: EpochalError) -> int:
    """The HTTP status of a library error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **facts: Any,
) -> Response:
    """An error as an answer."""
    document = {
        "type": f"urn:epochal:error:{code}",
        "status": status,
        "code": code,
        "detail": detail,
        **facts,
    }
    content = json.dumps(document, default=str).encode()
    return Response(content, status, headers, media_type=MEDIA_TYPE)


def answer_to(error: Exception) -> Response:
    """Any error as an answer; what nobody foresaw is logged and not told."""
    if isinstance(error, Problem):
        return problem(error.status, error.code, str(error), error.headers)
    if isinstance(error, EpochalError):
        status = status_of(error)
        headers = _LATER if status == _UNAVAILABLE else None
        return problem(status, error.code, str(error), headers, **_facts(error))
    logger.error("a request failed", exc_info=error)
    return problem(500, "internal", "the service failed in a way that nobody foresaw; see its log")


def answering(handler: Handler) -> Handler:
    """A route's handler whose errors become answers, in the frame in which they arrive."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001  every error becomes an answer
            return answer_to(error)

    return answer


def _facts(error: EpochalError) -> dict[str, Any]:
    """The error's attributes that a program may want, as far as JSON can say them."""
    wanted = ("plugin", "faults", "dependents", "function", "phase", "expected", "current")
    return {name: getattr(error, name) for name in wanted if hasattr(error, name)}
