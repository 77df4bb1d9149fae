"""The options that name a running service: apart from its client, which brings an HTTP library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT: Final = "http://127.0.0.1:8000"

Server = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        metavar="URL",
        envvar="EPOCHAL_SERVER",
        help="The service's address, or the printed link with the token.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Contains the admin token; otherwise it is in the address or EPOCHAL_ADMIN_TOKEN.",
        show_default=False,
    ),
]
