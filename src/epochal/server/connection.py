"""One client's connection, which may be anybody's: how many, how long, how large.

The problem: a connection costs its client nothing and us a file descriptor. A few hundred that say
nothing, or a byte every minute, and nobody is let in any more; the process cannot open its own
files either. And a request's head is kept in memory, however long it is.

The rules:

- There are fewer connections than the process may open files (`most_connections`). When all are
  taken, the one that has been idle longest makes room for who comes; if none is idle, who comes is
  answered 503 `busy`.
- A connection without a complete head after `HEAD_S` seconds is closed, with 408 if one has begun.
- A head of more than `HEAD_BYTES` is answered 431.
- A client that goes away is noticed also where it has sent further requests behind the one that is
  answered: a few of them are read ahead.

How long a body may take is `epochal.server.request_bodies`' to say, and how long an answer may,
`epochal.server.responses`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from epochal.server.problem_details import problem
from epochal.server.responses import ABORT

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport

    from starlette.responses import Response
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

HEAD_S: Final = 10.0
HEAD_BYTES: Final = 64 << 10
_AHEAD: Final = 8
_LINGER_S: Final = 2.0
_MOST: Final = 10_000


class _RefusedError(Exception):
    """A request that is answered here; `args` has the answer."""


class Connection(HttpToolsProtocol):
    """A connection with limits."""

    most = _MOST

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since = self.loop.time()  # it is idle, or its head has begun
        self._late: TimerHandle | None = None
        self._is_between = True  # the last request is whole, the next one's head is not
        self._has_begun = False  # that head
        self._head = 0
        self._is_over = False  # what comes is not read any more
        self._answered: RequestResponseCycle | None = None  # the request that is being answered

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to answer, and nothing to answer yet."""
        return self._is_between and (self.cycle is None or self.cycle.response_complete)

    # --- its beginning and end -------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Somebody came; if there is no room, somebody goes."""
        is_full = len(self.connections) >= self.most
        super().connection_made(transport)
        if is_full and not self._make_room():
            self._refuse(problem(503, "busy", "too many connections; ask again in a moment"))
            return
        self._expect_head()

    def _make_room(self) -> bool:
        idle = [one for one in self.connections if isinstance(one, Connection) and one.is_idle]
        longest = min((one for one in idle if one is not self), key=_since, default=None)
        if longest is None:
            return False
        longest.transport.abort()
        # It is told of it later, and is none of those that count any more.
        self.connections.discard(longest)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered, not only the last one that came."""
        self._expect_none()
        super().connection_lost(exc)
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()

    def timeout_keep_alive_handler(self) -> None:
        """Close what has been idle for long, also if its client never read the last answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    # --- heads -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read on; what cannot be a request is answered and closed."""
        if self._is_over:
            return
        self._unset_keepalive_if_required()
        if self._is_between:
            self._head += len(data)
            self._expect_head()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # to nothing that is spoken here; it is answered as if it had not asked
        except httptools.HttpParserError as error:
            refused = error.__context__
            if isinstance(refused, _RefusedError):
                self._refuse(refused.args[0])
            else:
                self._refuse(problem(400, "request", "this is no HTTP request"))
            return
        if self._is_between and self._head > HEAD_BYTES:
            self._refuse(_too_long())

    def on_message_begin(self) -> None:
        """A head begins, maybe behind a request that is not answered yet."""
        super().on_message_begin()
        self._has_begun = True
        self._expect_head()

    def on_headers_complete(self) -> None:
        """A head is whole: answer it, in its turn."""
        self._expect_none()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            raise _RefusedError(_too_long())
        self._is_between = self._has_begun = False
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        is_behind = self.cycle is not None and not self.cycle.response_complete
        super().on_headers_complete()
        if not is_behind:
            self._answered = self.cycle
        elif len(self.pipeline) < _AHEAD:
            self.flow.resume_reading()  # or the end of the connection would not be seen

    def on_message_complete(self) -> None:
        """A request is whole; another one may follow."""
        super().on_message_complete()
        self._is_between = True
        self._head = 0
        self._since = self.loop.time()

    def on_response_complete(self) -> None:
        """An answer is sent; the next request's turn."""
        self._since = self.loop.time()
        self._answered = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def _expect_head(self) -> None:
        if self._late is None and self._is_between:
            self._late = self.loop.call_later(HEAD_S, self._head_is_late)

    def _expect_none(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._late = None
        if self.transport.is_closing():
            return
        if not self.is_idle:
            self._expect_head()  # an answer is under way, which it would break
        elif self._has_begun:
            self._refuse(problem(408, "late", f"no whole request within {HEAD_S:.0f} s"))
        else:
            self.transport.close()

    def _refuse(self, answer: Response) -> None:
        """Answer without the application, and close; behind an answer under way only close.

        Closed with bytes unread a connection is reset, and the reset overtakes the answer: so what
        still comes is dropped for a while (see `epochal.server.unread_bodies`).
        """
        self._expect_none()
        self._is_over = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        self.transport.write(_written(answer))
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.abort)


def most_connections() -> int:
    """As many as half of the files that the process may open: it has others to open."""
    try:
        import resource  # inside: some systems have none
    except ImportError:  # pragma: no cover
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(8, min(_MOST, soft // 2))


def _since(connection: Connection) -> float:
    return connection._since  # noqa: SLF001  one of its own kind


def _too_long() -> Response:
    return problem(431, "head-too-large", f"more than {HEAD_BYTES:,} bytes of headers")


def _written(answer: Response) -> bytes:
    head = [f"HTTP/1.1 {answer.status_code} ".encode()]
    head += [b"%s: %s" % header for header in answer.raw_headers]
    return b"\r\n".join([*head, b"connection: close", b"", bytes(answer.body)])
