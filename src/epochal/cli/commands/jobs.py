"""`epochal jobs` and `epochal streams`: work in the background of a running service."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from epochal.cli.commands.service import connect
from epochal.cli.console import Json, console, data_table, write_json
from epochal.cli.server_options import DEFAULT, Server, TokenFile

if TYPE_CHECKING:
    from rich.table import Table

_COUNTS = ("ran", "failed", "skipped")


def jobs(
    run: Annotated[
        str,
        typer.Option(
            metavar="JOB",
            help="Run this job as soon as a worker is free; its schedule is not touched.",
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
    with connect(server, token_file) as client:
        if run:
            answer = client.ask("POST", f"/v1/jobs/{quote(run, safe='')}/run")
        else:
            answer = client.ask("GET", "/v1/jobs")
    if as_json:
        write_json(answer)
    elif run:
        console().print(f"{run}: queued; epochal events shows how it ends", markup=False)
    else:
        console().print(_table(answer["jobs"]) if answer["jobs"] else "no jobs")


def streams(server: Server = DEFAULT, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List a running service's streams, which serve --stream connects.

    For example:
      epochal streams
      epochal streams --json
    """
    with connect(server, token_file) as client:
        answer = client.ask("GET", "/v1/streams")
    if as_json:
        write_json(answer)
        return
    table = data_table("stream", "state", "position", "events", "last error", right=("events",))
    for flow in answer["streams"]:
        name, position = f"{flow['source']} -> {flow['sink']}", flow["position"] or "-"
        cells = (name, _flow_state(flow), position, f"{flow['events']:,}", flow["last_error"])
        table.add_row(*[Text(cell) for cell in cells])
    console().print(table if answer["streams"] else "no streams; epochal serve --stream has them")


def _flow_state(flow: dict[str, Any]) -> str:
    if flow["waiting"]:
        return f"waits: {flow['waiting']}"
    return "moves" if flow["circuit"] == "closed" else f"held back, circuit {flow['circuit']}"


def _table(jobs: list[dict[str, Any]]) -> Table:
    columns = ("job", "schedule", "next", "state", *_COUNTS, "last error")
    table = data_table(*columns, right=_COUNTS)
    for job in jobs:
        counts = (f"{job[name]:,}" for name in ("ticks", "failures", "skipped"))
        cells = (job["job"], job["schedule"], _when(job["next_at"]), _state(job))
        table.add_row(*[Text(cell) for cell in (*cells, *counts, job["last_error"])])
    return table


def _when(at: float | None) -> str:
    if at is None:
        return "-"
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _state(job: dict[str, Any]) -> str:
    if job["running"]:
        return "runs"
    if job["queued"]:
        return "waits for a worker"
    if job["circuit"] != "closed":
        return f"held back, circuit {job['circuit']}"
    return "held back" if job["failures_in_row"] else "waits"
