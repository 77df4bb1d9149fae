"""The live page's files. All of them are in the package: the page needs no other server."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from epochal.server.problem_details import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


async def send_file(request: Request) -> Response:
    """One of the page's files; `index.html` where the address names none."""
    name = request.path_params.get("name", "index.html")
    # A look-up of names, not of paths: an address cannot leave the folder.
    content = _read_all().get(name)
    if content is None:
        raise Problem(404, "not-found", f"the page has no file {name!r}")
    return Response(content, media_type=_TYPES[name.rpartition(".")[2]])


@cache
def _read_all() -> dict[str, bytes]:
    folder = files("epochal.server").joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir()}
