"""Answers to requests whose body nobody read.

A refusal is known before the body is read, and often should be: what is too large is not to be read
first. But a connection that is closed with bytes unread is *reset*, and a reset overtakes the
answer: the client sees "connection reset" where it should see what was wrong. So the answer is
sent, and its end held back while what still comes is dropped, for a while (RFC 9112, 9.6; the
"lingering close" of web servers).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST_S: Final = 5.0
"""For so long at most; whoever still sends then has had the answer for that long."""


class Lingering:
    """ASGI middleware that has clients see every answer, also where their body was not read.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on everything but the end of an answer, which waits for the body's."""
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def reading() -> Message:
            nonlocal is_read
            message = await receive()
            # Also where the client went away: nothing comes any more.
            is_read = not message.get("more_body", False)
            return message

        async def answering(message: Message) -> None:
            is_end = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_end and not is_read:
                await send({**message, "more_body": True})
                await drop()
                message = {"type": "http.response.body"}
            await send(message)

        async def drop() -> None:
            try:
                async with asyncio.timeout(_LONGEST_S):
                    while not is_read:
                        await reading()
            except TimeoutError:
                return

        await self._app(scope, reading, answering)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
