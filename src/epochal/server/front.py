"""The service's front: one ASGI layer between the server and the routes.

It does for each request what several layers would, with one wrapper around `receive` and `send`:

1. A request that the shutdown cancels is answered 503 `stopping`.
2. A client sees every answer, also where its body was not read. A connection that is closed with
   bytes unread is *reset*, and the reset overtakes the answer. So the answer is sent, and the rest
   of the body dropped before the answer ends (RFC 9112, 9.6; web servers call it a lingering
   close).
3. The guard (`security`) refuses a request, or says which right it has.
4. Each answer has the headers that protect a browser; and below `/v1/`, where the guard let the
   request through, the current epoch, unless it names one.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Router

from epochal.server.problem_details import Problem, answer_to, problem
from epochal.server.responses import CONNECTION, EXCHANGE, abort_connection, render_fields
from epochal.server.schemas import epoch_ref
from epochal.server.security import HEADERS, Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import Message, Receive, Scope, Send

    from epochal.runtime import Runtime
    from epochal.server.connection import Connection
    from epochal.server.responses import ReadyAnswer
    from epochal.server.security import Access
    from epochal.server.state import ServiceState

    Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]

LINGER_S: Final = 5.0
"""An unread body is dropped for so long; a client that still sends then has had the answer."""

_CODES: Final = {404: "not-found", 405: "method"}


class Front:
    """The service as an ASGI application.

    Args:
        service: the state that the routes work on.
        access: the tokens, and the names that the service is known by.
        routes: answer the requests.
        lifespan: runs for as long as the application.

    Attributes:
        state: `service` and `access`, for the routes.
        routes: as given.
    """

    def __init__(
        self,
        service: ServiceState,
        access: Access,
        routes: Sequence[Route],
        lifespan: Lifespan,
    ) -> None:
        self.state: Final = SimpleNamespace(service=service, access=access)
        self.routes: Final = routes
        self._service: Final = service
        self._guard: Final = Guard(access)
        self._root: Final = access.root_path
        self._router: Final = Router(routes, redirect_slashes=False, lifespan=lifespan)
        # Most requests are for a path without parameters: one look here, and not at every route.
        self._exact: Final = {
            (method, route.path): route
            for route in routes
            if not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope["app"] = self
        if scope["type"] == "lifespan":
            await self._router(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if (root := self._root) and scope["path"] == root:
            # The page's addresses are relative to a folder.
            await RedirectResponse(f"{root}/", 308)(scope, receive, send)
            return
        if root and scope["path"].startswith(f"{root}/"):  # the proxy did not take it off
            scope["path"] = scope["path"].removeprefix(root)
        exchange = scope[EXCHANGE] = _Exchange(scope, receive, send, self._service.runtime)
        try:
            await self._answer(scope, exchange)
        except asyncio.CancelledError:
            # Only the server's stop cancels requests, when their time is over.
            if not self._service.stopping:
                raise
        else:
            return
        finally:
            del scope[EXCHANGE]  # a cycle, through the server's own record of the request
        if exchange.has_begun:
            await abort_connection(scope)
        else:
            detail = "the service is stopping, and this took longer than it waits"
            await problem(503, "stopping", detail, {"connection": "close"})(scope, receive, send)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            scope["right"] = self._guard.right_of(scope)
            exchange.shows_epoch = scope["path"].startswith("/v1/")
            route = self._exact.get((scope["method"], scope["path"]))
            if route is None or scope.get("root_path"):
                await self._router(scope, exchange.receive, exchange.send)
            else:
                scope["path_params"], scope["endpoint"] = {}, route.endpoint
                await route.app(scope, exchange.receive, exchange.send)
        except (Problem, HTTPException) as refused:
            await _refusal(scope, refused)(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.has_begun:
                raise  # the server logs it, and closes the connection
            await answer_to(error)(scope, exchange.receive, exchange.send)


def _refusal(scope: Scope, refused: Problem | HTTPException) -> Response:
    """A refusal by the guard or the router in the service's form."""
    if isinstance(refused, Problem):
        return answer_to(refused)
    code = _CODES.get(refused.status_code, "http")
    detail = f"{scope['method']} {scope['path']}: {refused.detail}"
    return problem(refused.status_code, code, detail, refused.headers)


class _Exchange:
    """One request and its answer.

    Attributes:
        has_begun: whether the answer has begun.
        shows_epoch: whether the answer names the current epoch.
    """

    __slots__ = (
        "_connection",
        "_head",
        "_is_read",
        "_receive",
        "_runtime",
        "_send",
        "has_begun",
        "shows_epoch",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, runtime: Runtime) -> None:
        self._receive: Final = receive
        self._send: Final = send
        self._runtime: Final = runtime
        self._is_read = not _has_body(scope["headers"])
        self._head: Message | None = None  # of an answer whose body comes in a moment
        is_head = scope["method"] == "HEAD"  # has a length, and no body
        self._connection: Final[Connection | None] = None if is_head else scope.get(CONNECTION)
        self.has_begun = False
        self.shows_epoch = False

    def take_body(self) -> bytes | None:
        """The request's body if all of it is there; None if it has yet to be received."""
        if self._is_read or self._connection is None:
            return None
        body = self._connection.take_body()
        self._is_read = body is not None
        return body

    def write_ready(self, answer: ReadyAnswer) -> bool:
        """Write an answer in one piece; False where that is not possible now."""
        if not self._is_read or self.has_begun or self._connection is None:
            return False
        self.has_begun = self._connection.write_whole(200, answer.head.rendered, answer.body)
        return self.has_begun

    async def receive(self) -> Message:
        """What the client sends."""
        message = await self._receive()
        # A disconnect has no `more_body` either: nothing comes after it.
        self._is_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send on; the end of an answer waits for the end of the request's body."""
        self.has_begun = True
        if message["type"] == "http.response.start":
            message["headers"] = self._with_headers(message["headers"])
            if self._connection is not None and any(
                name == b"content-length" for name, _ in message["headers"]
            ):
                self._head = message
                return
        elif self._head is not None and await self._send_with_head(message):
            return
        elif not self._is_read and not message.get("more_body", False):
            # The answer first, then the rest of the body, then the answer's end: with the end
            # first the server would close the connection, and the reset overtakes the answer.
            await self._send({**message, "more_body": True})
            await self._drop_body()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _send_with_head(self, message: Message) -> bool:
        """Send the head; whether the body was sent with it, in one piece."""
        head, self._head = self._head, None
        assert head is not None
        assert self._connection is not None
        if self._is_read and not message.get("more_body", False):
            body = message.get("body", b"")
            length = b"%d" % len(body)
            fields = [field for field in head["headers"] if field != (b"content-length", length)]
            # Another length than the body's: the server has an error for that.
            has_length = len(fields) < len(head["headers"])
            if has_length and self._connection.write_whole(
                head["status"], render_fields(fields), body
            ):
                return True
        await self._send(head)
        return False

    def _with_headers(self, given: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name for name, _ in given}
        headers = [*given, *(header for header in HEADERS if header[0] not in names)]
        if self.shows_epoch and b"epochal-epoch" not in names:
            epoch = epoch_ref(self._runtime.epoch)
            headers.append((b"epochal-epoch", str(epoch.number).encode()))
            headers.append((b"epochal-epoch-id", epoch.id.encode()))
        return headers

    async def _drop_body(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while not self._is_read:
                    await self.receive()
        except TimeoutError:
            return


def _has_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False
