"""Each request on one epoch: middleware for FastAPI, Starlette and every other ASGI application.

::

    app = FastAPI()
    app.add_middleware(EpochMiddleware, runtime=rt)

    PinnedEpoch = Annotated[Operation, Depends(epoch)]     # Starlette: `epoch(request)`

    @app.get("/price")
    async def price(pinned: PinnedEpoch, amount: float) -> float:
        return pinned[rule]["pricing.quote"](amount)

A request is pinned from its first line to its last byte, streaming responses, background tasks and
websockets included. It sees one version of every plugin, across any number of reloads, and an old
version is shut down after the last request that uses it. Until then the request is listed as a
holder of that version: ``GET /price``. Needs no other package.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal.errors import NoEpochError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from epochal import Operation
    from epochal.runtime import Runtime

    # ASGI's own protocol (https://asgi.readthedocs.io/en/latest/specs/main.html).
    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

    class HTTPConnection(Protocol):
        """A request or websocket: Starlette's, FastAPI's, or any object with a `scope`."""

        @property
        def scope(self) -> Scope:
            """ASGI's own description of it."""
            ...
else:
    # FastAPI reads the annotation of a dependency when it is declared: it passes the request.
    try:
        from starlette.requests import HTTPConnection
    except ImportError:
        HTTPConnection = object

HEADER: Final = b"epochal-epoch"
_STOPPED: Final = b"this request was asked to stop: code that it used has been replaced\n"


def epoch(request: HTTPConnection) -> Operation:
    """The epoch of a request or websocket, as `EpochMiddleware` pinned it.

    Also a dependency of FastAPI: `Annotated[Operation, Depends(epoch)]`.

    Args:
        request: of Starlette or FastAPI, or any object with ASGI's `scope`.

    Raises:
        NoEpochError: the application has no `EpochMiddleware`.
    """
    operation: Operation | None = request.scope.get("state", {}).get("epoch")
    if operation is None:
        raise NoEpochError(
            f"this request of {request.scope.get('path', '')!r} has no epoch: "
            "app.add_middleware(EpochMiddleware, runtime=rt)"
        )
    return operation


class EpochMiddleware:
    """Pins one epoch for each request and websocket: `epoch(request)`, `request.state.epoch`.

    It is an `Operation`: `request.state.epoch[kind]["plugin.name"]` looks an export up, and
    `narrow` releases the plugins that the request does not need. A websocket that lives for days
    may end its operation, `websocket.state.epoch.end()`, and begin one for each message.

    When a change with `cancel_holders=True` reaches its drain timeout, the requests that delay it
    are cancelled. A client that has received nothing yet gets a 503 with the reason.

    Args:
        app: the application.
        runtime: has the epochs.
        header: whether responses carry their epoch's number in `Epochal-Epoch`.
    """

    __slots__ = ("_app", "_header", "_runtime")

    def __init__(self, app: App, runtime: Runtime, *, header: bool = True) -> None:
        self._app: Final = app
        self._runtime: Final = runtime
        self._header: Final = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket in its operation; any other scope as it is."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WS")
        with self._runtime.operation(f"{method} {scope['path']}") as operation:
            # A copy: the server has one state for all requests.
            state = {**scope.get("state", {}), "epoch": operation}
            await self._serve({**scope, "state": state}, receive, send, operation)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, operation: Operation
    ) -> None:
        is_started = False
        number = str(operation.number).encode()

        async def send_numbered(message: Message) -> None:
            nonlocal is_started
            is_started = True
            if self._header and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, number)]
            await send(message)

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        # The change calls this in its own thread.
        operation.on_cancel(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await self._app(scope, receive, send_numbered)
        except asyncio.CancelledError:
            if not operation.cancelled or task.uncancel():
                raise  # the server or the application cancels this task too
            if not is_started:
                await _send_stopped(scope["type"], send)


async def _send_stopped(kind: str, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1012})  # service restart
        return
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_STOPPED)).encode()),
        (b"retry-after", b"0"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _STOPPED})
