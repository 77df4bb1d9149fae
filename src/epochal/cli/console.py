"""The output of commands: data to stdout, everything else to stderr; for people or machines.

A plugin that a command runs may print. Its lines must not mix with the command's data, so from the
first plugin on `sys.stdout` is standard error, and only `data_stream` leads to standard output.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WIDE: Final = 10_000
_kept: list[TextIO] = []  # standard output, while plugins print to standard error

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.", show_default=False)]


class Format(StrEnum):
    """The format of a query's rows."""

    # For people: the first rows in columns, and on stderr the code that computed them.
    TABLE = "table"
    # One document: columns, rows, epoch, provenance.
    JSON = "json"
    # An object a line.
    JSONL = "jsonl"
    # With a line of names; null is an empty field.
    CSV = "csv"
    TSV = "tsv"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


class _PipedConsole(Console):
    """A console that raises when the pipe is closed; rich's own exits the process."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def data_stream() -> TextIO:
    """Standard output."""
    return _kept[-1] if _kept else sys.stdout


@contextmanager
def keeping_stdout() -> Iterator[None]:
    """Keep standard output for the command's data: what plugins print goes to standard error."""
    _kept.append(data_stream())
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = _kept.pop()


def console() -> Console:
    """Writes to stdout; as wide as the terminal, or as the data where there is none."""
    stream = data_stream()
    return _PipedConsole(file=stream, width=None if stream.isatty() else _WIDE, highlight=False)


def data_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with a line of names; columns in `right` are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), justify="right" if column in right else "left")
    return table


def error_console() -> Console:
    """Writes to stderr."""
    return Console(stderr=True, highlight=False)


def warn(message: str) -> None:
    """Write a warning to stderr; the command goes on."""
    out = error_console()
    out.print("warning: ", style="yellow", end="")
    out.print(" ".join(message.split()), markup=False, soft_wrap=True)


def write_json(document: Mapping[str, Any]) -> None:
    """Write a document to stdout, indented in a terminal."""
    stream = data_stream()
    indent = 2 if stream.isatty() else None
    text = json.dumps(document, indent=indent, ensure_ascii=False, default=str)
    print(text, file=stream)
