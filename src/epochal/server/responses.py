"""Bringing an answer to its client, which may be slow, gone, or still sending.

Three dangers, and the means against each:

- A client that does not read would hold its query, and so the query's plugins, as long as it likes.
  Every send has a time limit; after it the connection is aborted. An answer is sent in parts that a
  connection's buffers are made for, so that a large one is not held in them a second time.
- A client that goes away leaves a query without a reader: `CancelOnDisconnect` cancels it.
- A client that is refused before its body was read may never see why. A connection that is closed
  with bytes unread is *reset*, and the reset overtakes the answer. `UnreadBodyMiddleware` sends the
  answer, and drops the rest of the body before it ends the answer (RFC 9112, 9.6; web servers call
  it a lingering close).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from epochal.errors import EpochalError
from epochal.server.problem_details import logger
from epochal.server.schemas import encode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from epochal.server.schemas import AnswerStruct

    Parts = AsyncGenerator[Any, None]

ABORT: Final = "epochal.abort"
"""The key in a request's scope, where the server sets it, of the function that ends the connection
at once, with or without its last bytes sent."""

READ_S: Final = 30.0
"""A follower of events may read nothing for so long while its buffers are full."""

LINGER_S: Final = 5.0
"""An unread body is dropped for so long; a client that still sends then has had the answer."""

_PART: Final = 1 << 18  # bytes


def json_response(
    document: AnswerStruct, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A struct as an answer."""
    return Response(encode(document), status, headers, media_type="application/json")


class CancelOnDisconnect(Response):
    """Sends what a generator yields; cancels it when its client goes away or its time is over.

    Args:
        parts: yields a whole response; or a list of headers, then the parts of the body.
        streamed_s: seconds that a streamed body may take from now on, to its last part.
        whole_s: seconds that the sending of a whole response may take.
    """

    def __init__(self, parts: Parts, *, streamed_s: float, whole_s: float) -> None:
        super().__init__()
        self._parts: Final = parts
        self._whole_s: Final = whole_s
        self._deadline: Final = asyncio.get_running_loop().time() + streamed_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        sending = asyncio.ensure_future(self._send(scope, send))
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not sending.done():
                # Cancelled, then awaited: the query lets its plugins go before this returns.
                sending.cancel()
                await asyncio.wait([sending])
        if not sending.cancelled() and not sending.result():
            await abort_connection(scope)

    async def _send(self, scope: Scope, send: Send) -> bool:
        """Whether all of it was sent."""
        try:
            head = await anext(self._parts)
            if isinstance(head, Response):
                await _send_whole(head, send, self._whole_s)
            else:
                await self._send_parts(head, send)
        except EpochalError as error:
            # The connection is aborted, so the stream has no proper end: no reader can take the
            # part that it has for the whole.
            logger.info("a query's stream broke off: [%s] %s", error.code, error)
            return False
        except TimeoutError:
            logger.info("a client of %s did not read its answer in time", scope["path"])
            return False
        finally:
            await self._parts.aclose()
        return True

    async def _send_parts(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for content in self._parts:
            async with asyncio.timeout_at(self._deadline):
                await _send_body(content, send)
        async with asyncio.timeout_at(self._deadline):
            await send({"type": "http.response.body", "body": b""})


class EventStreamResponse(StreamingResponse):
    """A stream without end, for as long as its client reads it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(READ_S):
                await send(message)

        self._scope = scope
        await super().__call__(scope, receive, send_in_time)

    async def stream_response(self, send: Send) -> None:
        """Send until the client leaves, or does not read for `READ_S`."""
        try:
            await super().stream_response(send)
        except TimeoutError:
            logger.info("a client of %s does not read it", self._scope["path"])
            await abort_connection(self._scope)


class UnreadBodyMiddleware:
    """ASGI middleware: a client sees every answer, also where its body was not read.

    Args:
        app: answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but the end of an answer, which waits for the end of the body."""
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def receive_part() -> Message:
            nonlocal is_read
            message = await receive()
            # A disconnect has no `more_body` either: nothing comes after it.
            is_read = not message.get("more_body", False)
            return message

        async def send_late_end(message: Message) -> None:
            is_end = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_end and not is_read:
                # The answer first, then the rest of the body, then the answer's end: with the end
                # first the server would close the connection, and the reset overtakes the answer.
                await send({**message, "more_body": True})
                await drop_body()
                message = {"type": "http.response.body"}
            await send(message)

        async def drop_body() -> None:
            try:
                async with asyncio.timeout(LINGER_S):
                    while not is_read:
                        await receive_part()
            except TimeoutError:
                return

        await self._app(scope, receive_part, send_late_end)


async def abort_connection(scope: Scope) -> None:
    """End a request's connection at once.

    Where the server gives no means to, it notices by itself that the answer has no end.
    """
    abort: Callable[[], None] | None = scope.get(ABORT)
    if abort is not None:
        abort()
        await asyncio.sleep(0)  # the loop's next turn tells the server's protocol of it


async def _send_whole(answer: Response, send: Send, timeout: float) -> None:
    head = {
        "type": "http.response.start",
        "status": answer.status_code,
        "headers": answer.raw_headers,
    }
    async with asyncio.timeout(timeout):
        await send(head)
        await _send_body(bytes(answer.body), send)
        await send({"type": "http.response.body", "body": b""})


async def _send_body(content: bytes, send: Send) -> None:
    for start in range(0, len(content), _PART):
        part = content[start : start + _PART]
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
