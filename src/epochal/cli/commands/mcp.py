"""`epochal mcp`: the tools of plugins for MCP clients, which change while a session goes on."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack, redirect_stdout
from enum import StrEnum
from functools import partial
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from epochal.cli.configuration import Configs, read_configs
from epochal.cli.local_runtime import (
    EVERY_KIND,
    Grants,
    StoreFolder,
    checked_limit,
    see_working_folder,
)
from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp.server.lowlevel import Server

    from epochal.cli.configuration import Config
    from epochal.runtime import Runtime

_CLOSE_S: Final = 5.0
_TOKEN: Final = "EPOCHAL_MCP_TOKEN"


class StalePolicy(StrEnum):
    """What becomes of calls by clients that saw an old version."""

    # The old version answers, for a time.
    KEEP = "keep"
    # An error with the new schema.
    ERROR = "error"


class BreakingPolicy(StrEnum):
    """What becomes of a saved tool that breaks clients that saw the old one."""

    # It is served, and announced.
    ACCEPT = "accept"
    # It is refused, and the old one goes on.
    REFUSE = "refuse"


def mcp(
    plugins: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder with the plugins that have the tools.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Load and reload plugins as they are saved in that folder."),
    ] = False,
    store: StoreFolder = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP at /mcp, and not stdio.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address to listen on, for --http.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port, for --http; 0 picks a free one.")
    ] = 8765,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name of the server, besides its address. May be given several times.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Contains the token that clients send; or {_TOKEN}. Loopback needs none.",
            show_default=False,
        ),
    ] = None,
    stale: Annotated[
        StalePolicy,
        typer.Option(
            help="A client that saw a version which the current one breaks is answered by the old "
            "version for a time, or with an error that has the new schema."
        ),
    ] = StalePolicy.KEEP,
    hold: Annotated[
        float,
        typer.Option(callback=checked_limit, help="Seconds for which an old version answers."),
    ] = 60.0,
    breaking: Annotated[
        BreakingPolicy,
        typer.Option(help="A saved tool that breaks such clients is served, or refused."),
    ] = BreakingPolicy.ACCEPT,
    timeout: Annotated[
        float,
        typer.Option(
            callback=checked_limit, help="Seconds for a call, where the tool has no limit."
        ),
    ] = 300.0,
    separator: Annotated[
        str, typer.Option(help="Between plugin and tool in names: '.', '-', '_' or '__'.")
    ] = ".",
    name: Annotated[str, typer.Option(help="The server's name, as clients show it.")] = "epochal",
    allow_authoring: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Let the agent propose plugins that it writes; a person looks at them in this "
            "folder (`epochal approve DIR`). Python is not sandboxed: a proposal's trial runs its "
            "code as your user, before it is approved.",
            show_default=False,
        ),
    ] = None,
    may_replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLUGIN",
            help="A plugin that proposals may replace, besides the agent's own. May be given "
            "several times.",
            show_default=False,
        ),
    ] = None,
    grant: Grants = None,
    config: Configs = None,
) -> None:
    """Serve the tools of plugins to MCP clients, and change them while they are used.

    For example:
      epochal mcp --plugins . --watch
      epochal mcp --plugins tools --http --port 8765

    A client that starts programs takes the command as it stands; by HTTP it
    takes the address that is printed. Clients are notified of each change that
    they can see. What plugins print, and the log, is on standard error.
    """
    if plugins is None and store is None:
        raise typer.BadParameter(
            "nothing to serve; name the folder with the plugins: epochal mcp --plugins DIR --watch"
        )
    if watch and plugins is None:
        raise typer.BadParameter("--watch needs the folder to watch: --plugins DIR")
    if may_replace and allow_authoring is None:
        raise typer.BadParameter("--may-replace needs proposals: --allow-authoring DIR")
    if plugins is not None and not plugins.is_dir():
        raise HostError(f"{plugins} is not a folder; name the folder with the plugins")
    configs = read_configs(config)
    see_working_folder()
    try:
        import mcp.server  # noqa: F401  the extra, before anything is started
    except ImportError as error:
        raise HostError(
            f"this command needs the extra 'mcp': pip install 'epochal[mcp]' ({error})"
        ) from error
    _log()
    options: dict[str, Any] = {
        "stale": stale.value,
        "hold": hold,
        "timeout": timeout,
        "separator": separator,
    }

    def make() -> tuple[Server[Any], Callable[[], object]]:
        return _server(
            name,
            plugins,
            store,
            options,
            watch=watch,
            refuse=breaking is BreakingPolicy.REFUSE,
            grants={EVERY_KIND, *(grant or ())},
            configs=configs,
            proposals=allow_authoring,
            may_replace=may_replace or (),
        )

    if http:
        _serve_http(make, host, port, allow_host or [], token_file)
    else:
        from epochal.mcp.stdio_service import serve_stdio

        if sys.stdin.isatty():
            print(
                "epochal mcp speaks to a client on standard input; --http serves an address "
                "(Ctrl-C ends it)",
                file=sys.stderr,
            )
        serve_stdio(make)


def _log() -> None:
    from epochal.observe.logs import TextLines, logger

    handler = logging.StreamHandler()  # standard error
    handler.setFormatter(TextLines())
    logging.getLogger().addHandler(handler)
    logger.setLevel("INFO")


def _server(
    name: str,
    plugins: Path | None,
    store: Path | None,
    options: Mapping[str, Any],
    *,
    watch: bool,
    refuse: bool,
    grants: set[str],
    configs: Mapping[str, Config],
    proposals: Path | None,
    may_replace: Sequence[str],
) -> tuple[Server[Any], Callable[[], object]]:
    """The server, and what ends it."""
    from importlib.metadata import version

    from mcp.server.lowlevel import Server

    from epochal.authoring import ApprovalFolder, Authoring
    from epochal.mcp import attach
    from epochal.observe.logs import log_events
    from epochal.runtime import Runtime
    from epochal.tools import refuse_breaking

    server: Server[Any] = Server(name, version=version("epochal"))
    with ExitStack() as failing:
        rt = Runtime(grants=grants, store=store, drain_timeout=_CLOSE_S)
        failing.callback(rt.close, drain_timeout=_CLOSE_S)
        log_events(rt.events)
        if refuse:
            refuse_breaking(rt)
        authoring = None
        if proposals is not None:
            approvals = ApprovalFolder(proposals)
            authoring = Authoring(rt, approvals, may_replace=may_replace)
        attachment = attach(server, rt, authoring=authoring, **options)
        failing.callback(attachment.close)
        _load(failing, rt, plugins, configs, watch=watch)
        ending = failing.pop_all()
    return server, ending.close


def _load(
    failing: ExitStack,
    rt: Runtime,
    plugins: Path | None,
    configs: Mapping[str, Config],
    *,
    watch: bool,
) -> None:
    is_restored = rt.epoch.number > 0
    if watch and plugins is not None:
        from epochal.watch import Watcher

        # A broken plugin is logged, and the others serve: the person is about to mend it.
        failing.enter_context(
            Watcher(rt, plugins, remove=True, load=not is_restored, configs=configs)
        )
    elif plugins is not None and not is_restored:
        rt.load_folder(plugins, configs=configs)


def _serve_http(
    make: Callable[[], tuple[Server[Any], Callable[[], object]]],
    host: str,
    port: int,
    names: list[str],
    token_file: Path | None,
) -> None:
    from epochal.mcp.http_service import http_app, is_loopback, serve_http

    token = _token(token_file)
    if token is None and not is_loopback(host):
        raise HostError(
            f"on {host} others can call the tools: set {_TOKEN}, or --token-file, or listen on "
            "127.0.0.1"
        )
    out = sys.stdout
    with redirect_stdout(sys.stderr):  # what plugins print
        server, end = make()
        try:
            app = http_app(server, host=host, names=names, token=token)
            serve_http(app, host, port, on_ready=partial(_announce, out))
        finally:
            end()


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(_TOKEN) or None
    try:
        token = file.read_text().strip()
    except OSError as error:
        raise HostError(f"the token cannot be read: {error}") from error
    if not token:
        raise HostError(f"{file} is empty; expected the token")
    return token


def _announce(out: TextIO, url: str) -> None:
    print(f"Epochal's tools for MCP clients at {url}", file=out, flush=True)
