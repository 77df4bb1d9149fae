"""Requests of a component to the hosts that it was granted (`epochal:plugin/http`)."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from epochal._core.sync.watchdog import Watch, watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_BODY: Final = 1024 * 1024
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_OF_CONNECTION: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def request(
    method: str,
    url: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    may_reach: Callable[[str], bool],
    timeout: float,
) -> bytes | str:
    """Make a request; returns the body of an answer 2xx, or what went wrong. Does not raise.

    Args:
        method: of HTTP.
        url: with the scheme http or https.
        headers: those of the connection itself are the host's, and refused.
        body: may be empty.
        may_reach: whether a host was granted.
        timeout: seconds; it does not bound the look-up of the host's name.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        return f"{url!r:.200} is not a URL: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return f"{url!r:.200} is not a URL of http or https"
    if not may_reach(host):
        return f"net:{host} was not granted"
    if method not in _METHODS:
        return f"{method!r:.50} is no method; expected one of {', '.join(_METHODS)}"
    own = [name for name, _ in headers if name.lower() in _OF_CONNECTION]
    if own:
        return f"the header {own[0]!r} is the host's to set"
    cls = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = cls(host, port, timeout=max(timeout, 0.001))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.connect()
        return _answer(connection, method, path, dict(headers), body, timeout)
    except (OSError, HTTPException, ValueError, ssl.SSLError) as error:
        return f"{method} {host} failed: {error or type(error).__name__}"
    finally:
        connection.close()


def _answer(
    connection: HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    timeout: float,
) -> bytes | str:
    # The socket's own timeout is for each read: an answer could come a byte at a time.
    watch = Watch(watchdog, timeout, lambda _: _shut(connection))
    watch.begin()
    try:
        connection.request(method, path, body or None, headers)
        with connection.getresponse() as response:
            content = response.read(_MAX_BODY + 1)
            status, reason = response.status, response.reason
    finally:
        watch.end()
    # A body without a length ends where the watch cut it off.
    if monotonic() >= watch.deadline:
        return f"{method} was not answered within {timeout:g} s"
    if len(content) > _MAX_BODY:
        return f"the answer has more than {_MAX_BODY:,} bytes"
    return content if 200 <= status < 300 else f"{status} {reason}"


def _shut(connection: HTTPConnection) -> None:
    """Runs in the watchdog's thread."""
    with suppress(OSError, AttributeError):  # it was closed meanwhile
        connection.sock.shutdown(socket.SHUT_RDWR)
