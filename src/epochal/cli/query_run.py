"""Runs the query of `epochal query`, here or in a service, and writes its rows."""

from __future__ import annotations

import asyncio
import glob
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final, TextIO

import typer

from epochal.cli import row_writers as rows
from epochal.cli.console import Format, data_stream, error_console
from epochal.errors import QueryError
from epochal.sql import Database
from epochal.sql.tables import is_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from epochal.cli.remote_query import RemoteResult
    from epochal.runtime import Runtime
    from epochal.sql import Result

_CLOSE_S: Final = 1.0
"""The wait for the engine to end a query; it ends the work that it has begun in its own time."""
_NOT_LOADED: Final = re.compile(r"plugin '(\w+)' is not loaded")
_ABSENT: Final = re.compile(r"table '(.+)' not found", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Files:
    """The files that a query reads.

    Attributes:
        tables: name -> path or address, of those that the command names.
        delimiter: between the fields of CSV files.
        header: whether CSV files begin with their names.
    """

    tables: Mapping[str, str]
    delimiter: str
    header: bool


def run_local(rt: Runtime, files: Files, sql: str, timeout: float | None, target: Target) -> None:
    """Run a query in this process, and write its rows."""
    db = Database(rt)
    read = partial(db.register, delimiter=files.delimiter, header=files.header)
    try:
        for name, path in files.tables.items():
            read(name, path)
        # In an event loop, where Ctrl-C ends a query at once and not with its next batch.
        asyncio.run(_run(db, sql, timeout, target, read))
    finally:
        db.close(_CLOSE_S)


async def _run(
    db: Database,
    sql: str,
    timeout: float | None,
    target: Target,
    read: Callable[[str, str], None],
) -> None:
    started = perf_counter()
    async with await _query(db, sql, timeout, read) as result:
        await target.write(result, started)


async def _query(
    db: Database, sql: str, timeout: float | None, read: Callable[[str, str], None]
) -> Result:
    """Begin a query; files that its FROM names, as in `FROM 'orders.csv'`, become its tables."""
    seen: set[str] = set()
    while True:
        try:
            return await db.aquery(sql, timeout=timeout)
        except QueryError as error:
            absent = _ABSENT.fullmatch(str(error))
            name = absent[1] if absent else ""
            if not name or name in seen:
                raise _with_plugin_hint(error) from None
            if not (is_data(Path(name)) and Path(name).exists()):
                raise _with_hint(error, name) from None
            seen.add(name)
        read(name, name)


def _with_plugin_hint(error: QueryError) -> QueryError:
    """The error, with the option for a plugin that lies in the working folder."""
    absent = _NOT_LOADED.search(str(error))
    if absent is None:
        return error
    name = absent[1]
    found = [Path(f"{name}.py"), Path("plugins", f"{name}.py"), Path(name)]
    is_there = (path for path in found if path.is_file() or (path / "plugin.toml").is_file())
    path = next(is_there, None)
    return error if path is None else QueryError(f"{error}; {path} is here: give it with -p {path}")


def _with_hint(error: QueryError, name: str) -> QueryError:
    beside = sorted(path.name for path in Path().glob(f"{glob.escape(name)}.*") if is_data(path))
    if is_data(Path(name)):
        unquoted = name.partition(".")[2]  # the engine takes `orders.csv` for a schema's table
        if Path(unquoted).is_file():
            return QueryError(f"{unquoted} is a file: write its name in quotes, FROM '{unquoted}'")
        folder = Path(name).parent
        there = [str(folder / path.name) for path in folder.glob("*") if is_data(path)]
        close = get_close_matches(name, there, 1)
        meant = f"; do you mean '{close[0]}'?" if close else ""
        return QueryError(f"{error}: there is no such file{meant}")
    if not beside:
        return error
    return QueryError(
        f"{error}; {beside[0]} is here: write FROM '{beside[0]}', or give -t {name}={beside[0]}"
    )


def run_remote(server: str, sql: str, timeout: float | None, target: Target) -> None:
    """Run a query in a service, and write its rows."""
    from epochal.cli.client import Client
    from epochal.cli.remote_query import RemoteResult

    started = perf_counter()
    with Client(server) as client, RemoteResult(client, sql, timeout) as result:
        # A remote result never suspends, so it needs no event loop, which would delay Ctrl-C.
        try:
            target.write(result, started).send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("a remote result suspended")


# --- writing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go, and how.

    Attributes:
        written: the format.
        output: the file; None for standard output.
        most: so many rows a table on standard output has; 0 for all.
    """

    written: Format
    output: Path | None
    most: int

    async def write(self, result: Result | RemoteResult, started: float) -> None:
        """Write all rows; a file appears when it is whole."""
        if self.output is None:
            if self.written is Format.PARQUET and data_stream().isatty():
                raise typer.BadParameter("Parquet is not for a terminal; give --output FILE")
            await self._write(result, data_stream(), self.most, started)
            return
        partial_file = self.output.with_name(f".{self.output.name}.part")
        try:
            if self.written is Format.PARQUET:
                with partial_file.open("wb") as file:
                    await rows.write_parquet(result, file)
            else:
                with partial_file.open("w", encoding="utf-8", newline="") as text:
                    await self._write(result, text, 0, started)
            partial_file.replace(self.output)
        finally:
            partial_file.unlink(missing_ok=True)

    async def _write(
        self, result: Result | RemoteResult, out: TextIO, most: int, started: float
    ) -> None:
        match self.written:
            case Format.TABLE:
                await _show(result, out, most, started)
            case Format.JSON:
                await rows.write_json(result, out)
            case Format.JSONL:
                await rows.write_json_lines(result, out)
            case Format.CSV:
                await rows.write_csv(result, out)
            case Format.TSV:
                await rows.write_csv(result, out, "\t")
            case Format.MARKDOWN:
                await rows.write_markdown(result, out)
            case Format.PARQUET:
                await rows.write_parquet(result, out.buffer)


async def _show(result: Result | RemoteResult, out: TextIO, most: int, started: float) -> None:
    aligned, count, more = rows.AlignedRows(result.schema, out), 0, False
    async for batch in result:
        if more := bool(most) and count + batch.num_rows > most:
            batch = batch.slice(0, most - count)
        aligned.add(rows.rows_of(batch, rows.shown_values))
        count += batch.num_rows
        if more:
            break
    aligned.end()
    took_ms = (perf_counter() - started) * 1000.0
    shown = f"the first {_count(count)} (--rows 0 shows all)"
    by = {f"{p.plugin} {p.version} ({p.digest[:8]})": None for p in result.provenance}
    out.flush()
    error_console().print(
        f"{shown if more else _count(count)} in {took_ms:,.0f} ms"
        f"{', computed by ' if by else ''}{', '.join(by)}",
        style="dim",
        soft_wrap=True,
    )


def _count(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
