"""What commands write: data to stdout, everything else to stderr; for people or for machines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from epochal.sql.json_values import json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

_WIDE: Final = 10_000

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.", show_default=False)]


class _PipedConsole(Console):
    """A console that says when nobody reads it, where rich's own leaves the process."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console() -> Console:
    """Writes to stdout; as wide as the terminal, or as the data where there is none."""
    return _PipedConsole(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def error_console() -> Console:
    """Writes to stderr."""
    return Console(stderr=True, highlight=False)


def warn(message: str) -> None:
    """Say on stderr what did not go well, though the command was done."""
    out = error_console()
    out.print("warning: ", style="yellow", end="")
    out.print(" ".join(message.split()), markup=False, soft_wrap=True)


def write_json(document: Mapping[str, Any]) -> None:
    """Write a document to stdout, indented where a person reads it."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(document, indent=indent, ensure_ascii=False, default=json_value))
