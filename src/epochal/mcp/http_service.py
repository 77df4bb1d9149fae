"""A server of its own over streamable HTTP, at `/mcp`.

Any page in a browser on this machine can reach loopback, and a tool may do anything: so the SDK
checks `Host` and `Origin`, and beyond loopback a token is needed (`Authorization: Bearer …`).
"""

from __future__ import annotations

import hmac
import ipaddress
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH: Final = "/mcp"
_REFUSED: Final = b"this server needs its token: Authorization: Bearer ...\n"


class Bearer:
    """Lets a request through that has the token.

    Args:
        app: the application.
        token: the token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app: Final = app
        self._token: Final = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse."""
        if scope["type"] == "http" and not self._has_token(scope):
            headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSED})
            return
        await self._app(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        given = next((v for name, v in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_app(
    server: Server[Any], *, host: str = "127.0.0.1", names: Sequence[str] = (), token: str | None
) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        server: the server.
        host: the address to listen on.
        names: further names that clients use for it.
        token: that every request must have; None for none, on loopback alone.

    Raises:
        HostError: beyond loopback there is no token.
    """
    if token is None and not is_loopback(host):
        raise HostError(
            f"on {host} others can call the tools: give a token, or listen on 127.0.0.1"
        )
    known = ["127.0.0.1", "localhost", "[::1]", host, *names]
    hosts = [pattern for name in known for pattern in (name, f"{name}:*")]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in hosts]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH, transport_security=security, host=host
    )
    return app if token is None else Bearer(app, token)


class _HttpServer(uvicorn.Server):
    """A uvicorn server that says when it is ready, and leaves its caller the end of the process."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], object]) -> None:
        super().__init__(config)
        self._on_ready: Final = on_ready

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen, then call `on_ready` with the address."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal. uvicorn raises it again at the end, before plugins are shut down."""
        stops = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in stops}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve_http(
    app: ASGIApp, host: str, port: int, *, on_ready: Callable[[str], object], stop_s: float = 3.0
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: as `http_app` made it.
        host: the address to listen on.
        port: the port; 0 picks a free one.
        on_ready: is called with the address of the server.
        stop_s: seconds for running requests at the end.

    Raises:
        HostError: the port is taken.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(stop_s)),
    )
    server = _HttpServer(config, on_ready)
    try:
        server.run()
    except SystemExit:
        raise HostError(f"cannot listen on {host}:{port}; --port 0 picks a free port") from None
