"""The command line as a whole: its commands, `--version` and the first page of help."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from epochal.cli.commands.approve import approve
from epochal.cli.commands.check import check
from epochal.cli.commands.demo import demo
from epochal.cli.commands.explain import explain
from epochal.cli.commands.jobs import jobs, streams
from epochal.cli.commands.mcp import mcp
from epochal.cli.commands.new import new
from epochal.cli.commands.plan import plan
from epochal.cli.commands.query import query
from epochal.cli.commands.serve import serve
from epochal.cli.commands.service import (
    events,
    history,
    load,
    plugins,
    reload,
    remove,
    rollback,
    status,
)
from epochal.cli.commands.wasm import wasm

app = typer.Typer(
    name="epochal",
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # with the email package

        print(f"epochal {version('epochal')} (Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def epochal(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Snapshot isolation for code: swap plugins under live traffic.

    Watch a demonstration, then make a plugin and use it:
      epochal demo
      epochal new geo
      epochal check geo.py
      epochal query "SELECT geo.greet('world')" --plugin geo.py
      epochal serve --plugins plugins --watch plugins
    """


app.command()(demo)
app.command()(query)
app.command()(plan)
app.command()(check)
app.command()(new)
app.command()(explain)
app.command()(serve)
app.command()(mcp)
app.command()(approve)
app.add_typer(wasm)
for ask in (status, plugins, load, reload, remove, rollback, history, jobs, streams, events):
    app.command(rich_help_panel="Ask a running service")(ask)
