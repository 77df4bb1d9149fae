"""`epochal serve`: SQL with hot-swappable plugins over HTTP, with a live page."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Final

import typer

from epochal.artifact import read_folder, read_manifest
from epochal.cli.commands.query import read_tables
from epochal.cli.local_runtime import EVERY_KIND, Grants, checked_limit
from epochal.errors import HostError, ManifestError, PluginError
from epochal.observe.logs import JsonLines, log_events, logger
from epochal.runtime import Runtime

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from epochal.artifact import Artifact
    from epochal.server import ServiceLimits, ServiceState
    from epochal.server.tokens import Tokens

_FAILED: Final = 1


class LogFormat(StrEnum):
    """How log lines are written, on standard error."""

    TEXT = "text"
    # An object a line.
    JSON = "json"


class LogLevel(StrEnum):
    """What is logged at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    plugins: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of plugins to load at the start, unless the store has an epoch to "
            "restore.",
            show_default=False,
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A folder in which every change is kept; the next start serves the last one.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            "-t",
            metavar="NAME=FILE",
            help="A table: Parquet, CSV, TSV, JSON or Arrow, a file or a folder of them; or the "
            "address of one that a plugin serves (lite:///shop.db?table=orders). May be given "
            "several times.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Load and reload what is saved in this folder; without --plugins it is also what "
            "is loaded at the start.",
            show_default=False,
        ),
    ] = None,
    watch_remove: Annotated[
        bool, typer.Option("--watch-remove", help="Remove a plugin whose file is deleted there.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name under which clients reach the service, besides its address. May be given "
            "several times.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds the admin token; otherwise EPOCHAL_ADMIN_TOKEN, or made at the start.",
            show_default=False,
        ),
    ] = None,
    query_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds a token for queries; otherwise EPOCHAL_QUERY_TOKEN. Loopback needs none.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows that a query may answer with.")] = 10_000,
    timeout: Annotated[
        float, typer.Option(callback=checked_limit, help="Seconds that a query may take.")
    ] = 30.0,
    stop_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds that running requests are given at the end.")
    ] = 10.0,
    log_level: Annotated[LogLevel, typer.Option(help="What to log at least.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="How to write the log.")] = LogFormat.TEXT,
    grant: Grants = None,
) -> None:
    """Serve SQL with plugins that are swapped under running queries, with a live page.

    For example:
      epochal serve --plugins plugins --watch plugins
      epochal serve --plugins plugins --store state -t trips=trips.parquet
      epochal query "SELECT geo.greet('world')" --server http://127.0.0.1:8000

    When it serves, it writes two lines on standard output: "Epochal serves at"
    with the address, and a link to the page with the right to change plugins.
    The jobs of plugins run by their schedules. Ctrl-C or SIGTERM ends the
    service: running queries first, plugins last.
    """
    tables = read_tables(table or [])
    _check_folders(plugins, watch)
    try:
        from epochal.server import ServiceLimits
        from epochal.server.serve import listen
        from epochal.server.tokens import is_any, read_tokens
    except ImportError as error:
        raise HostError(str(error)) from error
    tokens = read_tokens(host, os.environ, token_file, query_token_file)
    names = allow_host or []
    if is_any(host) and not names:
        raise HostError(
            f"on {host} the service cannot know under which names it is reached; give each with "
            "--allow-host NAME"
        )
    limits = ServiceLimits(query_s=timeout, rows=rows, stop_s=stop_timeout)
    _log(log_level, log_format)
    with listen(host, port) as sock:
        service = _service(plugins or watch, store, tables, grant or [], limits)
        _run(service, tokens, sock, names, watch, remove=watch_remove)


def _check_folders(*folders: Path | None) -> None:
    """Before anything is published, and so kept in a store."""
    for folder in folders:
        if folder is not None and not folder.is_dir():
            raise HostError(f"{folder} is no folder; name the folder that holds the plugins")


def _log(level: LogLevel, written: LogFormat) -> None:
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(text if written is LogFormat.TEXT else JsonLines())
    # On the root, so that what others log, uvicorn and plugins say, is written in the same form.
    logging.getLogger().addHandler(handler)
    logger.setLevel(level.upper())


def _service(
    plugins: Path | None,
    store: Path | None,
    tables: Mapping[str, str],
    grants: Sequence[str],
    limits: ServiceLimits,
) -> ServiceState:
    from epochal.jobs import Jobs
    from epochal.observe.tracing import instrument
    from epochal.server import ServiceState
    from epochal.sql import Database

    rt = Runtime(grants={EVERY_KIND, *grants}, store=store, drain_timeout=limits.drain_s)
    try:
        log_events(rt.events)
        instrument(rt)
        database = Database(rt)
        # What plugins serve needs them; files are looked for before anything is published.
        for name, path in tables.items():
            if "://" not in path:
                database.register(name, path)
        _load(rt, plugins)
        for name, path in tables.items():
            if "://" in path:
                database.register(name, path)
        return ServiceState(rt, database, limits=limits, jobs=Jobs(rt))
    except BaseException:
        rt.close(drain_timeout=0.0)
        raise


def _load(rt: Runtime, folder: Path | None) -> None:
    """Load a folder, or tell what of it differs from what the store brought back."""
    artifacts = read_folder(folder) if folder is not None else []
    epoch = rt.epoch
    if not epoch.number:
        del epoch
        _load_all(rt, artifacts)
        return
    serving = {one.digest for one in epoch.generations.values()}
    logger.info("epoch %d is restored from the store", epoch.number)
    for artifact in artifacts:
        if artifact.digest not in serving:
            logger.warning(
                "%s is not what the store has, which serves: save it under --watch, or "
                "`epochal load` it, to bring it in",
                artifact.origin,
            )


def _load_all(rt: Runtime, artifacts: Sequence[Artifact]) -> None:
    broken = None
    try:
        with rt.change(reason="serve: start") as change:
            for artifact in artifacts:
                change.load(artifact)
    except PluginError as error:
        broken = str(error), error.plugin
    if broken is not None:  # out of the error's frames, which may be a plugin's
        said, plugin = broken
        raise HostError(f"{said}; `epochal check {_path_of(plugin, artifacts)}` tells more")


def _path_of(plugin: str | None, artifacts: Sequence[Artifact]) -> str:
    """Where a plugin is; one that cannot say its id is the first whose manifest is wrong."""
    for artifact in artifacts:
        try:
            is_it = read_manifest(artifact).id == plugin
        except ManifestError as error:
            is_it = error.plugin == plugin
        if is_it:
            return str(artifact.origin)
    return "PATH"


def _run(
    service: ServiceState,
    tokens: Tokens,
    sock: socket.socket,
    names: Sequence[str],
    watch: Path | None,
    *,
    remove: bool,
) -> None:
    from epochal.server import Access
    from epochal.server.security import authorities_of
    from epochal.server.serve import end, run
    from epochal.watch import Watcher

    with ExitStack() as failing, ExitStack() as watching:
        failing.callback(end, service)
        if watch is not None:
            watching.enter_context(Watcher(service.runtime, watch, remove=remove))
        access = Access(
            authorities=authorities_of(sock, names),
            admin_token=tokens.admin,
            query_token=tokens.query,
        )
        failing.pop_all()  # from here on, `run` ends it
        is_over = run(service, access, sock, on_ready=lambda: _tell(sock, tokens))
    if not is_over:
        # What still runs is in a plugin's code; waiting for it would be for ever, and an engine's
        # thread that is in Python when the interpreter ends aborts the process.
        sys.stdout.flush()
        logging.shutdown()
        os._exit(_FAILED)


def _tell(sock: socket.socket, tokens: Tokens) -> None:
    from epochal.server.serve import url_of

    url = url_of(sock)
    print(f"Epochal serves at {url}")
    if tokens.is_generated:
        print(f"The page, with the right to change plugins: {url}/#token={tokens.admin}")
    else:
        print(f"The page: {url}/ (it asks for the admin token before a change)")
    sys.stdout.flush()
