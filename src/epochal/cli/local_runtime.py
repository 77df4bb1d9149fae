"""The runtime that a command runs in, and the options that several commands share.

An error holds the frames that it came through, a plugin's among them, and so the plugin is in use
until the error is reported and dropped. A runtime that is closed while the error passes would wait
in vain. So commands only open runtimes; `closing` closes them after the command, when its error is
gone.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epochal.cli.configuration import check_known
from epochal.cli.console import keeping_stdout, warn

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence

    from epochal.artifact import Artifact
    from epochal.cli.configuration import Config
    from epochal.runtime import Runtime

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        "-p",
        metavar="PATH",
        help="A plugin to load: a .py or .wasm file, or a folder. May be given several times.",
        show_default=False,
    ),
]
Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--grant",
        metavar="CAPABILITY",
        help="A service to grant besides every kind, such as net:api.example.org or net:*.",
        show_default=False,
    ),
]

Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        "-t",
        metavar="NAME=PATH",
        help="A table: Parquet, CSV, TSV, JSON or Arrow, a file or a folder of them; or the "
        "address of a plugin's table (lite:///shop.db?table=orders). May be given several times.",
        show_default=False,
    ),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="A folder that stores every change; the next start restores the last epoch.",
        show_default=False,
    ),
]

EVERY_KIND: Final = "*"


def checked_limit(seconds: float | None) -> float | None:
    """A time limit in seconds; None for none.

    Raises:
        BadParameter: it is too short, or not a number.
    """
    if seconds is not None and not seconds >= _SHORTEST_S:
        raise typer.BadParameter(
            f"{seconds:g} seconds is too short; expected {_SHORTEST_S} or more"
        )
    return seconds


def read_tables(options: Sequence[str]) -> dict[str, str]:
    """The values of `--table`, as name and path.

    Raises:
        BadParameter: a value has another form, or a name is repeated.
    """
    tables: dict[str, str] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (name and equals and path):
            raise typer.BadParameter(f"--table {option!r} is not of the form NAME=PATH")
        if name in tables:
            raise typer.BadParameter(f"--table {name!r} is given twice")
        tables[name] = path
    return tables


_SHORTEST_S: Final = 0.001
_DRAIN_TIMEOUT_S: Final = 10.0
_opened: Final[ContextVar[ExitStack]] = ContextVar("opened by the running command")


@contextmanager
def closing() -> Generator[None, None, None]:
    """Close, at the end of the block, the runtimes that were opened in it."""
    with ExitStack() as opened:
        token = _opened.set(opened)
        try:
            yield
        finally:
            _opened.reset(token)


def open_runtime(
    plugins: Sequence[Path],
    grants: Sequence[str] | None = None,
    configs: Mapping[str, Config] | None = None,
    others: Collection[str] = (),
) -> Runtime:
    """A runtime with these plugins loaded, all in one change; only inside `closing`.

    Args:
        plugins: their paths.
        grants: services to grant, besides every kind.
        configs: their configurations, by id.
        others: the ids of further plugins that may be configured.

    Raises:
        EpochalError: a plugin cannot be loaded.
    """
    from epochal.runtime import Runtime  # here, for the help and for commands without plugins

    configs = configs or {}
    see_working_folder()
    opened = _opened.get()
    opened.enter_context(keeping_stdout())
    rt = Runtime(grants={EVERY_KIND, *(grants or ())}, drain_timeout=_DRAIN_TIMEOUT_S)
    opened.callback(_close, rt)
    given = read_plugins(plugins)
    check_known(configs, {*dict(given), *others})
    if given:
        with rt.change() as change:
            for plugin, artifact in given:
                change.load(artifact, config=configs.get(plugin))
    return rt


def read_plugins(paths: Sequence[Path] | None) -> list[tuple[str, Artifact]]:
    """The plugins at these paths, each with its id; a change refuses two of one id.

    Raises:
        ArtifactError: a path cannot be read.
        ManifestError: a manifest is wrong.
    """
    from epochal.artifact import read_artifact, read_manifest

    artifacts = [read_artifact(path) for path in paths or ()]
    return [(read_manifest(artifact).id, artifact) for artifact in artifacts]


def see_working_folder() -> None:
    """Let plugins import the host's modules in the working folder, after all that is installed."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _close(rt: Runtime) -> None:
    cutover = rt.close()
    assert cutover is not None  # closed here alone
    for failure in cutover.failures:
        warn(failure)
    for holder in cutover.holders:
        warn(f"a plugin was not shut down, because it is still in use: {holder}")
