"""The live page's files. All of it lies in the package: the page needs no other server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from epochal.server.problem_details import Problem, answering

if TYPE_CHECKING:
    from starlette.requests import Request

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@answering
async def asset(request: Request) -> Response:
    """One of the page's files; its first if the address names none."""
    name = request.path_params.get("name", "index.html")
    found = _assets().get(name)
    if found is None:
        raise Problem(404, "not-found", f"the page has no file {name!r}")
    return Response(found, media_type=_TYPES[name.rpartition(".")[2]])


@cache
def _assets() -> dict[str, bytes]:
    folder = files("epochal.server").joinpath("static")
    return {one.name: one.read_bytes() for one in folder.iterdir()}
