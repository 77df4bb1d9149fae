"""Progress and logs of a tool, from its thread to the client, in order and before the result."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcp.server.session import ServerSession

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.context import ServerRequestContext

    from epochal.kinds.tool_call import LogLevel

MAX_WAITING: Final = 256
"""Reports that wait for a slow client; the oldest are dropped beyond that."""

LOG_LEVEL: Final = "epochal log level"
LEVELS: Final = (
    *("debug", "info", "notice", "warning"),
    *("error", "critical", "alert", "emergency"),
)

# The SDK warns of its use at every call; both protocol versions have it.
_send_log: Final = inspect.unwrap(ServerSession.send_log_message)


class Reporter:
    """Reports what one call says to its caller.

    ``_waiting`` and ``_sender`` are the event loop's; a tool's thread only posts to the loop.

    Args:
        ctx: the request.
        level: the lowest level of logs that the client wants; None for all.
    """

    def __init__(self, ctx: ServerRequestContext[Any, Any], level: str | None) -> None:
        self._session: Final = ctx.session
        self._request: Final = ctx.request_id
        self._lowest: Final = LEVELS.index(level) if level in LEVELS else 0
        self._loop: Final = asyncio.get_running_loop()
        self._waiting: Final[deque[Callable[[], Awaitable[None]]]] = deque(maxlen=MAX_WAITING)
        self._sender: asyncio.Task[None] | None = None

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Send progress, if the client asked for it."""
        self._post(partial(self._session.report_progress, done, total, message))

    def log(self, level: LogLevel, text: str) -> None:
        """Send a line of the log, if the client wants that level."""
        if LEVELS.index(level) >= self._lowest:
            related = None if self._request is None else str(self._request)
            send = partial(_send_log, self._session, level, text, "epochal", related)
            self._post(send)

    async def flush(self) -> None:
        """Wait until everything that was reported is sent."""
        if self._sender is not None:
            await self._sender

    def _post(self, send: Callable[[], Awaitable[None]]) -> None:
        self._loop.call_soon_threadsafe(self._enqueue, send)

    def _enqueue(self, send: Callable[[], Awaitable[None]]) -> None:
        self._waiting.append(send)
        if self._sender is None or self._sender.done():
            self._sender = self._loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            await self._waiting.popleft()()
