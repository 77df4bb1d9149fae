"""`epochal jobs`: how the jobs of a running service stand, and running one now."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from epochal.cli.client import DEFAULT, Client, Server
from epochal.cli.commands.service import TokenFile  # noqa: TC001  typer reads annotations when it runs
from epochal.cli.console import Json, console, write_json

_RIGHT = ("ran", "failed", "left out")


def jobs(
    run: Annotated[
        str,
        typer.Option(
            metavar="JOB",
            help="Run this one as soon as a worker is free; its schedule stays as it is.",
            show_default=False,
        ),
    ] = "",
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List a running service's jobs, or run one now.

    For example:
      epochal jobs
      epochal jobs --run house.sweep
    """
    with Client(server, token_file) as client:
        if run:
            told = client.ask("POST", f"/v1/jobs/{quote(run, safe='')}/run")
        else:
            told = client.ask("GET", "/v1/jobs")
    if as_json:
        write_json(told)
    elif run:
        console().print(f"{run}: asked for; epochal events tells how it ends", markup=False)
    else:
        console().print(_table(told["jobs"]) if told["jobs"] else "no jobs")


def _table(told: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("job", "schedule", "next", "state", *_RIGHT, "last error"):
        table.add_column(name, justify="right" if name in _RIGHT else "left")
    for one in told:
        counts = (f"{one[name]:,}" for name in ("ticks", "failures", "skipped"))
        cells = (one["job"], one["schedule"], _when(one["next_at"]), _state(one))
        table.add_row(*[Text(cell) for cell in (*cells, *counts, one["last_error"])])
    return table


def _when(at: float | None) -> str:
    if at is None:
        return "-"
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _state(one: dict[str, Any]) -> str:
    if one["running"]:
        return "runs"
    if one["queued"]:
        return "waits for a worker"
    if one["circuit"] != "closed":
        return f"held back, circuit {one['circuit']}"
    return "held back" if one["failures_in_row"] else "waits"
