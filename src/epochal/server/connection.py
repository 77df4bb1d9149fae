"""One client's connection, within limits of number, time and size.

The problem: a connection costs its client nothing and the service a file descriptor. A few hundred
that send nothing, or a byte every minute, keep everybody else out, and the process cannot open its
own files either. And a request's head is kept in memory, however long it is.

The rules:

- There are fewer connections than the process may open files (`default_max_connections`). When all
  are taken, the one that has been idle longest is closed for the new one; if none is idle, the new
  one is answered 503 `busy`.
- A connection without a complete head after `HEAD_S` seconds is closed, with 408 if one has begun.
- A head of more than `HEAD_BYTES` is answered 431.
- A client that goes away is noticed also where it has sent further requests behind the one that is
  being answered: a few of them are read ahead.

`epochal.server.decoding` limits the time of a body, `epochal.server.responses` that of an answer.

An answer that is there as a whole is written in one piece (`write_whole`): uvicorn looks at each
header with two regular expressions and writes head and body apart, which costs a small query a
tenth, and hands the interpreter's lock over once more.

uvicorn has no such limits, so this class overrides the callbacks of its protocol and reads
attributes that are not its interface (hence the pin below its next major version): `connections`,
`cycle`, `pipeline`, `flow`, `parser`, `scope`, `server_state`. A comment at each use names the
attack that it stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from epochal.server.problem_details import problem
from epochal.server.responses import ABORT, CONNECTION, render_fields
from epochal.sql.coarse_timers import call_later

if TYPE_CHECKING:
    from asyncio import Transport

    from starlette.responses import Response
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from epochal.sql.coarse_timers import CoarseTimer

HEAD_S: Final = 10.0
HEAD_BYTES: Final = 64 << 10
_READ_AHEAD: Final = 8  # requests
_LINGER_S: Final = 2.0
_MAX_CONNECTIONS: Final = 10_000


class _RefusedHeadError(Exception):
    """A request that is answered here; `args` has the answer."""


class Connection(HttpToolsProtocol):
    """A connection with limits."""

    max_connections = _MAX_CONNECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.idle_since = self.loop.time()  # or since the last request was whole
        self._head_timer: CoarseTimer | None = None
        self._idle_timer: CoarseTimer | None = None
        self._awaits_head = True  # the last request is whole, the next one's head is not
        self._head_has_begun = False
        self._head_bytes = 0
        self._is_refused = False  # what comes is dropped
        self._answering: RequestResponseCycle | None = None
        self._head_of_upgrade: bytes | None = None  # to be parsed again without that

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered, nor waits for an answer."""
        return self._awaits_head and (self.cycle is None or self.cycle.response_complete)

    # --- its beginning and end -------------------------------------------------------------

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Accept a client; where there is no room, close the longest idle connection or refuse."""
        # Against very many connections: without the limit the process runs out of descriptors.
        is_full = len(self.connections) >= self.max_connections
        super().connection_made(transport)
        if is_full and not self._make_room():
            self._refuse(problem(503, "busy", "too many connections; ask again in a moment"))
            return
        self._expect_head()

    def _make_room(self) -> bool:
        others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
        idle = [connection for connection in others if connection.is_idle]
        longest = min(idle, key=lambda connection: connection.idle_since, default=None)
        if longest is None:
            return False
        longest.transport.abort()
        # Now, not in `connection_lost`, which the loop calls later: a burst of new connections
        # would count the closed ones, and each close another idle one.
        self.connections.discard(longest)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the request that is being answered, not only the last one that came."""
        self._cancel_head_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)
        # uvicorn notifies `cycle`, the newest request. Against a client that sends requests behind
        # a long query and leaves: the query in front would run on.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long."""
        # Against a client that never reads its last answer: a close would wait for the write buffer
        # to empty, and keep the connection for ever.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    # --- heads -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what cannot be a request.

        This replaces uvicorn's method, which answers a parser's error in plain text and closes with
        bytes unread.
        """
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        if self._awaits_head:
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            # The parser wraps what its callbacks raise.
            refusal = error.__context__
            if isinstance(refusal, _RefusedHeadError):
                self._refuse(refusal.args[0])
            else:
                self._refuse(problem(400, "request", "this is not an HTTP request"))
            return
        if self._awaits_head and (self._head_has_begun or self._head_bytes):
            # Only now: nearly every head comes whole, and needs no timer.
            self._expect_head()
            # Against a head without an end, which the parser keeps in memory.
            if self._head_bytes > HEAD_BYTES:
                self._refuse(_too_long())

    def _feed(self, data: bytes) -> None:
        """Parse what came, a request that asks for another protocol as one that does not.

        No other protocol is spoken here, so such a request is answered in this one (RFC 9110, 7.8);
        Java's own client asks with each first request. The parser takes its body for the other
        protocol. Against a client, behind a proxy, whose body would be read as a second request.
        """
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                if (head := self._head_of_upgrade) is not None:
                    self._head_of_upgrade = None
                    self.parser = httptools.HttpRequestParser(self)
                    # As uvicorn has it: what follows a last request is no error.
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                    self.parser.feed_data(head)
            else:
                return

    def on_message_begin(self) -> None:
        """A head begins, maybe behind a request that is not answered yet."""
        super().on_message_begin()
        self._head_has_begun = True

    def on_headers_complete(self) -> None:
        """A head is whole: answer it, in its turn."""
        self._cancel_head_timer()
        # Against a large head that comes whole, in one read.
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            raise _RefusedHeadError(_too_long())
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._head_of_upgrade = self._head_without_upgrade()
            return
        self._awaits_head = self._head_has_begun = False
        # Against a client that does not read: see `responses.abort_connection`.
        self.scope[ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]
        is_behind = self.cycle is not None and not self.cycle.response_complete
        super().on_headers_complete()
        if not is_behind:
            self._answering = self.cycle
        elif len(self.pipeline) < _READ_AHEAD:
            # uvicorn pauses reading while a request waits behind another, and a transport that does
            # not read does not see its end. Against a client that sends two requests and leaves:
            # the query in front would run on. Only a few, or the pipeline would fill the memory.
            self.flow.resume_reading()

    def _head_without_upgrade(self) -> bytes:
        fields = render_fields(field for field in self.headers if field[0] != b"upgrade")
        if fields is None:
            raise _RefusedHeadError(problem(400, "request", "a header has a line break"))
        version = self.parser.get_http_version().encode()
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        return line + fields + b"\r\n"

    def on_message_complete(self) -> None:
        """A request is whole; another one may follow."""
        if self._head_of_upgrade is not None:
            return
        super().on_message_complete()
        self._awaits_head = True
        self._head_bytes = 0
        self.idle_since = self.loop.time()

    def on_response_complete(self) -> None:
        """An answer is sent; the next request's turn."""
        self.idle_since = self.loop.time()
        # Before uvicorn's method, which takes that request out of the pipeline.
        self._answering = self.pipeline[-1][0] if self.pipeline else None
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        # uvicorn's method would set a timer for each answer, and cancel it with the next request.
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        if self._idle_timer is None:
            self._idle_timer = call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self._idle_timer = None
        if self.transport.is_closing():
            return
        is_idle = self.is_idle and not self._head_has_begun
        idle_s = self.loop.time() - self.idle_since if is_idle else 0.0
        if idle_s < self.timeout_keep_alive:
            left_s = self.timeout_keep_alive - idle_s
            self._idle_timer = call_later(left_s, self._look_whether_idle)
        else:
            self.timeout_keep_alive_handler()

    def take_body(self) -> bytes | None:
        """The whole body of the request whose turn it is; None if it has yet to come.

        Nearly every body comes with its head. Then nothing needs to wait for it, nor to limit the
        time of such a wait.
        """
        cycle = self._answering
        if cycle is None or cycle.more_body or cycle.disconnected or cycle.response_complete:
            return None
        self.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def write_whole(self, status: int, fields: bytes | None, body: bytes) -> bool:
        """Write the whole answer to the request whose turn it is, in one piece.

        Args:
            status: the status.
            fields: the head's fields but the length of the body, as `render_fields` makes them.
            body: the body.

        Returns:
            False if that is not possible now: then send it the usual way.
        """
        cycle = self._answering
        if (
            fields is None
            or cycle is None
            or cycle.response_started
            or cycle.disconnected
            or self.flow.write_paused
        ):
            return False
        head = [STATUS_LINE[status]]
        head += [b"%b: %b\r\n" % field for field in cycle.default_headers]
        if not cycle.keep_alive:
            head.append(b"connection: close\r\n")
        head += [fields, b"content-length: %d\r\n\r\n" % len(body), body]
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join(head))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    # Against a head that comes a byte at a time, or never: one timer for the whole head, which
    # further bytes do not restart.

    def _expect_head(self) -> None:
        if self._head_timer is None and self._awaits_head:
            self._head_timer = call_later(HEAD_S, self._head_is_late)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if not self.is_idle:
            self._expect_head()  # a refusal now would break into the answer that is under way
        elif self._head_has_begun:
            self._refuse(problem(408, "late", f"no whole request within {HEAD_S:.0f} s"))
        else:
            self.transport.close()

    def _refuse(self, answer: Response) -> None:
        """Answer without the application, and close; behind an answer under way only close.

        A connection that is closed with bytes unread is reset, and the reset overtakes the answer:
        so what still comes is dropped for a while (see `epochal.server.responses`).
        """
        self._cancel_head_timer()
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        self.transport.write(_serialize(answer))
        self.transport.write_eof()
        # Against a client that goes on sending.
        self.loop.call_later(_LINGER_S, self.transport.abort)


def default_max_connections() -> int:
    """Half of the files that the process may open: plugins and tables need the others."""
    try:
        import resource  # inside: some systems have none
    except ImportError:  # pragma: no cover
        return _MAX_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(8, min(_MAX_CONNECTIONS, soft // 2))


def _too_long() -> Response:
    return problem(431, "head-too-large", f"more than {HEAD_BYTES:,} bytes of headers")


def _serialize(answer: Response) -> bytes:
    head = [f"HTTP/1.1 {answer.status_code} ".encode()]
    head += [b"%s: %s" % header for header in answer.raw_headers]
    return b"\r\n".join([*head, b"connection: close", b"", bytes(answer.body)])
