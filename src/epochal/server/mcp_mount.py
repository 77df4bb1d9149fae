"""`/mcp`: the plugins' tools for MCP clients, behind the service's own guard.

The guard has looked at host, origin and token before a request comes here. Calls of tools need the
right of queries, which call plugins' functions as well; a tool that its plugin marks destructive
needs the right of changes. The right is that of the request, and not of its session. The MCP
library is imported at the first request, so a service without such clients pays nothing, and needs
not have it installed.

All of it belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from epochal.server.problem_details import Problem, answer_to
from epochal.server.security import Right

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.types import Receive, Scope, Send

    from epochal.mcp import Attachment
    from epochal.server.state import ServiceState
    from epochal.tools import ToolFacts

PATH: Final = "/mcp"
METHODS: Final = ("GET", "POST", "DELETE")


class McpMount:
    """An ASGI application: streamable HTTP for MCP clients.

    Args:
        service: has the plugins.
    """

    def __init__(self, service: ServiceState) -> None:
        self._service: Final = service
        self._starting: asyncio.Task[StreamableHTTPSessionManager] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._attachment: Attachment | None = None
        self._is_over: Final = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._service.check_serving()
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
            manager = await asyncio.shield(self._starting)
        except Problem as refused:
            await answer_to(refused)(scope, receive, send)
            return
        await manager.handle_request(scope, receive, send)

    async def _start(self) -> StreamableHTTPSessionManager:
        try:
            parts = await asyncio.to_thread(_import)
        except ImportError as error:
            self._starting = None
            text = (
                f"tools for MCP clients need the extra 'mcp': pip install 'epochal[mcp]' ({error})"
            )
            raise Problem(501, "mcp", text) from None
        server_class, manager_class, attach = parts
        server = server_class("epochal", version=version("epochal"))
        # No old version is held for clients: each change would wait for it to drain.
        self._attachment = attach(server, self._service.runtime, stale="error", refuse=_refusal)
        manager: StreamableHTTPSessionManager = manager_class(app=server)
        started = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(manager, started))
        await started.wait()
        return manager

    async def _serve(self, manager: StreamableHTTPSessionManager, started: asyncio.Event) -> None:
        async with manager.run():
            started.set()
            await self._is_over.wait()

    def stop(self) -> None:
        """End the sessions and their streams, which would be waited for otherwise. Idempotent."""
        self._is_over.set()
        if self._attachment is not None:
            self._attachment.close()

    async def aclose(self) -> None:
        """Wait for the end of the sessions."""
        self.stop()
        if self._serving is not None:
            with suppress(asyncio.CancelledError):
                await self._serving


def _refusal(ctx: ServerRequestContext[Any, Any], facts: ToolFacts) -> str | None:
    """Why a request may not call a tool; None if it may."""
    if not facts.hints.get("destructive"):
        return None
    request = ctx.request
    if request is not None and request.scope["right"] >= Right.CHANGE:
        return None
    return f"{facts.name} is marked destructive: it needs the admin token; it was not called"


def _import() -> tuple[Any, Any, Any]:
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from epochal.mcp import attach

    return Server, StreamableHTTPSessionManager, attach
