"""`epochal query`: one SQL query with plugin functions, over tables from files."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import Annotated, Final

import typer

from epochal.cli.configuration import Configs, read_configs
from epochal.cli.console import Format, Json
from epochal.cli.local_runtime import (
    Grants,
    Plugins,
    Tables,
    checked_limit,
    open_runtime,
    read_tables,
)

_BY_SUFFIX: Final = {
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".md": Format.MARKDOWN,
    ".parquet": Format.PARQUET,
}


def query(
    sql: Annotated[
        str, typer.Argument(help="The query; - reads it from standard input.", show_default=False)
    ],
    plugin: Plugins = None,
    table: Tables = None,
    written: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="The output's format.", show_default="table, or FILE's suffix"
        ),
    ] = None,
    as_json: Json = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write all rows to a file.", show_default=False
        ),
    ] = None,
    delimiter: Annotated[
        str, typer.Option(help="Between the fields of the CSV files that are read.")
    ] = ",",
    header: Annotated[
        bool, typer.Option("--header/--no-header", help="Whether these begin with their names.")
    ] = True,
    most: Annotated[
        int, typer.Option("--rows", min=0, help="Rows that a table shows at most; 0 for all.")
    ] = 40,
    timeout: Annotated[
        float | None,
        typer.Option(
            callback=checked_limit, help="Time limit in seconds.", show_default="no limit"
        ),
    ] = None,
    grant: Grants = None,
    config: Configs = None,
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
      epochal query "SELECT * FROM 'orders.csv'"
      epochal query "SELECT geo.greet(name) FROM people" -p geo.py -t people=p.csv
      epochal query "SELECT * FROM trips" -t trips=trips/ -o trips.parquet
      epochal query - --json < report.sql
      epochal query "SELECT geo.greet('you')" --server http://127.0.0.1:8000

    Rows go to standard output. With a table, standard error names the plugin
    versions that computed them; JSON has them in the document.
    """
    text = sys.stdin.read() if sql == "-" else sql
    written = _format(written, output, as_json=as_json)
    if server is not None and (plugin or table or grant or config):
        raise typer.BadParameter("--server has its own plugins and tables; epochal load PATH")
    if len(delimiter) != 1:
        raise typer.BadParameter(f"--delimiter {delimiter!r} is not one character")
    tables = read_tables(table or [])
    # Here, for they bring the engine and Arrow, which no other command needs.
    from epochal.cli.query_run import Files, Target, run_local, run_remote

    target = Target(written, output, most)
    if server is not None:
        run_remote(server, text, timeout, target)
    else:
        rt = open_runtime(plugin or [], grant, read_configs(config))
        run_local(rt, Files(tables, delimiter, header), text, timeout, target)


def _format(written: Format | None, output: Path | None, *, as_json: bool) -> Format:
    if as_json:
        return Format.JSON
    if written is not None or output is None:
        return written or Format.TABLE
    try:
        return _BY_SUFFIX[output.suffix.lower()]
    except KeyError:
        known = ", ".join(_BY_SUFFIX)
        raise typer.BadParameter(
            f"the suffix of --output {output} names no format; known: {known}; or give --format"
        ) from None
