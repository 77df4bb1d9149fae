"""`epochal demo`: the demonstration, with its live screen, its report and its verdict."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epochal.cli.console import Json, console, error_console, write_json
from epochal.errors import HostError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from epochal.demo.picture import Film
    from epochal.demo.report import Report
    from epochal.demo.stateful import StatefulReport
    from epochal.demo.workload import Demonstration

_FRAME_S: Final = 0.8  # of the moving picture


def demo(
    seconds: Annotated[
        float, typer.Option(min=1.0, help="Seconds of changes, after a quiet start.")
    ] = 20.0,
    reloads: Annotated[
        int, typer.Option(min=1, help="Changes that are published in that time.")
    ] = 60,
    threads: Annotated[int, typer.Option(min=0, help="Threads that query.")] = 3,
    tasks: Annotated[int, typer.Option(min=0, help="asyncio tasks that query.")] = 3,
    stateful: Annotated[
        bool,
        typer.Option("--stateful", help="The second act: a service, a stream, an index and a job."),
    ] = False,
    as_json: Json = False,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="PATH",
            help="Save the run as a moving SVG picture.",
            show_default=False,
        ),
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

    With --stateful, plugins that keep state are reloaded while they are used;
    each use is counted outside of the plugin, and none may be lost.
    """
    if stateful:
        _second_act(seconds, reloads, as_json=as_json)
        return
    _first_act(seconds, reloads, threads, tasks, svg, as_json=as_json)


def _first_act(
    seconds: float, reloads: int, threads: int, tasks: int, svg: Path | None, *, as_json: bool
) -> None:
    import asyncio  # here, as the demonstration and its engine: no other command needs them

    from epochal.demo.picture import Film
    from epochal.demo.report import show
    from epochal.demo.screen import reading
    from epochal.demo.workload import Demonstration, Settings

    demonstration = Demonstration(Settings(seconds, reloads, threads=threads, tasks=tasks))
    out = error_console() if as_json else console()
    with reading(out, "reading the flights that left New York in 2013") as on_progress:
        demonstration.read(on_progress)
    film = None if svg is None else Film(_FRAME_S)
    try:
        asyncio.run(_run(demonstration, out, film))
    except KeyboardInterrupt:
        out.print(show(demonstration.report()))
        raise
    report = demonstration.report()
    if film is not None and svg is not None:
        film.take(show(report))
        svg.write_text(film.svg(), encoding="utf-8")
    _end(report, show(report), as_json=as_json)


def _second_act(seconds: float, reloads: int, *, as_json: bool) -> None:
    from epochal.demo.screen import follow

    try:
        from epochal.demo.stateful import StatefulDemonstration, show_stateful
    except ImportError as error:
        raise HostError(
            f"the second act needs the extra 'demo': pip install 'epochal[demo]' ({error})"
        ) from error

    demonstration = StatefulDemonstration(seconds, reloads)
    with follow(demonstration, error_console() if as_json else console()) as on_sample:
        report = demonstration.run(on_sample)
    _end(report, show_stateful(report), as_json=as_json)


async def _run(demonstration: Demonstration, out: Console, film: Film | None) -> None:
    from epochal.demo.screen import follow

    board, due = demonstration.board, 0.0
    with follow(board, out) as draw:

        def on_sample() -> None:
            nonlocal due
            draw()
            if film is not None and monotonic() >= due:
                due = monotonic() + _FRAME_S
                film.take(board)

        await demonstration.run(on_sample)


def _end(report: Report | StatefulReport, page: RenderableType, *, as_json: bool) -> None:
    if as_json:
        write_json(report.as_dict())
        for fault in report.faults:
            print(fault, file=sys.stderr)
    else:
        console().print(page)
    if not report.passed:
        raise typer.Exit(1)
