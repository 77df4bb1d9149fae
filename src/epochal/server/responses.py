"""Bringing an answer to its client, which may be slow, gone, or still sending.

Two dangers, and the means against each (a third, of bodies that are not read, in `front`):

- A client that does not read would hold its query, and so the query's plugins, as long as it likes.
  Every send has a time limit; after it the connection is aborted. An answer is sent in parts that a
  connection's buffers are made for, so that a large one is not held in them a second time.
- A client that goes away leaves a query without a reader: `CancelOnDisconnect` cancels it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from starlette.responses import Response, StreamingResponse

from epochal.errors import EpochalError
from epochal.server.problem_details import logger
from epochal.server.schemas import encode
from epochal.sql.coarse_timers import TimeLimit, call_later

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from epochal.server.schemas import AnswerStruct

    Parts = AsyncGenerator[Any, None]

T = TypeVar("T")

ABORT: Final = "epochal.abort"
"""The key in a request's scope, where the server sets it, of the function that ends the connection
at once, with or without its last bytes sent."""

CONNECTION: Final = "epochal.connection"
"""The key, where the server sets it, of the `epochal.server.connection.Connection`."""

EXCHANGE: Final = "epochal.exchange"
"""The key of the request's `Exchange`, until it is answered."""

READ_S: Final = 30.0
"""A follower of events may read nothing for so long while its buffers are full."""

_PART: Final = 1 << 18  # bytes

_WATCHED_AFTER_S: Final = 0.05


class Exchange(Protocol):
    """One request and its answer; `epochal.server.front` has it."""

    def take_body(self) -> bytes | None:
        """The request's body if all of it is there; None if it has yet to be received."""
        ...

    def write_ready(self, answer: ReadyAnswer) -> bool:
        """Write an answer in one piece; False where that is not possible now."""
        ...


def json_response(
    document: AnswerStruct, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A struct as an answer."""
    return Response(encode(document), status, headers, media_type="application/json")


class ReadyHead:
    """The fields of the head of answers that differ in their bodies alone, made into text once.

    Args:
        fields: all of them but the length of the body.

    Attributes:
        fields: as given.
        rendered: as they are sent; None where the server has to find the bad one.
    """

    __slots__ = ("fields", "rendered")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self.fields: Final = tuple(fields)
        self.rendered: Final = render_fields(self.fields)


class ReadyAnswer(NamedTuple):
    """An answer with status 200.

    Attributes:
        head: its head.
        body: its body.
    """

    head: ReadyHead
    body: bytes


def render_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """A head's fields as they are sent; None if one of them has a line break."""
    lines = [b"%b: %b\r\n" % field for field in fields]
    rendered = b"".join(lines)
    return rendered if rendered.count(b"\n") == rendered.count(b"\r") == len(lines) else None


class WholeAnswer(Response):
    """An answer that is sent in one piece, if it is no longer than one, within a time limit.

    Args:
        answer: the answer; None for a client that has gone away.
        whole_s: seconds that the sending may take.
    """

    def __init__(self, answer: ReadyAnswer | Response | None, whole_s: float) -> None:
        self._answer: Final = answer
        self._whole_s: Final = whole_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        answer = self._answer
        if answer is None:
            return
        if isinstance(answer, ReadyAnswer):
            exchange: Exchange | None = scope.get(EXCHANGE)
            is_short = len(answer.body) <= _PART  # a client has to read what is longer in time
            if is_short and exchange is not None and exchange.write_ready(answer):
                return
            response = Response(answer.body)
            response.raw_headers[:0] = answer.head.fields
            answer = response
        try:
            await _send_whole(answer, send, self._whole_s)
        except TimeoutError:
            logger.info("a client of %s did not read its answer in time", scope["path"])
            await abort_connection(scope)


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T | None:
    """What `work` returns; None where it was cancelled because the client has gone away."""
    watch = _DisconnectWatch(receive)
    try:
        return await work
    except asyncio.CancelledError:
        if not watch.took_back_cancel():
            raise
        return None
    finally:
        watch.end()


class CancelOnDisconnect(Response):
    """Sends what a generator yields; cancels it when its client goes away or its time is over.

    Args:
        parts: yields a whole answer; or a head, then the parts of the body.
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
        is_sent = await unless_gone(receive, self._send(scope, receive, send))
        if is_sent is False:
            await abort_connection(scope)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether all of it was sent."""
        try:
            head = await anext(self._parts)
            if isinstance(head, ReadyHead):
                await self._send_parts(head, send)
            else:
                await WholeAnswer(head, self._whole_s)(scope, receive, send)
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

    async def _send_parts(self, head: ReadyHead, send: Send) -> None:
        headers = list(head.fields)
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
    body = bytes(answer.body)
    async with TimeLimit(timeout):
        await send(head)
        if len(body) <= _PART:
            await send({"type": "http.response.body", "body": body})
            return
        await _send_body(body, send)
        await send({"type": "http.response.body", "body": b""})


async def _send_body(content: bytes, send: Send) -> None:
    for start in range(0, len(content), _PART):
        part = content[start : start + _PART]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0)  # the loop's next turn tells that the client is gone


class _DisconnectWatch:
    """Cancels the present task when its client goes away, from `_WATCHED_AFTER_S` on.

    Until then nothing waits for the client: most answers are sent by then, and a task that waits
    costs as much as a fifth of a small query.
    """

    def __init__(self, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: Final = task
        self._receive: Final = receive
        self._is_gone = False
        self._waiting: asyncio.Task[None] | None = None
        self._timer: Final = call_later(_WATCHED_AFTER_S, self._begin)

    def _begin(self) -> None:
        self._waiting = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        self._task.cancel()

    def took_back_cancel(self) -> bool:
        """Whether the task was cancelled by this watch alone; it is no longer cancelled then."""
        return self._is_gone and self._task.uncancel() == 0

    def end(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        waiting, self._waiting = self._waiting, None  # that would be a cycle with its coroutine
        if waiting is not None:
            waiting.cancel()
