"""Running the service until it is told to stop, and ending it in order.

1. The listening socket is opened first, so that the address is known, and what it says is true when
   it is printed.
2. SIGINT or SIGTERM: nothing new is let in, followers of the events are let go, requests under way
   end within the limit and are cancelled after it, and told so. Signals are heard until the end
   (`epochal.server.shutdown`).
3. Jobs begin no tick any more, and those that run are waited for; so is the writing of positions.
4. The database stops what still runs and waits for the engine: leaving the process while a plugin's
   function runs on one of its threads would abort it.
5. The runtime shuts its plugins down, dependents first.
"""

from __future__ import annotations

import asyncio
import math
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from epochal.errors import HostError
from epochal.server.app import create_app
from epochal.server.connection import Connection, most_connections
from epochal.server.problem_details import logger
from epochal.server.shutdown import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal.server.security import Access
    from epochal.server.state import Limits, Service

_KEEP_ALIVE_S: Final = 30
_BACKLOG: Final = 128
_TELL_EVERY_S: Final = 60.0


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 picks a free one.

    Raises:
        HostError: it cannot be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Accepted sockets inherit the protocol, and asyncio lets what they send go at once only where
    # it is named: with the default 0 every answer on a kept connection was 43 ms late.
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


def url_of(sock: socket.socket) -> str:
    """The address of a listening socket as a person types it.

    One for all of the machine's addresses is told as loopback's.
    """
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def run(
    service: Service,
    access: Access,
    sock: socket.socket,
    *,
    on_ready: Callable[[], object],
) -> bool:
    """Serve until a signal comes; closes the jobs, the database and the runtime.

    Args:
        service: what is served.
        access: who is let in.
        sock: where, listening.
        on_ready: called when requests are answered.

    Returns:
        Whether everything ended in order, and not a plugin's function that did not return.
    """
    with Stop() as stop:
        try:
            asyncio.run(serve(service, access, sock, on_ready=on_ready, stop=stop))
        finally:
            is_over = end(service)
        return is_over


async def serve(
    service: Service,
    access: Access,
    sock: socket.socket,
    *,
    on_ready: Callable[[], object],
    stop: Stop | None = None,
) -> None:
    """Serve until it is told to stop or the task is cancelled; closes nothing but the socket."""
    config = uvicorn.Config(
        create_app(service, access),
        http=_limited(service.limits),
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
    server = _Server(config, service, on_ready, stop or Stop())
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True  # in order, as after a signal
        await serving
        raise


def _limited(limits: Limits) -> type[Connection]:
    class Limited(Connection):
        most = most_connections() if limits.connections is None else limits.connections

    return Limited


class AcceptFaults:
    """Handles what a loop cannot: that no connection can be accepted is said once a minute.

    asyncio says it for each attempt, a hundred times a second.
    """

    def __init__(self) -> None:
        self._told_at = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio calls."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and "accept" in str(context.get("message"))):
            loop.default_exception_handler(context)
        elif loop.time() - self._told_at > _TELL_EVERY_S:
            self._told_at = loop.time()
            logger.error("no connection can be accepted: %s", error)


def end(service: Service) -> bool:
    """Close jobs, database, then the runtime; returns whether nothing is left running.

    What is, the log names.
    """
    limit = service.limits.stop_s
    is_quiet = service.jobs is None or service.jobs.close(limit)
    is_idle = service.database.close(limit)
    cutover = service.runtime.close(drain_timeout=limit)
    is_over = is_quiet and is_idle and (cutover is None or cutover.drained)
    if not is_over:
        who = "; ".join(cutover.holders if cutover is not None else ()) or "nobody can say who"
        logger.error("a plugin's code did not return in time: %s", who)
    return is_over


class _Server(uvicorn.Server):
    """Tells when it is ready, and ends in order."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        on_ready: Callable[[], object],
        stop: Stop,
    ) -> None:
        super().__init__(config)
        self._stop: Final = stop
        self._service: Final = service
        self._on_ready: Final = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody new in, then wait for those inside."""
        self._service.stop()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is to stop."""
        return await super().on_tick(counter) or self._stop.is_asked

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are heard by `Stop`, for longer than this runs."""
        yield
