"""Runs the query of `epochal query`, here or in a service, and writes its rows."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from rich.text import Text

from epochal.cli.console import Format, console, data_table, error_console
from epochal.errors import HostError
from epochal.sql import Database
from epochal.sql.json_values import convert_columns, json_column, json_field, json_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from epochal.cli.remote_query import RemoteResult
    from epochal.runtime import Runtime
    from epochal.sql import Result

_CLOSE_S: Final = 1.0
"""The wait for the engine to end a query; it ends the work that it has begun in its own time."""


def run_local(
    rt: Runtime,
    tables: Mapping[str, str],
    sql: str,
    timeout: float | None,
    written: Format,
    most_rows: int,
) -> None:
    """Run a query in this process, and write its rows."""
    db = Database(rt)
    try:
        for name, path in tables.items():
            db.register(name, path)
        # In an event loop, where Ctrl-C ends a query at once and not with its next batch.
        asyncio.run(_run(db, sql, timeout, written, most_rows))
    finally:
        db.close(_CLOSE_S)


async def _run(
    db: Database, sql: str, timeout: float | None, written: Format, most_rows: int
) -> None:
    started = perf_counter()
    async with await db.aquery(sql, timeout=timeout) as result:
        await _write(result, written, most_rows, started)


def run_remote(
    server: str, sql: str, timeout: float | None, written: Format, most_rows: int
) -> None:
    """Have a service run a query, and write its rows."""
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
