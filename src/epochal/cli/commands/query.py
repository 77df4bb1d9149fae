"""`epochal query`: one SQL query with plugin functions, over tables from files."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Final

import pyarrow as pa
import typer
from rich import box
from rich.table import Table
from rich.text import Text

from epochal.cli.console import Json, console, error_console
from epochal.cli.local_runtime import Grants, Plugins, checked_limit, open_runtime
from epochal.errors import HostError
from epochal.sql import Database
from epochal.sql.json_values import convert_columns, json_column, json_field, json_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from epochal.cli.remote_query import RemoteResult
    from epochal.sql import Result

_CLOSE_S: Final = 1.0
"""For the engine to let go of a query: what it has begun it ends, however long that takes."""


class Format(StrEnum):
    """How rows are written."""

    # For people: the first rows in columns, and on stderr which code computed them.
    TABLE = "table"
    # One document: columns, rows, epoch, provenance.
    JSON = "json"
    # With a line of names; null is an empty field.
    CSV = "csv"


def query(
    sql: Annotated[
        str, typer.Argument(help="The query; - reads it from standard input.", show_default=False)
    ],
    plugin: Plugins = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="NAME=PATH",
            help="A table: Parquet, CSV, TSV, JSON or Arrow, a file or a folder of them; or the "
            "address of one that a plugin serves (lite:///shop.db?table=orders). May be given "
            "several times.",
            show_default=False,
        ),
    ] = None,
    written: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = (
        Format.TABLE
    ),
    as_json: Json = False,
    rows: Annotated[
        int, typer.Option(min=0, help="Rows of a table to show at most; 0 for all.")
    ] = 40,
    timeout: Annotated[
        float | None,
        typer.Option(
            callback=checked_limit, help="Seconds that it may take.", show_default="no limit"
        ),
    ] = None,
    grant: Grants = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "-s",
            metavar="URL",
            help="Ask this running service, with its plugins and tables.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run one SQL query with the functions of plugins.

    For example:
      epochal query "SELECT 1 + 1"
      epochal query "SELECT geo.greet(name) FROM people" -p geo.py -t people=p.csv
      epochal query "SELECT * FROM trips" -t trips=trips/ -f csv > trips.csv
      epochal query - --json < report.sql
      epochal query "SELECT geo.greet('you')" --server http://127.0.0.1:8000

    Rows go to standard output. As a table it also tells, on standard error,
    which version of which plugin computed them; as JSON that is part of the
    document.
    """
    text = sys.stdin.read() if sql == "-" else sql
    written = Format.JSON if as_json else written
    if server is not None:
        if plugin or table or grant:
            raise typer.BadParameter("--server has its own plugins and tables; epochal load PATH")
        _ask(server, text, timeout, written, rows)
        return
    tables = read_tables(table or [])
    db = Database(open_runtime(plugin or [], grant))
    try:
        for name, path in tables.items():
            db.register(name, path)
        # In an event loop, where Ctrl-C ends a query at once and not with its next batch.
        asyncio.run(_run(db, text, timeout, written, rows))
    finally:
        db.close(_CLOSE_S)


async def _run(
    db: Database, sql: str, timeout: float | None, written: Format, most_rows: int
) -> None:
    started = perf_counter()
    async with await db.aquery(sql, timeout=timeout) as result:
        await _write(result, written, most_rows, started)


def _ask(server: str, sql: str, timeout: float | None, written: Format, most_rows: int) -> None:
    from epochal.cli.client import Client
    from epochal.cli.remote_query import RemoteResult

    started = perf_counter()
    with Client(server) as client, RemoteResult(client, sql, timeout) as result:
        # A remote result never suspends, so it needs no loop, in which Ctrl-C would wait for it.
        try:
            _write(result, written, most_rows, started).send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("a remote result was waited for")


async def _write(
    result: Result | RemoteResult, written: Format, most_rows: int, started: float
) -> None:
    match written:
        case Format.TABLE:
            await _show(result, most_rows, started)
        case Format.JSON:
            await _write_json(result)
        case Format.CSV:
            await _write_csv(result)


def read_tables(given: Sequence[str]) -> dict[str, str]:
    """What `--table` was given, as name and path.

    Raises:
        BadParameter: one is not of its form, or a name comes twice.
    """
    tables: dict[str, str] = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not (name and equals and path):
            raise typer.BadParameter(f"--table {one!r} is not of the form NAME=PATH")
        if name in tables:
            raise typer.BadParameter(f"--table {name!r} is given twice")
        tables[name] = path
    return tables


async def _rows(result: Result | RemoteResult) -> AsyncIterator[tuple[Any, ...]]:
    """Rows as JSON says them, but for numbers, which keep what it has no word for."""
    async for batch in result:
        for row in zip(*convert_columns(batch, _values), strict=True):
            yield row


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_floating(column.type):
        values: list[Any] = column.to_pylist()
        return values
    return json_column(column)


# --- for machines ------------------------------------------------------------------------------


async def _write_csv(result: Result | RemoteResult) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.schema.names)
    async for row in _rows(result):
        writer.writerow(["" if value is None else _plain(value) for value in row])


def _plain(value: Any) -> Any:
    """Numbers as Python writes them, all digits; everything else as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


async def _write_json(result: Result | RemoteResult) -> None:
    """Row by row, so that a result may be larger than memory."""
    names = result.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HostError(
            f"two columns are named {twice[0]!r}, and in JSON each needs a name of its own: use AS"
        )
    columns = [json_field(one) for one in result.schema]
    write = sys.stdout.write
    write(f'{{"columns": {json.dumps(columns, ensure_ascii=False)}, "rows": [')
    separator = ""
    async for row in _rows(result):
        record = {name: json_value(value) for name, value in zip(names, row, strict=True)}
        write(f"{separator}\n  {json.dumps(record, ensure_ascii=False)}")
        separator = ","
    write(f'],\n"epoch": {json.dumps({"number": result.epoch.number, "id": result.epoch.id})},')
    write(f'\n"provenance": {json.dumps(_provenance(result))}}}\n')


def _provenance(result: Result | RemoteResult) -> list[dict[str, Any]]:
    return [
        {
            "function": one.function,
            "kind": one.kind,
            "plugin": one.plugin,
            "version": one.version,
            "generation": one.generation,
            "digest": one.digest,
        }
        for one in result.provenance
    ]


# --- for people --------------------------------------------------------------------------------


async def _show(result: Result | RemoteResult, most: int, started: float) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for field in result.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(Text(field.name), justify="right" if number else "left")
    more = False
    async for row in _rows(result):
        if more := 0 < most == table.row_count:
            break
        table.add_row(*[_cell(value) for value in row])
    took_ms = (perf_counter() - started) * 1000.0
    console().print(table)
    shown = f"the first {_count(table.row_count)} (--rows 0 shows all)"
    by = {f"{one.plugin} {one.version} ({one.digest[:8]})": None for one in result.provenance}
    error_console().print(
        f"{shown if more else _count(table.row_count)} in {took_ms:,.0f} ms"
        f"{', computed by ' if by else ''}{', '.join(by)}",
        style="dim",
        soft_wrap=True,
    )


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.10g}")
    return Text(str(_plain(value)))
