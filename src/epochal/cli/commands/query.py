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
from rich.text import Text

from epochal.cli.console import Json, console, data_table, error_console
from epochal.cli.local_runtime import (
    Grants,
    Plugins,
    Tables,
    checked_limit,
    open_runtime,
    read_tables,
)
from epochal.errors import HostError
from epochal.sql import Database
from epochal.sql.json_values import convert_columns, json_column, json_field, json_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from epochal.cli.remote_query import RemoteResult
    from epochal.sql import Result

_CLOSE_S: Final = 1.0
"""The wait for the engine to end a query; it ends the work that it has begun in its own time."""


class Format(StrEnum):
    """The format of rows."""

    # For people: the first rows in columns, and on stderr the code that computed them.
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
    table: Tables = None,
    written: Annotated[Format, typer.Option("--format", "-f", help="The output's format.")] = (
        Format.TABLE
    ),
    as_json: Json = False,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show at most; 0 for all.")] = 40,
    timeout: Annotated[
        float | None,
        typer.Option(
            callback=checked_limit, help="Time limit in seconds.", show_default="no limit"
        ),
    ] = None,
    grant: Grants = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "-s",
            metavar="URL",
            help="Query this running service, with its plugins and tables.",
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

    Rows go to standard output. With a table, standard error names the plugin
    versions that computed them; JSON has them in the document.
    """
    text = sys.stdin.read() if sql == "-" else sql
    written = Format.JSON if as_json else written
    if server is not None:
        if plugin or table or grant:
            raise typer.BadParameter("--server has its own plugins and tables; epochal load PATH")
        _query_remote(server, text, timeout, written, rows)
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


def _query_remote(
    server: str, sql: str, timeout: float | None, written: Format, most_rows: int
) -> None:
    from epochal.cli.client import Client
    from epochal.cli.remote_query import RemoteResult

    started = perf_counter()
    with Client(server) as client, RemoteResult(client, sql, timeout) as result:
        # A remote result never suspends, so it needs no event loop, which would delay Ctrl-C.
        try:
            _write(result, written, most_rows, started).send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("a remote result suspended")


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


async def _rows(result: Result | RemoteResult) -> AsyncIterator[tuple[Any, ...]]:
    """Rows as in JSON, except that numbers keep NaN and the infinities."""
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
    """A number with all its digits; any other value as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


async def _write_json(result: Result | RemoteResult) -> None:
    """Row by row, so that a result may be larger than memory."""
    names = result.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HostError(
            f"two columns are named {twice[0]!r}, and JSON needs distinct names: use AS"
        )
    columns = [json_field(field) for field in result.schema]
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
            "function": function.function,
            "kind": function.kind,
            "plugin": function.plugin,
            "version": function.version,
            "generation": function.generation,
            "digest": function.digest,
        }
        for function in result.provenance
    ]


# --- for people --------------------------------------------------------------------------------


async def _show(result: Result | RemoteResult, most: int, started: float) -> None:
    table = data_table()
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
    by = {f"{p.plugin} {p.version} ({p.digest[:8]})": None for p in result.provenance}
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
