"""Sending an answer that may be large, to a client that may not read it or may go away.

A client that is there and does not read would hold its query, and so its plugins, for as long as it
likes: every send has a time limit, and whoever lets it pass is cut off. What is sent goes in parts
of a size that a connection's buffers are made for, so that a large answer is not held a second time
in them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse

from epochal.errors import EpochalError
from epochal.server.problem_details import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.types import Message, Receive, Scope, Send

    Parts = AsyncGenerator[Any, None]

ABORT: Final = "epochal.abort"
"""In a request's scope, where the server can: what ends its connection at once, unsent or not."""

READ_S: Final = 30.0
"""For so long a follower may read nothing, when more is there than fits between it and us."""

_PART: Final = 1 << 18


class CancelOnDisconnect(Response):
    """Sends what an iterator gives; ends with the client, and with its time.

    Args:
        parts: gives a whole response; or a list of headers, then the body's parts.
        seconds: how long a streamed body may take from now on, to its last part; and how long the
            sending of a whole response may.
    """

    def __init__(self, parts: Parts, *, streamed_s: float, whole_s: float) -> None:
        super().__init__()
        self._parts: Final = parts
        self._whole_s: Final = whole_s
        self._deadline: Final = asyncio.get_running_loop().time() + streamed_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        sending = asyncio.ensure_future(self._send(scope, send))
        gone = asyncio.ensure_future(_client_gone(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not sending.done():
                sending.cancel()
                await asyncio.wait([sending])
        if not sending.cancelled() and not sending.result():
            await cut_off(scope)

    async def _send(self, scope: Scope, send: Send) -> bool:
        """Whether all of it was sent."""
        try:
            head = await anext(self._parts)
            if isinstance(head, Response):
                await _send_whole(head, send, self._whole_s)
            else:
                await self._send_parts(head, send)
        except EpochalError as error:
            # The stream breaks off without its end, which no reader can take for one.
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

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(READ_S):
                await send(message)

        self._scope = scope
        await super().__call__(scope, receive, patiently)

    async def stream_response(self, send: Send) -> None:
        """Send until the client leaves, or does not read for a while."""
        try:
            await super().stream_response(send)
        except TimeoutError:
            logger.info("a client of %s does not read it", self._scope["path"])
            await cut_off(self._scope)


async def _send_whole(answer: Response, send: Send, seconds: float) -> None:
    head = {
        "type": "http.response.start",
        "status": answer.status_code,
        "headers": answer.raw_headers,
    }
    async with asyncio.timeout(seconds):
        await send(head)
        await _send_body(bytes(answer.body), send)
        await send({"type": "http.response.body", "body": b""})


async def _send_body(content: bytes, send: Send) -> None:
    for start in range(0, len(content), _PART):
        part = content[start : start + _PART]
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def cut_off(scope: Scope) -> None:
    """End a request's connection at once; where the server cannot, it sees the answer's lack."""
    abort: Callable[[], None] | None = scope.get(ABORT)
    if abort is not None:
        abort()
        await asyncio.sleep(0)  # the server learns of it by then


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
