"""`epochal plan`: the steps of a change, run up to the publish and undone."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from epochal.cli.configuration import Configs, read_configs
from epochal.cli.console import Json, console, write_json
from epochal.cli.local_runtime import Grants, Plugins, open_runtime, read_plugins

if TYPE_CHECKING:
    from epochal.report import Cutover, StepName, Version


def plan(
    path: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A plugin to load, or a new version of one that is given by -p.",
            show_default=False,
        ),
    ] = None,
    plugin: Plugins = None,
    load: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="A plugin to load.", show_default=False),
    ] = None,
    reload: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="A new version of a loaded plugin; its manifest has the id.",
            show_default=False,
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A plugin to remove.", show_default=False),
    ] = None,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also remove the plugins that require a removed one.")
    ] = False,
    as_json: Json = False,
    grant: Grants = None,
    config: Configs = None,
) -> None:
    """Show the steps of a change, or the reason why it would be refused.

    For example:
      epochal plan geo.py
      epochal plan units2.py -p units.py -p geo.py
      epochal plan -p units.py -p geo.py --reload units2.py --reload geo2.py
      epochal plan -p units.py -p geo.py --remove units --cascade

    Loads the plugins given by -p, then runs the change up to the point where
    it would be published, and undoes it. The plan is therefore exact; but mind
    that the plugins' code runs, init() included.
    """
    if not (path or load or reload or remove):
        raise typer.BadParameter(
            "nothing to plan; name the plugin's file as `epochal check` takes it, or give at least "
            "one of --load, --reload, --remove"
        )
    put, load_, reload_ = map(read_plugins, (path, load, reload))
    configs, ids = read_configs(config), dict([*put, *load_, *reload_])
    change = open_runtime(plugin or [], grant, configs, ids).change(dry_run=True)
    for plugin_id, artifact in put:
        change.put(artifact, config=configs.get(plugin_id))
    for plugin_id, artifact in load_:
        change.load(artifact, config=configs.get(plugin_id))
    for plugin_id, artifact in reload_:
        change.reload(plugin_id, artifact, config=configs.get(plugin_id))
    for plugin_id in remove or ():
        change.remove(plugin_id, cascade=cascade)
    report = change.run()
    if as_json:
        write_json(_document(report))
    else:
        _show(report)


def _document(report: Cutover) -> dict[str, Any]:
    return {
        "published": report.published,
        "epoch_before": report.epoch_before,
        "steps": list(report.steps),
        "plugins": [
            {"plugin": swap.plugin, "old": _version(swap.old), "new": _version(swap.new)}
            for swap in report.swaps
        ],
        "phases_ms": {phase: round(ms, 3) for phase, ms in report.phases_ms.items()},
    }


def _version(version: Version | None) -> dict[str, Any] | None:
    return None if version is None else {"version": version.version, "digest": version.digest}


def _show(report: Cutover) -> None:
    from epochal.report import StepName

    out, steps = console(), Table.grid(padding=(0, 1, 0, 0))
    steps.add_column(justify="right", style="dim")
    for number, step in enumerate(report.steps, 1):
        name = _name_of(step)
        shown = f"[bold]{name}[/]" if name is StepName.PUBLISH else name
        steps.add_row(f"{number}.", shown, step[len(name) :].lstrip())
    out.print(steps)
    took_ms = sum(report.phases_ms.values())
    out.print(f"nothing was changed; the steps before publish took {took_ms:.1f} ms", style="dim")


def _name_of(step: str) -> StepName:
    """The name that a step's line begins with; some names have two words ("close gates")."""
    from epochal.report import StepName

    return next(name for name in StepName if f"{step} ".startswith(f"{name} "))
