"""Each request on one epoch: middleware for FastAPI, Starlette and every other ASGI application.

::

    app = FastAPI()
    app.add_middleware(EpochMiddleware, runtime=rt)

    @app.get("/price")
    async def price(request: Request, amount: float):
        return request.state.epoch[rule]["pricing.quote"](amount)

A request is pinned from its first line to its last byte: answers that stream, background tasks and
websockets included. Whatever is reloaded meanwhile, it sees one version of every plugin, and an old
version is shut down when the last request that sees it has ended. Until then the request is named,
``GET /price``, to whoever asks what a reload waits for. Needs no other package.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from epochal._core.generation.operation import Operation
    from epochal.runtime import Runtime

    # ASGI's own protocol (https://asgi.readthedocs.io/en/latest/specs/main.html).
    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER: Final = b"epochal-epoch"
_STOPPED: Final = b"this request was asked to stop: code that it used has been replaced\n"


class EpochMiddleware:
    """Pins one epoch for each request and websocket, as `request.state.epoch`.

    What stands there is an `Operation`: `request.state.epoch[kind]["plugin.name"]` looks an export
    up, `narrow` lets go of what the request does not need. A websocket that lives for days may end
    its operation, `websocket.state.epoch.end()`, and begin one for each message.

    When a change with `cancel_holders=True` has waited long enough, the requests that hold it up
    are cancelled; a client that was sent nothing yet gets a 503 that says so.

    Args:
        app: the application.
        runtime: whose epochs.
        header: whether answers say their epoch's number in `Epochal-Epoch`.
    """

    __slots__ = ("_app", "_header", "_runtime")

    def __init__(self, app: App, runtime: Runtime, *, header: bool = True) -> None:
        self._app: Final = app
        self._runtime: Final = runtime
        self._header: Final = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WS")
        with self._runtime.operation(f"{method} {scope['path']}") as operation:
            # A copy: the server's own state is one for all requests.
            state = {**scope.get("state", {}), "epoch": operation}
            await self._serve({**scope, "state": state}, receive, send, operation)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, operation: Operation
    ) -> None:
        begun = False
        number = str(operation.number).encode()

        async def told(message: Message) -> None:
            nonlocal begun
            begun = True
            if self._header and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, number)]
            await send(message)

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        # Asked in the thread of the change that waits.
        operation.on_cancel(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await self._app(scope, receive, told)
        except asyncio.CancelledError:
            if not operation.cancelled or task.uncancel():
                raise  # somebody else wants this task to end
            if not begun:
                await _answer_stopped(scope["type"], send)


async def _answer_stopped(kind: str, send: Send) -> None:
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
