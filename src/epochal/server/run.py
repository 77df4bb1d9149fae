"""Running the service until it is told to stop, and ending it in order.

1. The listening socket is opened first, so that the address is known, and what it says is true when
   it is printed.
2. SIGINT or SIGTERM: nothing new is let in, followers of the events are let go, requests under way
   end within the limit and are cancelled after it.
3. Jobs begin no tick any more, and those that run are waited for; so is the writing of positions.
4. The database stops what still runs and waits for the engine: leaving the process while a plugin's
   function runs on one of its threads would abort it.
5. The runtime shuts its plugins down, dependents first.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

from epochal.errors import HostError
from epochal.server.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal.server.security import Access
    from epochal.server.service import Service

_KEEP_ALIVE_S: Final = 30
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 picks a free one.

    Raises:
        HostError: it cannot be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise HostError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free port"
        ) from error


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
    try:
        asyncio.run(serve(service, access, sock, on_ready=on_ready))
    finally:
        is_over = end(service)
    return is_over


async def serve(
    service: Service, access: Access, sock: socket.socket, *, on_ready: Callable[[], object]
) -> None:
    """Serve until a signal comes or the task is cancelled; closes nothing but the socket."""
    config = uvicorn.Config(
        create_app(service, access),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(service.limits.stop_s)),
    )
    server = _Server(config, service, on_ready)
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True  # in order, as after a signal
        await serving
        raise


def end(service: Service) -> bool:
    """Close jobs, database, then the runtime; returns whether nothing is left running."""
    limit = service.limits.stop_s
    is_quiet = service.jobs is None or service.jobs.close(limit)
    is_idle = service.database.close(limit)
    cutover = service.runtime.close(drain_timeout=limit)
    return is_quiet and is_idle and (cutover is None or cutover.drained)


class _Server(uvicorn.Server):
    """Tells when it is ready, and ends in order."""

    def __init__(
        self, config: uvicorn.Config, service: Service, on_ready: Callable[[], object]
    ) -> None:
        super().__init__(config)
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

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and leave it at that: the process has more to end than this."""
        loop = asyncio.get_running_loop()
        try:
            for one in _SIGNALS:
                loop.add_signal_handler(one, self.handle_exit, one, None)
        except (RuntimeError, ValueError, NotImplementedError):
            # Not the main thread (or not a system with these): whoever runs this stops it.
            yield
            return
        try:
            yield
        finally:
            for one in _SIGNALS:
                loop.remove_signal_handler(one)
