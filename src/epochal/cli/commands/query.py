"""`epochal query`: one SQL query with plugin functions, over tables from files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from epochal.cli.console import Format, Json
from epochal.cli.local_runtime import (
    Grants,
    Plugins,
    Tables,
    checked_limit,
    open_runtime,
    read_tables,
)


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
    if server is not None and (plugin or table or grant):
        raise typer.BadParameter("--server has its own plugins and tables; epochal load PATH")
    tables = read_tables(table or [])
    # Here, for they bring the engine and Arrow, which no other command needs.
    from epochal.cli.query_run import run_local, run_remote

    if server is not None:
        run_remote(server, text, timeout, written, rows)
    else:
        run_local(open_runtime(plugin or [], grant), tables, text, timeout, written, rows)
