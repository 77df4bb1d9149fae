"""`epochal demo`: the demonstration, with its live screen, its report and its verdict."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from epochal.cli.console import Json, console, error_console, write_json
from epochal.demo.live import follow
from epochal.demo.picture import Camera
from epochal.demo.report import show
from epochal.demo.workload import Demonstration, Settings
from epochal.errors import HostError

if TYPE_CHECKING:
    from rich.console import Console

    from epochal.demo.report import Report


def demo(
    seconds: Annotated[
        float, typer.Option(min=1.0, help="How long plugins are changed, after a quiet start.")
    ] = 24.0,
    reloads: Annotated[
        int, typer.Option(min=1, help="How many changes are published in that time.")
    ] = 60,
    threads: Annotated[int, typer.Option(min=0, help="Threads that query.")] = 3,
    tasks: Annotated[int, typer.Option(min=0, help="asyncio tasks that query.")] = 3,
    stateful: Annotated[
        bool,
        typer.Option("--stateful", help="The second act: a service, a stream, an index and a job."),
    ] = False,
    as_json: Json = False,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Keep the screen as an SVG picture.", show_default=False),
    ] = None,
) -> None:
    """Swap plugins under live SQL and see that no query notices.

    For example:
      epochal demo
      epochal demo --seconds 60 --reloads 300
      epochal demo --json | jq .query_ms
      epochal demo --stateful

    Runs analytical SQL over every flight that left New York in 2013, from
    threads and asyncio tasks, and meanwhile reloads the plugins whose
    functions it calls: one at a time, two at once, with versions that do not
    load or do not start, with one that goes and comes back.

    Each query checks its own rows. The status is 1 if one of them saw a mix
    of versions, used a version after its shutdown, missed a function or
    failed, or if a removed version's memory did not come back.

    With --stateful, plugins that keep something are reloaded while they are
    used; what each did is counted apart from it, and nothing may be lost.
    """
    if stateful:
        _second_act(seconds, reloads, as_json=as_json)
        return
    demonstration = Demonstration(Settings(seconds, reloads, threads=threads, tasks=tasks))
    report = asyncio.run(_run(demonstration, error_console() if as_json else console(), picture))
    if as_json:
        write_json(report.as_dict())
        for fault in report.faults:
            print(fault, file=sys.stderr)
    else:
        console().print(show(report))
    if not report.passed:
        raise typer.Exit(1)


def _second_act(seconds: float, reloads: int, *, as_json: bool) -> None:
    try:
        from epochal.demo.stateful.live import follow_stateful
        from epochal.demo.stateful.report import show_stateful
        from epochal.demo.stateful.run import StatefulDemonstration
    except ImportError as error:
        raise HostError(
            f"the second act needs the extra 'demo': pip install 'epochal[demo]' ({error})"
        ) from error

    demonstration = StatefulDemonstration(seconds, reloads)
    with follow_stateful(demonstration, error_console() if as_json else console()) as on_sample:
        report = demonstration.run(on_sample)
    if as_json:
        write_json(report.as_dict())
        for fault in report.faults:
            print(fault, file=sys.stderr)
    else:
        console().print(show_stateful(report))
    if not report.passed:
        raise typer.Exit(1)


async def _run(demonstration: Demonstration, out: Console, picture: Path | None) -> Report:
    board = demonstration.board
    camera = None if picture is None else Camera(board, picture)
    with follow(board, out) as draw:

        def on_sample() -> None:
            draw()
            if camera is not None:
                camera.on_sample()

        report = await demonstration.run(on_sample)
    if camera is not None:
        camera.save()
    return report
