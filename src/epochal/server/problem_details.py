"""Errors over HTTP: one JSON form (RFC 9457), the library's codes, one table of statuses.

The status of a library error is that of its nearest class in the table. An error is made into an
answer in the frame that catches it, and let go: its traceback may hold a plugin's frames, and so
the plugin.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from epochal import errors
from epochal.errors import EpochalError
from epochal.server.schemas import ProblemDetails, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

logger: Final = logging.getLogger("epochal.server")

_UNAVAILABLE: Final = 503
_RETRY: Final = {"retry-after": "1"}
_FACTS: Final = tuple(
    name
    for name in ProblemDetails.__struct_fields__
    if name not in {"type", "status", "code", "detail"}
)
MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[EpochalError], int]] = {
    EpochalError: 500,
    # The request cannot be right, or not now.
    errors.HostError: 400,
    errors.UnknownPluginError: 404,
    errors.UnknownExportError: 404,
    errors.NotKeptError: 404,
    errors.AlreadyLoadedError: 409,
    errors.ConfigError: 422,
    errors.NestedChangeError: 409,
    errors.NoStoreError: 409,
    errors.NoShareError: 409,
    errors.OperationEndedError: 500,
    errors.ForkedRuntimeError: 500,
    errors.RuntimeClosedError: 503,
    # The plugin is at fault.
    errors.PluginError: 422,
    # A rule forbids it.
    errors.RefusedError: 409,
    errors.EpochMovedError: 412,
    errors.NoThreadError: 503,
    errors.ChangeCancelledError: 409,
    errors.DrainError: 409,
    # The server.
    errors.StoreError: 500,
    errors.StoreWriteError: 507,
    # Other processes.
    errors.ShareError: 503,
    errors.EpochUnavailableError: 503,
    # Time.
    errors.PhaseTimeoutError: 504,
    errors.DrainTimeoutError: 504,
    # SQL.
    errors.QueryError: 400,
    errors.FunctionError: 422,
    errors.QueryTimeoutError: 504,
    errors.QueryCancelledError: 409,
    errors.BusyError: 503,
    # Tools of agents.
    errors.ToolError: 422,
    errors.ToolTimeoutError: 504,
    errors.ToolCancelledError: 409,
}
"""Error class -> HTTP status; a class that is not here has its nearest base's."""


class Problem(Exception):  # noqa: N818  RFC 9457's own word
    """A request is at fault in a way that only HTTP knows.

    Attributes:
        status: the HTTP status.
        code: stable, like the codes of `epochal.errors`.
        headers: the answer's headers.
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
    """An error as an answer.

    Args:
        status: the HTTP status.
        code: the stable code.
        detail: one sentence for a person.
        headers: the answer's headers.
        **facts: further fields of `ProblemDetails`.
    """
    document = ProblemDetails(
        type=f"urn:epochal:error:{code}", status=status, code=code, detail=detail, **facts
    )
    return Response(encode(document), status, headers, media_type=MEDIA_TYPE)


def answer_to(error: Exception) -> Response:
    """Any error as an answer; an unexpected error is logged, and its text stays here."""
    if isinstance(error, Problem):
        return problem(error.status, error.code, str(error), error.headers)
    if isinstance(error, EpochalError):
        status = status_of(error)
        headers = _RETRY if status == _UNAVAILABLE else None
        facts = {name: getattr(error, name) for name in _FACTS if hasattr(error, name)}
        return problem(status, error.code, str(error), headers, **facts)
    logger.error("a request failed", exc_info=error)
    return problem(500, "internal", "the service failed unexpectedly; see its log")
