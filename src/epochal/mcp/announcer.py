"""The sessions of a server, and their notifications that a list has changed.

A change that a client can see is announced once to each session, after it is published. In the
protocol up to 2025-11-25 a server notifies each session. From 2026-07-28 on a client asks for it by
`subscriptions/listen`, and the server publishes on its bus. A client that reads nothing has a
bounded number of notifications waiting; more would tell it no more.

Which thread writes: ``_sessions`` and ``_loop`` are written by the event loop that serves the
session. A change's thread copies the sessions, in one step, and posts to their loops.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import mcp_types as types
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ToolsListChanged,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.session import ServerSession
    from mcp.server.subscriptions import ServerEvent, SubscriptionBus

MAX_WAITING: Final = 64

_EVENTS: Final[dict[str, ServerEvent]] = {
    "tools": ToolsListChanged(),
    "resources": ResourcesListChanged(),
    "prompts": PromptsListChanged(),
}
_LISTEN: Final = "subscriptions/listen"


class _Session:
    """A session of the older protocol, which is notified by itself."""

    def __init__(self, session: ServerSession) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self._session: Final = session
        self._sending: Final[set[asyncio.Task[None]]] = set()

    def notify(self, lists: Collection[str]) -> None:
        for name in lists:
            if len(self._sending) < MAX_WAITING:
                task = self.loop.create_task(self._send(name))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def _send(self, name: str) -> None:
        if name == "tools":
            await self._session.send_tool_list_changed()
        elif name == "resources":
            await self._session.send_resource_list_changed()
        else:
            await self._session.send_prompt_list_changed()


class Announcer:
    """Announces changes to all sessions of a server; a middleware of it.

    Args:
        server: the low-level server.
        bus: the bus on which the newer protocol's subscriptions listen; None for the one of the
            server's own handler, or a new one.
    """

    def __init__(self, server: Server[Any], bus: SubscriptionBus | None) -> None:
        self._sessions: Final[dict[int, _Session]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publishing: Final[set[asyncio.Task[None]]] = set()
        self._bus: Final = bus or _bus_of(server) or InMemorySubscriptionBus()
        self._listening: Final = ListenHandler(self._bus)
        if server.get_request_handler(_LISTEN) is None:
            params = types.SubscriptionsListenRequestParams
            server.add_request_handler(_LISTEN, params, self._listening)

    def close(self) -> None:
        """End the subscriptions; called on any thread."""
        if self._loop is not None:
            _post(self._loop, self._listening.close)

    @property
    def has_clients(self) -> bool:
        """Whether a client has ever asked this server for anything."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that served the last request."""
        return self._loop

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Let a message pass, and look at the beginning of sessions."""
        self._loop = asyncio.get_running_loop()
        if ctx.method == "initialize":
            return _with_list_changed(await call_next(ctx))
        if ctx.method == "notifications/initialized":
            connection = connection_of(ctx)
            key = id(connection)
            if key not in self._sessions:
                self._sessions[key] = _Session(ctx.session)
                connection.exit_stack.callback(self._sessions.pop, key, None)
        return await call_next(ctx)

    def announce(self, lists: Collection[str]) -> None:
        """Notify each session that these lists have changed; called on any thread."""
        for session in list(self._sessions.values()):
            _post(session.loop, session.notify, lists)
        if self._loop is not None:
            _post(self._loop, self._publish, lists)

    def _publish(self, lists: Collection[str]) -> None:
        task = asyncio.get_running_loop().create_task(self._publish_all(lists))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish_all(self, lists: Collection[str]) -> None:
        for name in lists:
            await self._bus.publish(_EVENTS[name])


def connection_of(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The connection of a request, with its own state.

    Not an interface of the SDK, so the extra is pinned below its next minor version.
    """
    return ctx.session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _post(loop: asyncio.AbstractEventLoop, call: Any, *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return  # the loop is closed, and its sessions with it


def _bus_of(server: Server[Any]) -> SubscriptionBus | None:
    entry = server.get_request_handler(_LISTEN)
    bus: SubscriptionBus | None = getattr(entry and entry.handler, "_bus", None)
    return bus


def _with_list_changed(result: HandlerResult) -> HandlerResult:
    """The answer to `initialize`, with the capability to notify of changed lists."""
    if isinstance(result, dict):
        capabilities = dict(result.get("capabilities") or {})
        for name in _EVENTS:
            if name in capabilities:
                capabilities[name] = {**capabilities[name], "listChanged": True}
        return {**result, "capabilities": capabilities}
    return result
