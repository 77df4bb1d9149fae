"""Running the service until a stop signal, and ending it in order.

1. The listening socket is opened first, so that the address is known and true when it is printed.
2. A stop signal: new requests are refused, the streams of events end, running requests end within
   the limit and are cancelled and answered after it. Signals are counted until the process ends
   (`epochal.server.shutdown`).
3. Jobs begin no tick any more, and running ticks are waited for, with the writing of positions.
4. The database stops what still runs and waits for the engine: a process that exits while a
   plugin's function runs on one of the engine's threads would abort.
5. The runtime shuts its plugins down, dependents first.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from epochal.errors import HostError
from epochal.server.app import create_app
from epochal.server.connection import Connection, default_max_connections
from epochal.server.problem_details import logger
from epochal.server.shutdown import StopSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from epochal.server.security import Access
    from epochal.server.state import ServiceLimits, ServiceState

_KEEP_ALIVE_S: Final = 30
_BACKLOG: Final = 128
_LOG_EVERY_S: Final = 60.0


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 picks a free one.

    Raises:
        HostError: it cannot be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Accepted sockets inherit the protocol, and asyncio turns Nagle's algorithm off only where it
    # is named: with the default 0 every answer on a kept connection was 43 ms late.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise HostError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free port"
        ) from error
    return sock


def listen_locally(path: Path) -> socket.socket:
    """Open a listening Unix socket that its owner alone may use.

    A socket that an earlier process left there is replaced, unless a process still answers on it.

    Raises:
        HostError: it cannot be opened.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _check_unused(path)
            path.unlink()
        old = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(old)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise HostError(f"cannot listen on {path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _check_unused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise HostError(f"another process listens on {path}")


def url_of(sock: socket.socket) -> str:
    """The address of a listening socket as a person types it.

    The address for all of the machine's interfaces is shown as loopback's.
    """
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def run(
    service: ServiceState,
    access: Access,
    sock: socket.socket,
    *,
    on_ready: Callable[[], object],
) -> bool:
    """Serve until a stop signal; closes the jobs, the database and the runtime.

    Args:
        service: the runtime and database to serve.
        access: the tokens, and the names that the service is known by.
        sock: listens.
        on_ready: called when requests are answered.

    Returns:
        Whether everything ended in order; False where a plugin's function did not return.
    """
    with StopSignals() as stop, _rare_full_collections():
        try:
            asyncio.run(serve(service, access, sock, on_ready=on_ready, stop=stop))
        finally:
            is_over = end(service)
        return is_over


@contextmanager
def _rare_full_collections() -> Iterator[None]:
    """Collect all of the heap a tenth as often, inside this block.

    A full collection stops every thread for 50 ms, beside the engine's modules. Under 64
    connections the interpreter began one every two seconds, since what their queries hold at the
    moment of a young collection counts as new: that was the p99 of the answers. Queries leave no
    garbage to collect, and a change that has to wait collects by itself.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, old * 10)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)


async def serve(
    service: ServiceState,
    access: Access,
    sock: socket.socket,
    *,
    on_ready: Callable[[], object],
    stop: StopSignals | None = None,
) -> None:
    """Serve until a stop signal or the task's cancellation; closes nothing but the socket."""
    config = uvicorn.Config(
        create_app(service, access),
        uds=sock.getsockname() if sock.family == socket.AF_UNIX else None,
        http=_connection_class(service.limits),
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(service.limits.stop_s)),
    )
    asyncio.get_running_loop().set_exception_handler(AcceptFaults())
    server = _Server(config, service, on_ready, stop or StopSignals())
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True  # in order, as after a signal
        await serving
        raise


def _connection_class(limits: ServiceLimits) -> type[Connection]:
    class LimitedConnection(Connection):
        max_connections = (
            default_max_connections() if limits.connections is None else limits.connections
        )

    return LimitedConnection


class AcceptFaults:
    """A loop's exception handler that logs once a minute that no connection can be accepted.

    asyncio logs each attempt, a hundred times a second.
    """

    def __init__(self) -> None:
        self._logged_at = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error that asyncio reports."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and "accept" in str(context.get("message"))):
            loop.default_exception_handler(context)
        elif loop.time() - self._logged_at > _LOG_EVERY_S:
            self._logged_at = loop.time()
            logger.error("no connection can be accepted: %s", error)


def end(service: ServiceState) -> bool:
    """Close jobs and streams, the database, then the runtime; returns whether nothing still runs.

    Plugins' calls that still run are named in the log.
    """
    limit = service.limits.stop_s
    # In this order: a tick may query, a query uses plugins.
    is_quiet = service.jobs is None or service.jobs.close(limit)
    is_quiet = _end_streams(service, limit) and is_quiet
    is_idle = service.database.close(limit)
    cutover = service.runtime.close(drain_timeout=limit)
    is_over = is_quiet and is_idle and (cutover is None or cutover.drained)
    if not is_over:
        holders = "; ".join(map(str, cutover.holders if cutover is not None else ()))
        logger.error("a plugin's code did not return in time: %s", holders or "no holder was found")
    return is_over


def _end_streams(service: ServiceState, limit: float) -> bool:
    if service.streams is None:
        return True
    try:
        service.streams.close(limit)
    except ExceptionGroup as group:
        for error in group.exceptions:
            logger.error("%s", error)
        return False
    return True


class _Server(uvicorn.Server):
    """A uvicorn server with the service's beginning and end."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: ServiceState,
        on_ready: Callable[[], object],
        stop: StopSignals,
    ) -> None:
        super().__init__(config)
        self._stop: Final = stop
        self._service: Final = service
        self._on_ready: Final = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, then call `on_ready`."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests, then wait for the running ones."""
        # First: a stream of events ends only by this, and uvicorn waits for every answer.
        self._service.stop()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Return, ten times a second, whether the server is to stop."""
        return await super().on_tick(counter) or self._stop.is_requested

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `StopSignals` counts signals, for longer than the server runs."""
        yield
