"""`epochal serve`: SQL with hot-swappable plugins over HTTP, with a live page."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from epochal.cli.configuration import Configs, read_configs
from epochal.cli.local_runtime import (
    EVERY_KIND,
    Grants,
    StoreFolder,
    Tables,
    checked_limit,
    read_tables,
    see_working_folder,
)
from epochal.errors import HostError, ManifestError, PluginError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from epochal.artifact import Artifact
    from epochal.cli.configuration import Config
    from epochal.runtime import Runtime
    from epochal.server import ServiceLimits, ServiceState
    from epochal.server.tokens import Tokens
    from epochal.watch import Watcher

_FAILED: Final = 1


class LogFormat(StrEnum):
    """The form of log lines, on standard error."""

    TEXT = "text"
    # An object a line.
    JSON = "json"


class DrainPolicy(StrEnum):
    """What a change does with calls that outlast the timeout of its drain."""

    REPORT = "report"
    # It stops those that can be stopped for certain: of WebAssembly plugins.
    INTERRUPT = "interrupt"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

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
    store: StoreFolder = None,
    table: Tables = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Load and reload plugins that are saved in this folder; without --plugins, also "
            "load it at the start.",
            show_default=False,
        ),
    ] = None,
    watch_remove: Annotated[
        bool, typer.Option("--watch-remove", help="Remove a plugin when its file is deleted.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.")
    ] = 8000,
    uds: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Listen on this Unix socket, for its owner alone, and on no port.",
            show_default=False,
        ),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="The path under which a proxy offers the service, such as /sql.",
            show_default=False,
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name of the service, besides its address. May be given several times.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The admin token's file; otherwise EPOCHAL_ADMIN_TOKEN, or made at the start.",
            show_default=False,
        ),
    ] = None,
    query_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with a token for queries, or EPOCHAL_QUERY_TOKEN. Loopback needs none.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows in an answer at most.")] = 10_000,
    timeout: Annotated[
        float, typer.Option(callback=checked_limit, help="Time limit of a query in seconds.")
    ] = 30.0,
    query_memory: Annotated[
        int,
        typer.Option(
            min=1, metavar="MIB", help="Memory for a query's sorts, groups and joins, in MiB."
        ),
    ] = 1024,
    memory: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MIB",
            help="Memory of the process above which queries are ended; by default three quarters "
            "of what it may have.",
            show_default=False,
        ),
    ] = None,
    on_drain_timeout: Annotated[
        DrainPolicy,
        typer.Option(
            help="Once a replaced version is in use for 10 s: report it, or interrupt its calls "
            "too, which ends those of WebAssembly plugins."
        ),
    ] = DrainPolicy.REPORT,
    stop_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds for running requests at the end.")
    ] = 10.0,
    log_level: Annotated[LogLevel, typer.Option(help="The lowest level to log.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="The log's format.")] = LogFormat.TEXT,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE=SINK",
            help="Move events from a plugin's source to a plugin's sink, such as "
            "orders.changes=lake.files. May be given several times.",
            show_default=False,
        ),
    ] = None,
    grant: Grants = None,
    config: Configs = None,
) -> None:
    """Serve SQL with plugins that are swapped under running queries, with a live page.

    For example:
      epochal serve --plugins plugins --watch plugins
      epochal serve --plugins plugins --store state -t trips=trips.parquet
      epochal query "SELECT geo.greet('world')" --server http://127.0.0.1:8000

    Once ready, it writes two lines on standard output: "Epochal serves at" with
    the address, and the page's, in a terminal with the right to change plugins.
    Jobs of plugins run by their schedules, streams as --stream connects them.
    Ctrl-C, SIGTERM or SIGHUP ends the service: running queries first, plugins
    last.
    """
    tables, configs = read_tables(table or []), read_configs(config)
    flows = _read_streams(stream or [])
    see_working_folder()
    _check_folders(plugins, watch)
    try:
        from epochal.server import ServiceLimits
        from epochal.server.serve import listen, listen_locally
        from epochal.server.tokens import is_any, read_tokens
    except ImportError as error:
        raise HostError(str(error)) from error
    root_path = _checked_root(root_path)
    # Only this machine reaches a Unix socket.
    tokens = read_tokens("localhost" if uds else host, os.environ, token_file, query_token_file)
    names = allow_host or []
    if uds is None and is_any(host) and not names:
        raise HostError(
            f"on {host} the service cannot know its host names; give each with --allow-host NAME"
        )
    limits = ServiceLimits(
        query_s=timeout,
        query_bytes=query_memory << 20,
        memory_bytes=None if memory is None else memory << 20,
        rows=rows,
        stop_s=stop_timeout,
    )
    _log(log_level, log_format)
    with listen(host, port) if uds is None else listen_locally(uds) as sock:
        service, is_restored = _service(
            plugins or watch, store, tables, grant or [], limits, configs, flows, on_drain_timeout
        )
        make_watcher = None
        if watch is not None:
            # A restored epoch serves as it was: the log has the files that differ.
            make_watcher = partial(
                _watcher, watch, remove=watch_remove, load=not is_restored, configs=configs
            )
        _run(service, tokens, sock, names, make_watcher, root_path)


def _read_streams(options: Sequence[str]) -> list[tuple[str, str]]:
    flows = [(source, sink) for source, _, sink in (option.partition("=") for option in options)]
    for option, names in zip(options, flows, strict=True):
        if not all(re.fullmatch(r"\w+\.\w+", name) for name in names):
            raise typer.BadParameter(
                f"--stream {option!r} is not of the form PLUGIN.SOURCE=PLUGIN.SINK"
            )
    return flows


def _checked_root(path: str) -> str:
    root = path.rstrip("/")
    if root and not (root.startswith("/") and root.isprintable() and not set(root) & set("?# ")):
        raise typer.BadParameter(f"--root-path {path!r} is not a path such as /sql")
    return root


def _check_folders(*folders: Path | None) -> None:
    """Refuse missing folders before any change is published, and so stored."""
    for folder in folders:
        if folder is not None and not folder.is_dir():
            raise HostError(f"{folder} is not a folder; name the folder with the plugins")


def _log(level: LogLevel, written: LogFormat) -> None:
    from epochal.observe.logs import JsonLines, TextLines, logger

    handler = logging.StreamHandler()
    handler.setFormatter(TextLines() if written is LogFormat.TEXT else JsonLines())
    # On the root logger, so that records of uvicorn, plugins and others have the same form.
    logging.getLogger().addHandler(handler)
    logger.setLevel(level.upper())


def _service(
    plugins: Path | None,
    store: Path | None,
    tables: Mapping[str, str],
    grants: Sequence[str],
    limits: ServiceLimits,
    configs: Mapping[str, Config],
    flows: Sequence[tuple[str, str]] = (),
    on_drain_timeout: DrainPolicy = DrainPolicy.REPORT,
) -> tuple[ServiceState, bool]:
    """The service, and whether the store's epoch was restored."""
    from epochal.jobs import Jobs, Streams
    from epochal.observe.logs import log_events
    from epochal.observe.tracing import instrument
    from epochal.runtime import Runtime
    from epochal.server import ServiceState
    from epochal.sql import Database

    rt = Runtime(
        grants={EVERY_KIND, *grants},
        store=store,
        drain_timeout=limits.drain_s,
        on_drain_timeout=on_drain_timeout.value,
    )
    try:
        log_events(rt.events)
        instrument(rt)
        database = Database(rt, memory=limits.query_bytes)
        # Tables of plugins need their plugins; files are checked before any change is published.
        for name, path in tables.items():
            if "://" not in path:
                database.register(name, path)
        is_restored = rt.epoch.number > 0
        _load(rt, plugins, configs)
        for name, path in tables.items():
            if "://" in path:
                database.register(name, path)
        streams = Streams(rt)
        for source, sink in flows:
            streams.connect(source, sink)
        jobs = Jobs(rt)
        return ServiceState(rt, database, limits=limits, jobs=jobs, streams=streams), is_restored
    except BaseException:
        rt.close(drain_timeout=0.0)
        raise


def _load(rt: Runtime, folder: Path | None, configs: Mapping[str, Config]) -> None:
    """Load a folder; after a restore from the store, log the plugins that differ instead."""
    from epochal.artifact import read_folder
    from epochal.observe.logs import logger

    artifacts = read_folder(folder) if folder is not None else []
    epoch = rt.epoch
    if not epoch.number:
        del epoch
        _load_all(rt, artifacts, configs)
        return
    serving = {generation.digest for generation in epoch.generations.values()}
    configured = {plugin: dict(g.candidate.config) for plugin, g in epoch.generations.items()}
    logger.info("epoch %d is restored from the store", epoch.number)
    for artifact in artifacts:
        if artifact.digest not in serving:
            logger.warning(
                "%s differs from the restored plugin, which serves: save it under --watch, or "
                "`epochal load` it, to replace it",
                artifact.origin,
            )
    for plugin, config in configs.items():
        if plugin in configured and configured[plugin] != config:
            logger.warning(
                "--config of %s differs from the restored one, which serves: `epochal reload %s "
                "--config …` replaces it",
                plugin,
                plugin,
            )


def _load_all(rt: Runtime, artifacts: Sequence[Artifact], configs: Mapping[str, Config]) -> None:
    broken = None
    try:
        with rt.change(reason="serve: start") as change:
            for artifact in artifacts:
                change.load(artifact, config=_config_of(artifact, configs))
    except PluginError as error:
        broken = str(error), error.plugin, error.code
    if broken is not None:  # out of the error's frames, which may be a plugin's
        message, plugin, code = broken
        failed = HostError(
            f"{message}; `epochal check {_path_of(plugin, artifacts)}` lists all faults"
        )
        failed.code = code  # the plugin's fault, without its frames
        raise failed


def _config_of(artifact: Artifact, configs: Mapping[str, Config]) -> Config | None:
    from epochal.artifact import read_manifest

    try:
        return configs.get(read_manifest(artifact).id)
    except ManifestError:
        return None  # the change raises it


def _path_of(plugin: str | None, artifacts: Sequence[Artifact]) -> str:
    """The path of a plugin; without an id, of the first plugin whose manifest is wrong."""
    from epochal.artifact import read_manifest

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
    make_watcher: Callable[[Runtime], Watcher] | None,
    root_path: str = "",
) -> None:
    from epochal.server import Access
    from epochal.server.security import authorities_of
    from epochal.server.serve import end, run

    with ExitStack() as failing, ExitStack() as watching:
        failing.callback(end, service)
        if make_watcher is not None:
            watching.enter_context(make_watcher(service.runtime))
        access = Access(
            authorities=authorities_of(sock, names),
            admin_token=tokens.admin,
            query_token=tokens.query,
            root_path=root_path,
        )
        failing.pop_all()  # from here on, `run` ends it
        is_over = run(service, access, sock, on_ready=lambda: _announce(sock, tokens, root_path))
    if not is_over:
        # Plugin code that does not return is still running; waiting for it could take for ever, and
        # an engine's thread that is in Python when the interpreter exits aborts the process.
        sys.stdout.flush()
        logging.shutdown()
        os._exit(_FAILED)


def _watcher(folder: Path, runtime: Runtime, **options: Any) -> Watcher:
    from epochal.watch import Watcher

    return Watcher(runtime, folder, **options)


def _announce(sock: socket.socket, tokens: Tokens, root_path: str) -> None:
    from epochal.server.serve import url_of

    url = f"{url_of(sock)}{root_path}"
    print(f"Epochal serves at {url}")
    link = f"The page, with the right to change plugins: {url}/#token={tokens.admin}"
    if not tokens.is_generated:
        print(f"The page: {url}/ (it asks for the admin token before a change)")
    elif sys.stdout.isatty():
        print(link)
    else:
        # Output that is kept in a file or a journal is no place for a token.
        print(f"The page: {url}/ (to change plugins, set EPOCHAL_ADMIN_TOKEN, or --token-file)")
        if sys.stderr.isatty():
            print(link, file=sys.stderr)
    sys.stdout.flush()
